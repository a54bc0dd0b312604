"""run_in_executor and the default executor."""

import asyncio
import concurrent.futures
import contextvars
import threading
import warnings

import pytest
from support import PY, like_asyncio, message, turns


async def test_a_function_runs_in_another_thread(loop):
    name = await loop.run_in_executor(None, threading.get_ident)
    assert name != threading.get_ident()


async def test_arguments_and_result(loop):
    assert await loop.run_in_executor(None, divmod, 17, 5) == (3, 2)


async def test_an_exception_comes_back(loop):
    with pytest.raises(ZeroDivisionError):
        await loop.run_in_executor(None, divmod, 1, 0)


async def test_the_future_is_the_loops(loop):
    future = loop.run_in_executor(None, int)
    assert asyncio.isfuture(future)
    assert future.get_loop() is loop
    assert await future == 0


async def test_many_jobs(loop):
    jobs = [loop.run_in_executor(None, pow, 2, n) for n in range(1000)]
    assert await asyncio.gather(*jobs) == [2**n for n in range(1000)]


async def test_jobs_run_side_by_side(loop):
    """Each waits for the other; one thread alone would wait for ever."""
    barrier = threading.Barrier(2, timeout=20)
    await asyncio.gather(*(loop.run_in_executor(None, barrier.wait) for _ in range(2)))


async def test_the_loop_turns_while_a_job_runs(loop):
    event = threading.Event()
    job = loop.run_in_executor(None, event.wait, 20)
    await turns(5)
    assert not job.done()
    event.set()
    assert await job is True


async def test_a_given_executor(loop):
    with concurrent.futures.ThreadPoolExecutor(1, "mine") as pool:
        job = loop.run_in_executor(pool, lambda: threading.current_thread().name)
        assert (await job).startswith("mine")


async def test_a_default_executor_of_ones_own(loop):
    pool = concurrent.futures.ThreadPoolExecutor(1, "mine")
    loop.set_default_executor(pool)
    job = loop.run_in_executor(None, lambda: threading.current_thread().name)
    assert (await job).startswith("mine")
    assert loop._default_executor is pool


@pytest.mark.skipif(PY < (3, 11), reason="a TypeError from 3.11 on")
@pytest.mark.parametrize("thing", [None, 1, "text", ...], ids=repr)
def test_a_default_executor_that_is_none(loop, thing):
    call = like_asyncio(loop, lambda loop: loop.set_default_executor(thing))
    assert call[1] is TypeError


async def test_a_waiting_job_is_cancelled(loop):
    ran = []
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        event = threading.Event()
        first = loop.run_in_executor(pool, event.wait, 20)
        second = loop.run_in_executor(pool, ran.append, 1)
        second.cancel()
        await turns(2)
        event.set()
        await first
        with pytest.raises(asyncio.CancelledError):
            await second
    assert ran == []


async def test_a_running_job_goes_on_when_its_future_is_cancelled(loop):
    started, event, done = threading.Event(), threading.Event(), threading.Event()

    def job():
        started.set()
        event.wait(20)
        done.set()

    future = loop.run_in_executor(None, job)
    started.wait(20)
    future.cancel()
    with pytest.raises(asyncio.CancelledError):
        await future
    event.set()
    assert done.wait(20)
    await turns(2)


async def test_to_thread_keeps_the_context(loop):
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("mine")
    assert await asyncio.to_thread(variable.get) == "mine"


async def test_shutdown_waits_for_the_jobs(loop):
    event, done = threading.Event(), []
    loop.run_in_executor(None, lambda: (event.wait(20), done.append(1)))
    shutdown = asyncio.ensure_future(loop.shutdown_default_executor())
    await turns(5)
    assert not shutdown.done()
    event.set()
    await shutdown
    assert done == [1]


def test_after_the_shutdown_there_is_no_executor(loop, run):
    run(loop.shutdown_default_executor())
    with pytest.raises(RuntimeError) as info:
        loop.run_in_executor(None, int)
    assert message(info) == "Executor shutdown has been called"
    run(loop.shutdown_default_executor())


def join_others():
    """Wait for the executor's threads, and for the one that shuts it down."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(20)


@pytest.mark.skipif(PY < (3, 12), reason="timeout= is new in 3.12")
def test_a_shutdown_that_takes_too_long_warns(loop):
    """The first releases of 3.12 wait nevertheless."""

    async def main():
        loop, event = asyncio.get_running_loop(), threading.Event()
        loop.run_in_executor(None, event.wait, 20)
        loop.call_later(0.2, event.set)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            await loop.shutdown_default_executor(0.01)
        event.set()
        return [(w.category.__name__, str(w.message)) for w in caught]

    def scenario(loop):
        texts = loop.run_until_complete(main())
        join_others()
        return texts

    _, texts = like_asyncio(loop, scenario)
    if PY >= (3, 13):
        assert [category for category, _ in texts] == ["RuntimeWarning"]


def test_close_does_not_wait_for_the_executor(new):
    """A result that comes afterwards is dropped."""
    loop = new()
    event = threading.Event()

    async def main():
        return [loop.run_in_executor(None, event.wait)]

    [future] = loop.run_until_complete(main())
    loop.close()
    event.set()
    join_others()
    assert not future.done()


async def test_any_executor_of_concurrent_futures_will_do(loop):

    class Inline(concurrent.futures.Executor):
        def submit(self, call, /, *args, **kwargs):
            future = concurrent.futures.Future()
            future.set_result(call(*args, **kwargs))
            return future

    assert await loop.run_in_executor(Inline(), divmod, 7, 2) == (3, 1)


@pytest.mark.parametrize("executor", [1, "text", ...], ids=repr)
def test_what_is_no_executor(loop, executor):
    def scenario(loop):
        loop.run_until_complete(loop.run_in_executor(executor, int))

    assert like_asyncio(loop, scenario)[0] == "raised"
