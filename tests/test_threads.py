"""Threads against a loop, all at the same time: schedule, stop, close, look on.

The step `threads` of .ci/run runs this module under ThreadSanitizer.
"""

import asyncio
import concurrent.futures
import contextlib
import gc
import io
import os
import signal
import socket
import threading
import time

import pytest
from support import PY, Echo, Recorder, connected_tls, free_pair, turns, until

THREADS = 8
CLOSED = "Event loop is closed"


@contextlib.contextmanager
def threads(*calls):
    """Make the calls side by side with what follows; raises what they raise."""
    ready = threading.Barrier(len(calls))

    def begin(call):
        ready.wait(20)
        call()

    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        running = [pool.submit(begin, call) for call in calls]
        yield
        for each in running:
            each.result(20)


def each_of(lists, call):
    """A call for each of the lists."""
    return [lambda mine=mine: call(mine) for mine in lists]


# -- call_soon_threadsafe ----------------------------------------------------------


def test_scheduling_amid_stops_and_new_runs(loop):
    """None is lost and each thread's come in order, however often the loop stops."""
    seen, count, ended = [[] for _ in range(THREADS)], 300, []

    def end():
        ended.append(True)
        loop.stop()

    def schedule(mine):
        for number in range(count):
            loop.call_soon_threadsafe(mine.append, number)
            if number % 20 == 0:
                loop.call_soon_threadsafe(loop.stop)
        loop.call_soon_threadsafe(end)

    with threads(*each_of(seen, schedule)):
        while len(ended) < THREADS:
            loop.run_forever()
    assert seen == [list(range(count))] * THREADS


def schedule_until_closed(loop, mine, numbers):
    """Whatever the loop still takes; then it must say why it doesn't."""
    with pytest.raises(RuntimeError, match=f"^{CLOSED}$"):
        for number in numbers:
            loop.call_soon_threadsafe(mine.append, number)
            time.sleep(0)  # let go of the GIL, or one queues 50,000 in its turn


def close_amid_scheduling(loop):
    seen = [[] for _ in range(THREADS)]
    numbers = range(10**6)
    with threads(
        *each_of(seen, lambda mine: schedule_until_closed(loop, mine, numbers))
    ):
        loop.run_until_complete(until(lambda: all(seen)))
        loop.close()
    return seen


def test_closing_while_threads_schedule(new):
    """What runs of a thread's is what it scheduled first, in its order."""
    for _ in range(10):
        for mine in close_amid_scheduling(new()):
            assert mine == list(range(len(mine)))


def test_nobody_closes_or_runs_a_running_loop(loop, new, loop_name):
    """From any thread, and any number of times."""
    if loop_name == "asyncio" and PY == (3, 13):
        pytest.skip("a run that it refuses there ends what the running loop has set up")

    def refuse(_):
        other = new()
        for _ in range(30):
            with pytest.raises(RuntimeError, match="^Cannot close a running"):
                loop.close()
            with pytest.raises(RuntimeError, match="already running"):
                loop.run_forever()
            other.run_until_complete(asyncio.sleep(0))
        other.close()
        loop.call_soon_threadsafe(ended.append, True)

    async def main():
        with threads(*each_of(range(THREADS), refuse)):
            await until(lambda: len(ended) == THREADS)

    ended = []
    loop.run_until_complete(main())


def test_coroutines_of_threads(loop):
    """Half of them are cancelled from their thread while they wait."""

    async def answer(number):
        await asyncio.sleep(0 if number % 2 == 0 else 1000)
        return number

    def ask(mine):
        futures = [
            asyncio.run_coroutine_threadsafe(answer(number), loop)
            for number in range(100)
        ]
        for future in futures[1::2]:
            assert future.cancel()
        mine += [future.result(20) for future in futures[::2]]
        loop.call_soon_threadsafe(ended.append, True)

    async def main():
        with threads(*each_of(found, ask)):
            await until(lambda: len(ended) == THREADS)
        await until(lambda: len(asyncio.all_tasks()) == 1)

    ended, found = [], [[] for _ in range(THREADS)]
    loop.run_until_complete(main())
    assert found == [list(range(0, 100, 2))] * THREADS


def test_every_signal_comes_amid_wakeups(loop, loop_name):
    """Neither wake-up hides the other."""
    if loop_name == "asyncio":
        pytest.skip("its wake-ups may fill the buffer that signals go through")

    arrived, over = threading.Event(), threading.Event()

    def schedule():
        while not over.is_set():
            loop.call_soon_threadsafe(int)
            time.sleep(0)

    def send():
        try:
            for _ in range(50):
                arrived.clear()
                os.kill(os.getpid(), signal.SIGUSR1)
                assert arrived.wait(20)
        finally:
            over.set()
            loop.call_soon_threadsafe(loop.stop)

    loop.add_signal_handler(signal.SIGUSR1, arrived.set)
    with threads(send, schedule, schedule, schedule):
        loop.run_forever()
    loop.remove_signal_handler(signal.SIGUSR1)


# -- The executor ------------------------------------------------------------------


def submit_until_shut_down(executor, mine):
    """Whatever the executor still takes must be done."""
    futures = []
    with pytest.raises(RuntimeError, match="^cannot schedule new futures after"):
        for number in range(10**6):
            futures.append(executor.submit(pow, 2, number % 50))
            time.sleep(0)
    assert [future.result(20) for future in futures] == [
        2 ** (number % 50) for number in range(len(futures))
    ]
    mine.append(True)


def test_jobs_against_the_end_of_the_executor(new):
    async def main():
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(None, pow, 2, 3) == 8
        executor = loop._default_executor
        calls = each_of(done, lambda mine: submit_until_shut_down(executor, mine))
        with threads(*calls):
            jobs = [loop.run_in_executor(None, pow, 2, n) for n in range(100)]
            await turns(3)
            await loop.shutdown_default_executor()
            assert await asyncio.gather(*jobs) == [2**n for n in range(100)]

    for _ in range(3):
        done, loop = [[] for _ in range(THREADS)], new()
        loop.run_until_complete(main())
        loop.close()
        assert done == [[True]] * THREADS


def test_jobs_against_the_end_of_the_loop(new):
    """Those that have begun go on, though nobody waits for their results."""
    for count in range(1, 40):
        loop = new()
        # The results that come are dropped, and asyncio's own thread says so.
        jobs = [loop.run_in_executor(None, time.sleep, 0) for _ in range(count)]
        loop.run_until_complete(turns(count % 3))
        for job in jobs:
            job.cancel()
        executor = loop._default_executor
        loop.close()
        executor.shutdown()


def test_jobs_schedule_while_the_loop_stops(loop):
    """A job's own call_soon_threadsafe comes before its result."""
    order = []

    def job(number):
        loop.call_soon_threadsafe(order.append, number)
        return number

    async def main():
        jobs = [loop.run_in_executor(None, job, number) for number in range(300)]
        loop.call_soon(loop.stop)
        for number, future in enumerate(jobs):
            assert await future == number
            assert number in order

    task = loop.create_task(main())
    while not task.done():
        loop.call_soon(loop.stop)
        loop.run_forever()
    task.result()


# -- Loops side by side ------------------------------------------------------------


async def echo_over_tls(served, asked):
    loop = asyncio.get_running_loop()
    async with connected_tls(loop, served, asked) as (transport, protocol, _):
        for size in (1, 1000, 100_000):
            protocol.data.clear()
            transport.write(bytes(size))
            assert await protocol.received(size) == bytes(size)


async def a_little_of_everything(served, asked):
    loop = asyncio.get_running_loop()
    for _ in range(3):
        await asyncio.gather(
            echo_over_tls(served, asked),
            *(asyncio.sleep(0.001 * n) for n in range(10)),
            *(loop.run_in_executor(None, pow, 2, n) for n in range(10)),
            loop.getaddrinfo("localhost", 80),
            echo_over_pair(),
        )
    await loop.shutdown_default_executor()


async def echo_over_pair():
    loop = asyncio.get_running_loop()
    left, right = free_pair(socket.AF_INET)
    one, _ = await loop.connect_accepted_socket(Echo, left)
    with right:
        for size in (1, 1000, 100_000):
            await loop.sock_sendall(right, bytes(size))
            while size:
                size -= len(await loop.sock_recv(right, size))
    one.abort()
    await until(lambda: left.fileno() == -1)


def test_loops_in_many_threads(new, served, asked):
    """They share the types, the free lists, the registry of tasks and a context of
    TLS."""

    def run(mine):
        loop = new()
        try:
            loop.run_until_complete(a_little_of_everything(served, asked))
        finally:
            loop.close()
        mine.append(True)

    done = [[] for _ in range(THREADS)]
    with threads(*each_of(done, run)):
        pass
    assert done == [[True]] * THREADS


def test_lookups_against_close(new):
    """The answers come to loops that are gone, in whatever thread."""

    def run(mine):
        for _ in range(10):
            loop = new()
            tasks = [
                loop.create_task(loop.getaddrinfo("localhost", 80)) for _ in range(3)
            ]
            loop.run_until_complete(turns(1))
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            loop.close()
        mine.append(True)

    done = [[] for _ in range(THREADS)]
    with threads(*each_of(done, run)):
        pass
    assert done == [[True]] * THREADS


@pytest.mark.parametrize("loop_name", ["asyncfast"], indirect=True)
@pytest.mark.parametrize("pidfd", [True, False], ids=["pidfd", "thread"])
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("threads_end")
def test_children_against_close(new, monkeypatch, pidfd):
    """Of children that end before, after and while their loop is closed."""
    if not pidfd:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    for count in range(6):
        loop = new()
        process = loop.run_until_complete(asyncio.create_subprocess_exec("true"))
        loop.run_until_complete(turns(count))
        child = process._transport.get_extra_info("subprocess")
        process._transport.close()
        loop.run_until_complete(turns(2))
        loop.close()
        child.wait(20)


# -- Looking on --------------------------------------------------------------------


@pytest.mark.parametrize("loop_name", ["asyncfast"], indirect=True)
def test_telemetry_from_threads(loop):
    """Numbers are read, and measuring is switched, while the loop runs."""
    import asyncfast

    over, slow, blocks = threading.Event(), [], []

    def look():
        last = asyncfast.metrics(loop)
        while not over.is_set():
            now = asyncfast.metrics(loop)
            assert now.iterations >= last.iterations
            assert now.callbacks >= last.callbacks
            last = now
            asyncfast.callback_stats(loop)
            asyncfast.dump_tasks(io.StringIO(), loop=loop)
            asyncio.all_tasks(loop)

    def switch():
        while not over.is_set():
            asyncfast.enable_callback_stats(loop)
            asyncfast.enable_timing(loop)
            asyncfast.on_slow_callback(1e-7, slow.append, loop)
            time.sleep(0.001)
            asyncfast.on_slow_callback(None, loop=loop)
            asyncfast.disable_timing(loop)
            asyncfast.disable_callback_stats(loop)

    async def main():
        try:
            for _ in range(20):
                await asyncio.gather(*(turns(3) for _ in range(50)))
                await loop.run_in_executor(None, int)
        finally:
            over.set()

    with threads(look, look, switch), asyncfast.watchdog(0.001, blocks.append, loop):
        loop.run_until_complete(main())
    assert slow and asyncfast.metrics(loop).callbacks > 1000


def test_the_collector_runs_in_another_thread(loop):
    """It may find what the loop has forgotten while the loop sleeps, and while it
    works."""
    over, kept = threading.Event(), []

    def collect():
        while not over.is_set():
            gc.collect()
            time.sleep(0)

    async def cycle():
        task = asyncio.current_task()
        future = loop.create_future()
        future.cycle = [task, future, loop.call_later(1000, print, task)]
        await asyncio.sleep(0)
        future.cycle[2].cancel()

    async def forget_a_connection():
        left, right = free_pair()
        transport, protocol = await loop.connect_accepted_socket(Recorder, left)
        with right:
            right.send(b"x")
            await protocol.received(1)
            kept.append(len(protocol.data))
            protocol.cycle = [protocol, transport]
            transport.abort()
            await protocol.saw("lost")

    async def main():
        try:
            for _ in range(10):
                await asyncio.gather(*(cycle() for _ in range(20)))
                await forget_a_connection()
                await asyncio.sleep(0.001)
        finally:
            over.set()

    with threads(collect):
        loop.run_until_complete(main())
    assert kept == [1] * 10
