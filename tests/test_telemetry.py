"""telemetry: the loop's numbers, slow callbacks, statistics, delay."""

import asyncio
import dataclasses
import functools
import random
import socket
import sys
import threading
import time

import pytest
from support import (
    BufferedRecorder,
    Echo,
    Recorder,
    busy,
    connected,
    connected_tls,
    new_loop,
    once,
    turns,
    until,
)

import asyncfast
from asyncfast.telemetry import delay


@pytest.fixture
def loop_name():
    return "asyncfast"


def difference(loop, call, *args):
    before = asyncfast.metrics(loop)
    call(*args)
    return asyncfast.metrics(loop) - before


# -- Which loop --------------------------------------------------------------------

TAKE_A_LOOP = [
    asyncfast.metrics,
    asyncfast.enable_timing,
    asyncfast.disable_timing,
    asyncfast.callback_stats,
    asyncfast.enable_callback_stats,
    asyncfast.disable_callback_stats,
    functools.partial(asyncfast.on_slow_callback, 1, None),
    functools.partial(asyncfast.watchdog, 1, None),
    functools.partial(asyncfast.monitor_delay, 1),
    functools.partial(asyncfast.dump_tasks, None),
]


@pytest.mark.parametrize("function", TAKE_A_LOOP)
def test_no_loop(function):
    with pytest.raises(RuntimeError, match="no running event loop"):
        function()


@pytest.mark.parametrize("function", TAKE_A_LOOP[:-2])
def test_a_loop_of_another_make(function):
    other = new_loop("asyncio")
    with pytest.raises(TypeError, match="an asyncfast loop is needed, got <_Unix"):
        function(other)
    other.close()


def test_the_running_loop_is_meant(run):
    async def main():
        return asyncfast.metrics(), asyncfast.metrics(asyncio.get_running_loop())

    first, second = run(main())
    assert first.callbacks == second.callbacks


# -- Metrics -----------------------------------------------------------------------


def test_turns_and_callbacks(loop):
    once(loop)

    def ten():
        for _ in range(10):
            loop.call_soon(int)
        once(loop)
        once(loop)

    delta = difference(loop, ten)
    assert (delta.iterations, delta.callbacks) == (2, 10)
    assert delta.polls == 2 and delta.polls_skipped == 0


def test_callbacks_are_counted_up_to_one_that_ends_the_loop(loop):
    def leave():
        raise KeyboardInterrupt

    for callback in (int, leave, int):
        loop.call_soon(callback)
    before = asyncfast.metrics(loop)
    with pytest.raises(KeyboardInterrupt):
        once(loop)
    assert (asyncfast.metrics(loop) - before).callbacks == 2
    once(loop)
    assert (asyncfast.metrics(loop) - before).callbacks == 3


async def test_polls_of_a_busy_loop_are_skipped(loop):
    before = asyncfast.metrics()
    await turns(2000)
    delta = asyncfast.metrics() - before
    assert delta.polls_skipped > 0
    assert delta.polls + delta.polls_skipped == delta.iterations


def test_gauges(loop, pair):
    def gauges():
        numbers = asyncfast.metrics(loop)
        return numbers.ready, numbers.timers, numbers.descriptors

    once(loop)
    ready, timers, descriptors = gauges()
    loop.add_reader(pair[0], int)
    loop.add_writer(pair[0], int)
    timer = loop.call_later(1000, int)
    loop.call_soon(int)
    assert gauges() == (ready + 1, timers + 1, descriptors + 1)
    loop.remove_reader(pair[0])
    loop.remove_writer(pair[0])
    timer.cancel()
    once(loop)
    assert gauges() == (ready, timers, descriptors)


async def test_the_descriptors_of_transports(loop):
    before = asyncfast.metrics().descriptors
    async with connected(loop):
        assert asyncfast.metrics().descriptors == before + 1
    await turns(3)
    assert asyncfast.metrics().descriptors == before


def test_a_difference_has_the_gauges_of_the_later(loop):
    timer = loop.call_later(1000, int)
    earlier = asyncfast.metrics(loop)
    loop.call_later(1000, int)
    later = asyncfast.metrics(loop)
    assert (later - earlier).timers == later.timers == 2
    assert later - earlier == later - earlier
    assert (later - earlier).time_ns == later.time_ns - earlier.time_ns > 0
    timer.cancel()
    with pytest.raises(TypeError):
        later - 1


def test_metrics_do_not_change(loop):
    numbers = asyncfast.metrics(loop)
    with pytest.raises(dataclasses.FrozenInstanceError):
        numbers.callbacks = 0


def test_metrics_of_a_closed_loop(new, pair):
    loop = new()
    loop.add_reader(pair[0], int)
    loop.call_later(1, int)
    once(loop)
    before = asyncfast.metrics(loop)
    loop.close()
    after = asyncfast.metrics(loop)
    assert after.iterations == before.iterations
    assert (after.ready, after.timers, after.descriptors) == (0, 0, 0)


# Bytes


def traffic(delta):
    return (delta.reads, delta.bytes_received, delta.writes, delta.bytes_sent)


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
async def test_what_a_stream_moves(loop, kind):
    async with connected(loop, kind) as (transport, protocol, peer):
        before = asyncfast.metrics()
        peer.send(b"hello")
        await protocol.received(5)
        transport.write(b"seven..")
        transport.writelines([b"a", b"bc"])
        assert traffic(asyncfast.metrics() - before) == (1, 5, 2, 10)


async def test_what_waits_to_be_sent_is_not_counted(loop):
    size = 1 << 22
    async with connected(loop) as (transport, _, peer):
        before = asyncfast.metrics()
        transport.write(bytes(size))
        sent = asyncfast.metrics() - before
        assert sent.bytes_sent == size - transport.get_write_buffer_size() < size
        left = size
        while left:
            left -= len(await loop.sock_recv(peer, 1 << 20))
        delta = asyncfast.metrics() - before
        assert delta.bytes_sent == delta.bytes_received == size


async def test_much_is_read_into_large_buffers(loop):
    data = bytes(1 << 20)
    async with connected(loop) as (_, protocol, peer):
        before = asyncfast.metrics()
        await loop.sock_sendall(peer, data)
        await protocol.received(len(data))
        delta = asyncfast.metrics() - before
        assert delta.bytes_sent == delta.bytes_received == len(data)


async def test_what_sock_methods_move(loop, pair):
    left, right = pair
    before = asyncfast.metrics()
    await loop.sock_sendall(left, b"12345")
    assert await loop.sock_recv(right, 3) == b"123"
    assert await loop.sock_recv_into(right, bytearray(8)) == 2
    assert traffic(asyncfast.metrics() - before) == (2, 5, 1, 5)


async def test_what_sock_methods_move_as_datagrams(loop):
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        before = asyncfast.metrics()
        for _ in range(2):
            await loop.sock_sendto(sock, b"1234", sock.getsockname())
        await loop.sock_recvfrom(sock, 100)
        await loop.sock_recvfrom_into(sock, bytearray(100))
        assert traffic(asyncfast.metrics() - before) == (2, 8, 2, 8)


async def test_what_a_datagram_transport_moves(loop):
    came = []

    class Receiver(asyncio.DatagramProtocol):
        def datagram_received(self, data, address):
            came.append(data)

    transport, _ = await loop.create_datagram_endpoint(
        Receiver, local_addr=("127.0.0.1", 0)
    )
    before = asyncfast.metrics()
    for _ in range(40):
        transport.sendto(b"datagram", transport.get_extra_info("sockname"))
    await until(lambda: len(came) == 40)
    delta = asyncfast.metrics() - before
    assert (delta.writes, delta.bytes_sent, delta.bytes_received) == (40, 320, 320)
    assert 0 < delta.reads <= 40
    transport.close()


async def test_tls_counts_what_is_on_the_wire(loop, served, asked):
    async with connected_tls(loop, served, asked, Echo) as (transport, protocol, _):
        before = asyncfast.metrics()
        transport.write(bytes(1000))
        await protocol.received(1000)
        delta = asyncfast.metrics() - before
        assert 2000 < delta.bytes_sent < 2200
        assert delta.bytes_received == delta.bytes_sent


# Threads and time


def in_thread(call):
    thread = threading.Thread(target=call)
    thread.start()
    return thread


def when_asleep(loop, call):
    """Call it in a thread, once the loop sleeps."""

    def wait():
        while loop._heartbeat() is not None:
            time.sleep(0.001)
        call()

    return in_thread(wait)


async def test_wakeups(loop):
    woken = loop.create_future()
    before = asyncfast.metrics()
    thread = when_asleep(
        loop, lambda: loop.call_soon_threadsafe(woken.set_result, None)
    )
    await woken
    loop.call_soon_threadsafe(int)  # it doesn't sleep
    assert (asyncfast.metrics() - before).wakeups == 1
    thread.join()


def test_no_time_is_taken_before_it_is_enabled(loop):
    loop.run_until_complete(asyncio.sleep(0.01))
    numbers = asyncfast.metrics(loop)
    assert numbers.busy == numbers.idle == numbers.gil_wait == numbers.utilization == 0


async def test_busy_and_idle(loop):
    asyncfast.enable_timing()
    before = asyncfast.metrics()
    await asyncio.sleep(0.05)
    busy(0.05)
    delta = asyncfast.metrics() - before
    assert delta.busy >= 0.05 and delta.idle >= 0.045
    assert delta.busy_ns + delta.idle_ns == delta.time_ns
    share = delta.busy_ns / (delta.busy_ns + delta.idle_ns)
    assert delta.utilization == share
    assert (delta.busy, delta.idle) == (delta.busy_ns / 1e9, delta.idle_ns / 1e9)


def test_time_between_runs_does_not_count(loop):
    asyncfast.enable_timing(loop)
    once(loop)
    before = asyncfast.metrics(loop)
    time.sleep(0.2)
    once(loop)
    delta = asyncfast.metrics(loop) - before
    assert 0 < delta.busy + delta.idle < 0.2


async def test_times_stay_when_timing_ends(loop):
    asyncfast.enable_timing()
    busy(0.01)
    asyncfast.disable_timing()
    before = asyncfast.metrics()
    assert before.busy >= 0.01
    busy(0.01)
    await asyncio.sleep(0.01)
    delta = asyncfast.metrics() - before
    assert (delta.busy, delta.idle) == (0, 0)
    asyncfast.enable_timing()
    busy(0.01)
    assert (asyncfast.metrics() - before).busy >= 0.01


async def test_a_wait_that_is_under_way_counts(loop):
    asyncfast.enable_timing()
    await turns()
    idle = []
    woken = loop.create_future()

    def look():
        for _ in range(2):
            idle.append(asyncfast.metrics(loop).idle)
            time.sleep(0.02)
        loop.call_soon_threadsafe(woken.set_result, None)

    thread = when_asleep(loop, look)
    await woken
    assert idle[1] - idle[0] >= 0.02
    assert asyncfast.metrics().idle - idle[1] >= 0.02
    thread.join()


async def test_enabled_by_another_thread_during_a_wait(loop):
    woken = loop.create_future()

    def enable():
        asyncfast.enable_timing(loop)
        time.sleep(0.05)
        loop.call_soon_threadsafe(woken.set_result, None)

    thread = when_asleep(loop, enable)
    await woken
    assert asyncfast.metrics().idle >= 0.04
    thread.join()


async def test_waiting_for_the_gil_is_told(loop):
    asyncfast.enable_timing()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.2)
    try:
        # Written to by a thread that goes on without giving up the GIL.
        woken = loop.create_future()

        def hog():
            loop.call_soon_threadsafe(woken.set_result, None)
            busy(0.2)

        thread = when_asleep(loop, hog)
        await woken
    finally:
        sys.setswitchinterval(interval)
    numbers = asyncfast.metrics()
    assert 0.01 <= numbers.gil_wait <= numbers.busy
    thread.join()


# -- Delay -------------------------------------------------------------------------


async def test_the_delay_of_a_blocked_loop(loop):
    with asyncfast.monitor_delay(0.005) as monitor:
        await asyncio.sleep(0.02)
        busy(0.1)
        await asyncio.sleep(0.02)
    assert 0.09 <= monitor.max < 1
    assert monitor.min <= monitor.mean <= monitor.max
    # All that came due meanwhile: 20 of them, each a little less late.
    assert monitor.count >= 20
    assert monitor.percentile(50) <= monitor.percentile(90) <= monitor.max
    assert monitor.percentile(90) >= 0.05
    assert 0 < monitor.stddev < monitor.max
    assert monitor.percentile_ns(100) == monitor.max_ns == round(monitor.max * 1e9)


async def test_a_monitor_goes_on_and_begins_anew(loop):
    monitor = asyncfast.monitor_delay(0.001)
    assert not monitor.enabled and monitor.resolution == 0.001
    assert monitor.enable() and not monitor.enable() and monitor.enabled
    await until(lambda: monitor.count >= 3)
    assert monitor.disable() and not monitor.disable()
    count = monitor.count
    await asyncio.sleep(0.01)
    assert monitor.count == count
    monitor.enable()
    await until(lambda: monitor.count > count)
    monitor.reset()
    assert (monitor.count, monitor.max, monitor.mean, monitor.stddev) == (0, 0, 0, 0)
    assert monitor.percentile(99) == 0 and monitor.percentiles == {0: 0, 100: 0}
    await until(lambda: monitor.count > 0)
    monitor.disable()
    assert "disabled count=" in repr(monitor)


def test_a_loop_that_does_not_run_is_not_late(loop):
    monitor = asyncfast.monitor_delay(0.005, loop)
    with monitor:
        once(loop)
        time.sleep(0.3)
        loop.run_until_complete(asyncio.sleep(0.02))
    assert monitor.max < 0.25


async def test_a_monitor_of_another_thread(loop):
    monitor = asyncfast.monitor_delay(0.01)
    with pytest.raises(RuntimeError, match="from its own thread"):
        await asyncio.to_thread(monitor.enable)


def test_a_monitor_of_asyncios_loop():
    loop = new_loop("asyncio")
    monitor = asyncfast.monitor_delay(0.001, loop)
    with monitor:
        loop.run_until_complete(until(lambda: monitor.count >= 3))
    loop.close()


@pytest.mark.parametrize("percent", [0, -1, 101, float("nan")])
def test_bad_percents(loop, percent):
    with pytest.raises(ValueError, match="above 0 and at most 100"):
        asyncfast.monitor_delay(1, loop).percentile(percent)


def test_a_histogram_is_exact_to_one_percent():
    chance = random.Random(1)
    values = sorted(int(chance.lognormvariate(12, 3)) for _ in range(10000))
    histogram = delay.Histogram()
    for value in values:
        histogram.add(value)
    assert (histogram.shortest, histogram.longest) == (values[0], values[-1])
    for percent in (1, 10, 50, 90, 99, 99.9, 100):
        exact = values[max(int(len(values) * percent / 100) - 1, 0)]
        assert exact <= histogram.percentile(percent) <= exact * 1.01 + 1
    found = histogram.percentiles()
    assert list(found) == sorted(found) and found[100] == values[-1]


def test_a_histogram_is_bounded():
    histogram = delay.Histogram()
    value = 1
    while value < delay.LONGEST * 2:
        histogram.add(value, 7)
        value = value * 513 // 512 + 1
    assert len(histogram.buckets) < 4700
    assert histogram.exceeds > 0 and histogram.longest <= delay.LONGEST


def test_a_long_block_is_recorded_in_bounded_time(loop):
    monitor = asyncfast.monitor_delay(0.001, loop)
    monitor._record(1000, 1_000_000)
    assert monitor.count == 1_000_000
    assert monitor.percentile(50) == pytest.approx(500, rel=0.02)


def test_a_monitor_of_a_closed_loop(new):
    loop = new()
    monitor = asyncfast.monitor_delay(0.001, loop)
    monitor.enable()
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        monitor.disable()
        monitor.enable()
