"""core/threadsafe.c: call_soon_threadsafe and everything that wakes a sleeping loop."""

import asyncio
import contextvars
import signal
import threading
import time

import pytest
from support import PY, once


def in_thread(call, *args):
    """Call in another thread; return its result or raise its exception."""
    result = []

    def work():
        try:
            result.append((True, call(*args)))
        except BaseException as error:
            result.append((False, error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    good, value = result[0]
    if not good:
        raise value
    return value


def test_it_wakes_a_sleeping_loop(loop):
    """Nothing else is there to wake it: without the wake-up this never ends."""
    timer = threading.Timer(0.05, loop.call_soon_threadsafe, (loop.stop,))
    timer.start()
    loop.run_forever()
    timer.join()


def test_it_wakes_a_loop_that_waits_for_a_far_timer(loop):
    far = loop.call_later(1000, print)
    timer = threading.Timer(0.02, loop.call_soon_threadsafe, (loop.stop,))
    timer.start()
    begin = time.monotonic()
    loop.run_forever()
    assert time.monotonic() - begin < 10
    timer.join()
    far.cancel()


def test_before_the_loop_runs(loop):
    ran = []
    in_thread(loop.call_soon_threadsafe, ran.append, 1)
    once(loop)
    assert ran == [1]


def test_between_two_runs(loop):
    ran = []
    once(loop)
    in_thread(loop.call_soon_threadsafe, ran.append, 1)
    assert ran == []
    once(loop)
    assert ran == [1]


def test_the_order_of_one_thread_is_kept(loop):
    got = []

    def work():
        for number in range(5000):
            loop.call_soon_threadsafe(got.append, number)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=work)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert got == list(range(5000))


def test_it_queues_behind_what_is_queued(loop):
    """From the loop's own thread it keeps the order with call_soon."""
    order = []
    loop.call_soon(order.append, 1)
    loop.call_soon_threadsafe(order.append, 2)
    loop.call_soon(order.append, 3)
    once(loop)
    if 2 not in order:
        once(loop)
    assert sorted(order) == [1, 2, 3]
    assert order.index(1) < order.index(2)


def test_nothing_of_many_threads_is_lost(loop):
    got = []
    count, each = 8, 2000

    def work(name):
        for number in range(each):
            loop.call_soon_threadsafe(got.append, (name, number))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]

    async def main():
        for thread in threads:
            thread.start()
        while len(got) < count * each:
            await asyncio.sleep(0.001)

    loop.run_until_complete(main())
    for thread in threads:
        thread.join()
    for name in range(count):
        assert [n for who, n in got if who == name] == list(range(each))


def test_ping_pong_with_a_thread(loop):
    """Each wake-up must arrive, also the one that races with falling asleep."""
    ping = threading.Event()
    rounds = 1000

    def work():
        for _ in range(rounds):
            ping.wait()
            ping.clear()
            loop.call_soon_threadsafe(pong)

    def pong():
        nonlocal rounds
        rounds -= 1
        if rounds:
            ping.set()
        else:
            loop.stop()

    thread = threading.Thread(target=work, daemon=True)
    total = rounds
    thread.start()
    ping.set()
    loop.run_forever()
    assert total == 1000
    thread.join()


def test_it_returns_a_handle_that_cancels(loop):
    ran = []
    handle = in_thread(loop.call_soon_threadsafe, ran.append, 1)
    assert isinstance(handle, asyncio.Handle)
    handle.cancel()
    assert handle.cancelled()
    once(loop)
    assert ran == []


def test_it_takes_a_context(loop):
    variable = contextvars.ContextVar("variable", default="unset")
    context = contextvars.copy_context()
    loop.call_soon_threadsafe(variable.set, "set", context=context)
    once(loop)
    assert context[variable] == "set"
    assert variable.get() == "unset"


def test_the_context_is_that_of_the_calling_thread(loop):
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("main")
    seen = []

    def work():
        variable.set("thread")
        loop.call_soon_threadsafe(lambda: seen.append(variable.get()))

    in_thread(work)
    once(loop)
    assert seen == ["thread"]


def test_on_a_closed_loop_it_raises(loop):
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        in_thread(loop.call_soon_threadsafe, print)


def test_closing_races_with_threads(new):
    """A thread that calls while the loop closes sees success or `closed`, no crash."""
    wrong = []

    def hammer(loop, started):
        started.set()
        try:
            while True:
                loop.call_soon_threadsafe(int)
                time.sleep(0)  # let go of the GIL, or one queues 50,000 in its turn
        except RuntimeError as error:
            if str(error) != "Event loop is closed":
                wrong.append(error)
        except BaseException as error:
            wrong.append(error)

    for _ in range(200):
        loop = new()
        started = [threading.Event() for _ in range(3)]
        threads = [threading.Thread(target=hammer, args=(loop, s)) for s in started]
        for thread in threads:
            thread.start()
        for event in started:
            event.wait()
        once(loop)
        loop.close()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_from_a_signal_handler(loop):
    """The handler may interrupt the loop anywhere, also in call_soon_threadsafe."""
    got = []

    def handler(signum, frame):
        loop.call_soon_threadsafe(got.append, signum)

    previous = signal.signal(signal.SIGUSR1, handler)
    try:

        async def main():
            for count in range(1, 200):
                signal.raise_signal(signal.SIGUSR1)
                loop.call_soon_threadsafe(int)
                while len(got) < count:
                    await asyncio.sleep(0)

        loop.run_until_complete(main())
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert len(got) == 199


def test_a_callback_that_raises_is_reported(loop, reports):
    loop.call_soon_threadsafe(lambda: 1 / 0)
    once(loop)
    once(loop)
    assert type(reports.take_one()["exception"]) is ZeroDivisionError


def test_a_callback_that_queues_itself_does_not_block_the_rest(loop):
    def again():
        loop.call_soon_threadsafe(again)

    again()
    loop.call_later(0.01, loop.stop)
    loop.run_forever()


def test_run_coroutine_threadsafe(loop):
    async def double(number):
        await asyncio.sleep(0)
        return number * 2

    results = []

    def work():
        futures = [
            asyncio.run_coroutine_threadsafe(double(number), loop)
            for number in range(100)
        ]
        results.extend(future.result(20) for future in futures)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=work)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert results == [number * 2 for number in range(100)]


def test_a_future_of_a_thread_is_cancelled_from_there(loop):
    cancelled = threading.Event()

    async def forever():
        try:
            await asyncio.sleep(1000)
        finally:
            cancelled.set()

    def work():
        future = asyncio.run_coroutine_threadsafe(forever(), loop)
        in_thread(loop.call_soon_threadsafe, int)
        time.sleep(0.01)
        future.cancel()
        assert cancelled.wait(20)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=work)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert cancelled.is_set()


@pytest.mark.skipif(PY < (3, 14), reason="_ThreadSafeHandle is new in 3.14")
def test_cancel_waits_for_a_running_callback(loop):
    """After cancel() returned, the callback has not started or is through."""
    entered, log = threading.Event(), []

    def callback():
        entered.set()
        time.sleep(0.05)
        log.append("done")

    handle = loop.call_soon_threadsafe(callback)

    def work():
        entered.wait()
        handle.cancel()
        log.append("cancelled")
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=work)
    thread.start()
    loop.run_forever()
    thread.join()
    assert log == ["done", "cancelled"]
