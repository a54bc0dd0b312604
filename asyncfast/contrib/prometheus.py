"""A collector for prometheus_client::

REGISTRY.register(asyncfast.contrib.prometheus.LoopCollector())
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from ..telemetry import DelayMonitor
from ._numbers import COUNTS, DELAY, PERCENTILES, STATES, TIME, Source

__all__ = ["LoopCollector"]

PREFIX = "asyncio_eventloop_"
UNITS = {"By": "_bytes", "s": "_seconds"}


class LoopCollector:
    """The numbers of *loop*, by default the running one, as Prometheus metrics.

    Each has the name ``asyncio_eventloop_...`` and *labels*. With *delay*, an
    enabled :class:`asyncfast.DelayMonitor`, the percentiles of the delay since
    the scrape before are among them; each scrape resets it. It enables timing,
    doesn't keep the loop alive, and collects nothing of a loop that is gone.

    Raises RuntimeError without a loop, TypeError if it is not asyncfast's or
    *delay* isn't a DelayMonitor.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        delay: DelayMonitor | None = None,
    ) -> None:
        self._source = Source(loop, delay)
        self._names = list(labels or {})
        self._values = list((labels or {}).values())

    def describe(self) -> list[Any]:
        """Nothing, so that registering it doesn't scrape it."""
        return []

    def collect(self) -> Iterator[Any]:
        """Called by prometheus_client with each scrape, in any thread."""
        numbers = self._source.metrics()
        if numbers is None:
            return
        for field, name, unit, text in COUNTS:
            yield self._one("counter", name, unit, text, getattr(numbers, field))
        for field, name, unit, text in STATES:
            yield self._one("gauge", name, unit, text, getattr(numbers, field))
        time = self._family("counter", "time", "s", TIME, "state")
        for state in ("busy", "idle"):
            time.add_metric([*self._values, state], getattr(numbers, state))
        yield time
        if self._source.delay is not None:
            yield self._delay(self._source.delay)

    def _delay(self, delay):
        family = self._family("gauge", "delay", "s", DELAY, "quantile")
        for percent in PERCENTILES:
            values = [*self._values, str(percent / 100)]
            family.add_metric(values, delay.percentile(percent))
        family.add_metric([*self._values, "1"], delay.max)
        delay.reset()
        return family

    def _one(self, kind, name, unit, text, value):
        family = self._family(kind, name, unit, text)
        family.add_metric(self._values, value)
        return family

    def _family(self, kind, name, unit, text, *labels):
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        make = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
        full = PREFIX + name + UNITS.get(unit, "")
        return make(full, text, labels=[*self._names, *labels])
