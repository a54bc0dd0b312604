"""core/timers.c: call_later and call_at, their order, their clock, their cancelling."""

import asyncio
import fractions
import gc
import math
import random
import threading
import time
import weakref

import pytest
from support import PY, like_asyncio, normalise, once


class Thing:
    """Something a weak reference can watch."""

    def method(self):
        pass


def run_for(loop, seconds):
    """Run the loop for a while; the end is itself a timer."""
    loop.call_later(seconds, loop.stop)
    loop.run_forever()


# -- Order and time ----------------------------------------------------------------


def test_timers_fire_in_the_order_of_their_deadlines(loop):
    order = []
    numbers = list(range(1, 500))
    random.Random(1).shuffle(numbers)
    now = loop.time()
    for number in numbers:
        loop.call_at(now + number / 50_000, order.append, number)
    run_for(loop, 0.05)
    assert order == sorted(numbers)


def test_due_timers_fire_in_order_in_one_iteration(loop):
    order = []
    now = loop.time()
    for number in (3, 1, 2):
        loop.call_at(now - 10 + number, order.append, number)
    once(loop)
    assert order == [1, 2, 3]


def test_timers_of_one_deadline_all_fire_in_one_iteration(loop):
    ran = []
    when = loop.time() - 1
    for number in range(100):
        loop.call_at(when, ran.append, number)
    once(loop)
    assert sorted(ran) == list(range(100))


def test_call_later_and_call_at_mean_the_same_clock(loop):
    now = loop.time()
    later = loop.call_later(10, print)
    at = loop.call_at(now + 10, print)
    assert at.when() == now + 10
    assert 0 <= later.when() - at.when() < 1
    later.cancel()
    at.cancel()


def test_a_timer_is_never_early(loop):
    """By the loop's clock, but for the clock's own resolution."""
    early = []

    def check(when):
        if loop.time() < when - time.get_clock_info("monotonic").resolution:
            early.append(when - loop.time())

    now = loop.time()
    for number in range(200):
        when = now + number * 0.000_31
        loop.call_at(when, check, when)
    run_for(loop, 0.08)
    assert early == []


def test_sleep_is_never_early(loop, run):
    async def main():
        for delay in (0.0001, 0.0011, 0.0029, 0.0101):
            begin = time.monotonic()
            await asyncio.sleep(delay)
            assert time.monotonic() - begin >= delay

    run(main())


def test_the_loop_sleeps_while_it_waits(loop):
    """Waiting must not be spinning."""
    begin, cpu = time.monotonic(), time.thread_time()
    run_for(loop, 0.3)
    assert time.monotonic() - begin >= 0.3
    assert time.thread_time() - cpu < 0.15


def test_a_nearer_timer_is_seen_while_a_far_one_waits(loop):
    loop.call_later(1000, print)
    begin = time.monotonic()
    run_for(loop, 0.01)
    assert time.monotonic() - begin < 5


def test_a_timer_set_by_a_timer_waits_for_the_next_iteration(loop):
    order = []

    def first():
        order.append("first")
        loop.call_at(0, order.append, "second")

    loop.call_at(0, first)
    once(loop)
    assert order == ["first"]
    once(loop)
    assert order == ["first", "second"]


def test_a_timer_set_by_a_queued_callback_waits_for_the_next_iteration(loop):
    order = []
    loop.call_soon(lambda: loop.call_at(0, order.append, "timer"))
    once(loop)
    assert order == []
    once(loop)
    assert order == ["timer"]


def test_a_timer_from_a_reader(loop, pair):
    def readable():
        pair[0].recv(10)
        loop.call_later(0.001, loop.stop)

    loop.add_reader(pair[0], readable)
    pair[1].send(b"x")
    loop.run_forever()
    loop.remove_reader(pair[0])


def test_timers_outlive_a_run(loop):
    ran = []
    loop.call_later(0.005, ran.append, 1)
    once(loop)
    assert ran == []
    run_for(loop, 0.01)
    assert ran == [1]


# -- What delays may be ------------------------------------------------------------


@pytest.mark.parametrize("delay", [0, -1, -0.0, -1e300, -math.inf, 0.0, False])
def test_what_is_due_already_fires_in_the_next_iteration(loop, delay):
    ran = []
    handle = loop.call_later(delay, ran.append, 1)
    assert isinstance(handle, asyncio.TimerHandle)
    assert handle.when() <= loop.time()
    assert ran == []
    once(loop)
    assert ran == [1]


@pytest.mark.parametrize("delay", [1e6, 1e10, 1e19, 1e100, 1e308, math.inf, 2**70])
def test_a_far_deadline_is_far(loop, delay):
    """Milliseconds in 64 bits overflow; seconds in a float do not."""
    ran = []
    handle = loop.call_later(delay, ran.append, 1)
    assert handle.when() >= delay
    run_for(loop, 0.005)
    assert ran == []
    handle.cancel()


def test_nan_neither_fires_nor_stops_the_others(loop):
    ran = []
    handle = loop.call_later(math.nan, print)
    assert math.isnan(handle.when())
    handle.cancel()
    loop.call_later(0.001, ran.append, 1)
    run_for(loop, 0.01)
    assert ran == [1]


def test_nan_is_accepted_by_call_at(loop):
    ran = []
    handle = loop.call_at(math.nan, ran.append, 1)
    for delay in (0.001, 0.002, 0.003):
        loop.call_later(delay, ran.append, delay)
    handle.cancel()
    run_for(loop, 0.01)
    assert ran == [0.001, 0.002, 0.003]


class Number:
    """Adds and compares like a float, and is none."""

    def __init__(self, value):
        self.value = value

    def __radd__(self, other):
        return other + self.value


def test_a_delay_that_only_adds(loop):
    """asyncio computes time() + delay, whatever delay is."""
    ran = []
    loop.call_later(Number(0.001), ran.append, 1)
    run_for(loop, 0.01)
    assert ran == [1]


@pytest.mark.parametrize("value", [None, "1", b"1", [], object()])
def test_a_delay_that_is_no_number_is_refused(loop, value):
    with pytest.raises(TypeError):
        loop.call_later(value, print)
    assert len(loop._scheduled) == 0


@pytest.mark.parametrize("value", [None, "1", b"1", [], object()])
def test_a_deadline_that_is_no_number_is_refused(loop, loop_name, value):
    if loop_name == "asyncio":
        pytest.skip("asyncio takes it, and its loop fails when it looks at its timers")
    with pytest.raises(TypeError):
        loop.call_at(value, print)
    assert len(loop._scheduled) == 0


def test_none_is_refused_in_asyncios_words(loop):
    like_asyncio(loop, lambda loop: loop.call_later(None, print))
    if PY >= (3, 11):
        like_asyncio(loop, lambda loop: loop.call_at(None, print))


# -- Cancelling --------------------------------------------------------------------


def test_a_cancelled_timer_does_not_fire(loop):
    ran = []
    loop.call_later(0.001, ran.append, "cancelled").cancel()
    loop.call_later(0.002, ran.append, "kept")
    run_for(loop, 0.01)
    assert ran == ["kept"]


def test_a_timer_can_be_cancelled_by_another_due_at_the_same_time(loop):
    ran = []
    now = loop.time()
    loop.call_at(now - 2, lambda: victim.cancel())
    victim = loop.call_at(now - 1, ran.append, "victim")
    once(loop)
    assert ran == []


def test_cancelling_in_every_order(loop):
    random_ = random.Random(2)
    for _ in range(20):
        ran = []
        now = loop.time() - 100
        handles = {n: loop.call_at(now + n, ran.append, n) for n in range(60)}
        victims = random_.sample(sorted(handles), 30)
        for number in victims:
            handles[number].cancel()
        once(loop)
        assert ran == sorted(handles.keys() - set(victims))


def test_a_cancelled_timer_lets_go_at_once(loop):
    thing = Thing()
    gone = weakref.ref(thing)
    handle = loop.call_later(1000, thing.method)
    del thing
    handle.cancel()
    assert gone() is None
    assert handle.cancelled()


def test_many_cancelled_timers_do_not_pile_up(loop):
    """The pattern of timeouts: each is cancelled long before its deadline."""

    def churn():
        for _ in range(1000):
            loop.call_later(1000, print).cancel()

    for _ in range(10):
        churn()
        once(loop)
    assert len(loop._scheduled) < 1000


def test_purging_keeps_the_living(loop):
    ran = []
    for number in range(400):
        handle = loop.call_later(0.001 + number / 1e6, ran.append, number)
        if number % 4:
            handle.cancel()
    run_for(loop, 0.02)
    assert ran == list(range(0, 400, 4))


def test_a_cancelled_timer_does_not_wake_the_loop_early(loop):
    loop.call_later(0.001, print).cancel()
    begin = time.monotonic()
    run_for(loop, 0.03)
    assert time.monotonic() - begin >= 0.03


def test_cancelling_from_another_thread_is_safe(loop):
    """Not promised by asyncio, but it must not crash."""
    handles = [loop.call_later(0.005, int) for _ in range(2000)]

    def cancel():
        for handle in handles:
            handle.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    run_for(loop, 0.02)
    thread.join()


def test_a_stock_timer_handle_can_be_cancelled(loop):
    """asyncio.TimerHandle.cancel() tells the loop."""
    handle = asyncio.TimerHandle(1, print, (), loop)
    handle.cancel()
    assert handle.cancelled()


# -- TimerHandle -------------------------------------------------------------------


def test_when_is_the_deadline(loop):
    handle = loop.call_at(12345.678, print)
    assert handle.when() == 12345.678
    handle.cancel()
    assert handle.when() == 12345.678


class Seconds(float):
    pass


@pytest.mark.parametrize(
    "number", [1_000_000_000, Seconds(1e9), fractions.Fraction(10**10, 3)], ids=repr
)
def test_when_is_the_number_given(loop, number):
    handle = loop.call_at(number, print)
    assert handle.when() is number
    handle.cancel()
    assert handle.when() is number


def test_when_stays_the_same_object(loop):
    handle = loop.call_later(1e9, print)
    assert handle.when() is handle.when()
    handle.cancel()


def test_when_is_known_after_it_fired(loop):
    handle = loop.call_at(1.5, int)
    once(loop)
    assert handle.when() == 1.5


def test_timers_compare_by_deadline(loop):
    early, late = loop.call_at(1e9, int), loop.call_at(2e9, int)
    assert early < late and early <= late and late > early and late >= early
    assert not late < early
    assert early == early and early != late
    for odd in (None, 1, "text", loop.call_soon(int)):
        assert early != odd
    with pytest.raises(TypeError):
        early < 5  # noqa: B015
    early.cancel()
    late.cancel()


def test_equal_timers(loop):
    left, right = loop.call_at(1e9, int), loop.call_at(1e9, int)
    assert left == right
    assert left <= right and left >= right
    assert hash(left) == hash(right)
    left.cancel()
    assert left != right
    right.cancel()


def test_a_timer_compares_with_a_stock_one(loop):
    ours = loop.call_at(1e9, int)
    stock = asyncio.TimerHandle(2e9, int, (), loop)
    assert ours < stock and stock > ours
    ours.cancel()


def test_scheduled_says_whether_it_waits(loop):
    handle = loop.call_later(0.001, int)
    assert handle._scheduled is True
    run_for(loop, 0.005)
    assert handle._scheduled is False


def test_repr_tells_the_deadline(loop):
    handle = loop.call_at(123.0, print)
    assert "when=123.0" in repr(handle)
    assert normalise(repr(handle)).startswith("<TimerHandle when=T")
    handle.cancel()


# -- The clock may be replaced -----------------------------------------------------


def test_a_replaced_clock_moves_the_timers(loop):
    """Test libraries put a clock of their own into `loop.time`."""
    now = [1000.0]
    ran = []
    loop.time = lambda: now[0]
    handle = loop.call_later(500, ran.append, 1)
    assert handle.when() == 1500.0
    once(loop)
    assert ran == []
    now[0] = 1501.0
    once(loop)
    assert ran == [1]
    del loop.time


def test_a_clock_of_a_subclass_moves_the_timers(loop):
    class Mine(type(loop)):
        now = 50.0

        def time(self):
            return self.now

    mine = Mine()
    ran = []
    assert mine.call_later(10, ran.append, 1).when() == 60.0
    once(mine)
    assert ran == []
    mine.now = 61.0
    once(mine)
    assert ran == [1]
    mine.close()


# -- Many --------------------------------------------------------------------------


def test_a_hundred_thousand_timers(loop):
    count = 0

    def fire():
        nonlocal count
        count += 1

    now = loop.time()
    for number in range(100_000):
        loop.call_at(now + (number * 7919 % 100_000) / 1e7, fire)
    run_for(loop, 0.02)
    while count < 100_000:
        run_for(loop, 0.01)
    assert count == 100_000


def test_timers_and_gc(loop):
    """Pending timers are seen by the collector, and survive it."""
    ran = []
    for number in range(1000):
        loop.call_later(0.001, ran.append, number)
    gc.collect()
    run_for(loop, 0.02)
    assert sorted(ran) == list(range(1000))
