"""contrib: the loop's numbers in Prometheus and OpenTelemetry."""

import asyncio
import gc

import pytest
from support import new_loop, until, use

import asyncfast
from asyncfast.contrib import opentelemetry, prometheus


@pytest.fixture
def loop_name():
    return "asyncfast"


async def work(delay):
    """Be late, and busy."""
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, int)
    end = loop.time() + 0.03
    while loop.time() < end:
        pass
    await until(lambda: delay.count > 0)


@pytest.fixture
def delay(loop):
    monitor = asyncfast.monitor_delay(0.005, loop)
    with monitor:
        yield monitor


def test_prometheus(loop, delay):
    client = use("prometheus_client")
    registry = client.CollectorRegistry()
    labels = {"loop": "main"}
    registry.register(prometheus.LoopCollector(loop, labels=labels, delay=delay))
    loop.run_until_complete(work(delay))

    def sample(name, **more):
        return registry.get_sample_value(
            f"asyncio_eventloop_{name}", {**labels, **more}
        )

    longest = delay.max
    assert sample("delay_seconds", quantile="1") == longest >= 0.01
    assert sample("delay_seconds", quantile="1") == 0
    numbers = asyncfast.metrics(loop)
    assert sample("callbacks_total") == numbers.callbacks > 0
    assert sample("iterations_total") == numbers.iterations
    assert sample("received_bytes_total") == numbers.bytes_received
    assert sample("descriptors") == numbers.descriptors
    assert sample("time_seconds_total", state="busy") == numbers.busy >= 0.03
    assert sample("time_seconds_total", state="idle") == numbers.idle
    text = client.generate_latest(registry).decode()
    assert "# TYPE asyncio_eventloop_callbacks_total counter\n" in text


def test_prometheus_of_a_loop_that_is_gone(new):
    use("prometheus_client")
    loop = new()
    collector = prometheus.LoopCollector(loop)
    assert list(collector.collect())
    loop.close()
    assert list(collector.collect())
    del loop
    gc.collect()
    assert not list(collector.collect())


def exported(reader):
    """{name: [(attributes, value)]} of one export."""
    data = reader.get_metrics_data()
    return {
        metric.name: [(dict(p.attributes), p.value) for p in metric.data.data_points]
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


@pytest.fixture
def reader():
    sdk = use("opentelemetry.sdk.metrics")
    export = use("opentelemetry.sdk.metrics.export")
    reader = export.InMemoryMetricReader()
    provider = sdk.MeterProvider([reader])
    reader.provider = provider
    yield reader
    provider.shutdown()


def test_opentelemetry(loop, delay, reader):
    opentelemetry.instrument(
        loop,
        meter_provider=reader.provider,
        attributes={"loop": "main"},
        delay=delay,
    )
    loop.run_until_complete(work(delay))
    longest = delay.max
    found = exported(reader)
    numbers = asyncfast.metrics(loop)
    main = {"loop": "main"}

    def value(name):
        [(attributes, value)] = found[f"asyncio.eventloop.{name}"]
        assert attributes == main
        return value

    assert value("callbacks") == numbers.callbacks > 0
    assert value("received") == numbers.bytes_received
    assert value("descriptors") == numbers.descriptors
    assert 0 < value("utilization") <= 1
    assert value("delay.max") == longest >= value("delay.p99") >= value("delay.p50")
    assert found["asyncio.eventloop.time"] == [
        ({**main, "state": "busy"}, numbers.busy),
        ({**main, "state": "idle"}, numbers.idle),
    ]
    again = exported(reader)
    assert again["asyncio.eventloop.delay.max"] == [(main, 0)]
    assert again["asyncio.eventloop.utilization"] == [(main, 0)]


def test_opentelemetry_of_a_loop_that_is_gone(new, reader):
    loop = new()
    opentelemetry.instrument(loop, meter_provider=reader.provider)
    assert exported(reader)["asyncio.eventloop.callbacks"]
    loop.close()
    del loop
    gc.collect()
    assert reader.get_metrics_data() is None


@pytest.mark.parametrize(
    "make", [prometheus.LoopCollector, opentelemetry.instrument], ids=["prom", "otel"]
)
def test_bad_arguments(make, loop):
    use("opentelemetry")
    with pytest.raises(RuntimeError, match="no running event loop"):
        make()
    other = new_loop("asyncio")
    with pytest.raises(TypeError, match="an asyncfast loop is needed"):
        make(other)
    other.close()
    with pytest.raises(TypeError, match="a DelayMonitor is needed, got 1"):
        make(loop, delay=1)
