"""run_in_executor and the default executor."""

import asyncio
import concurrent.futures
import contextvars
import gc
import threading
import traceback
import warnings
import weakref

import pytest
from support import PY, finish, like_asyncio, message, new_loop, python, turns


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


async def most_threads(loop):
    await loop.run_in_executor(None, int)
    return loop._default_executor._max_workers


async def test_jobs_run_side_by_side(loop):
    """Each waits for the others; one thread less would wait for ever."""
    count = await most_threads(loop)
    for _ in range(5):
        barrier = threading.Barrier(count, timeout=20)
        jobs = [loop.run_in_executor(None, barrier.wait) for _ in range(count)]
        await asyncio.gather(*jobs)


def executor_threads():
    names = [thread.name for thread in threading.enumerate()]
    return sorted(name for name in names if name.startswith("asyncio_"))


async def test_threads_are_started_on_demand_and_up_to_a_limit(loop):
    assert executor_threads() == []
    most = await most_threads(loop)
    assert executor_threads() == ["asyncio_0"]
    event = threading.Event()
    jobs = [loop.run_in_executor(None, event.wait, 20) for _ in range(most + 5)]
    names = executor_threads()
    event.set()
    await asyncio.gather(*jobs)
    assert names == sorted(f"asyncio_{n}" for n in range(most))
    assert executor_threads() == names


async def test_a_job_starts_though_the_loop_does_not_turn(loop):
    """The first has no thread yet, the others one that just did something."""
    for _ in range(20):
        started = threading.Event()
        job = loop.run_in_executor(None, started.set)
        assert started.wait(20)
        await job


def test_a_job_starts_before_the_loop_does(loop, run):
    for _ in range(3):
        started = threading.Event()
        job = loop.run_in_executor(None, started.set)
        assert started.wait(20)
        assert not job.done()
        run(job)


async def test_a_result_does_not_wait_for_the_next_job(loop):
    """All threads are busy but one, which does both."""
    event = threading.Event()
    most = await most_threads(loop)
    blocked = [loop.run_in_executor(None, event.wait, 20) for _ in range(most - 1)]
    for _ in range(20):
        release = threading.Event()
        first = loop.run_in_executor(None, int)
        second = loop.run_in_executor(None, release.wait, 20)
        assert await first == 0
        assert not second.done()
        release.set()
        assert await second is True
    event.set()
    await asyncio.gather(*blocked)


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


async def test_a_waiting_job_of_the_default_executor_is_cancelled(loop):
    ran, event = [], threading.Event()
    most = await most_threads(loop)
    blocked = [loop.run_in_executor(None, event.wait, 20) for _ in range(most)]
    job = loop.run_in_executor(None, ran.append, "cancelled")
    after = loop.run_in_executor(None, ran.append, "run")
    job.cancel()
    await turns(2)
    event.set()
    await asyncio.gather(*blocked, after)
    assert job.cancelled()
    assert ran == ["run"]


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
    assert await loop.run_in_executor(None, variable.get) == "unset"


class Failure(Exception):
    """Can be referred to weakly."""


class Thing:
    """Can be referred to weakly, called and returned."""

    def __call__(self, thing, failed=False):
        if failed:
            raise Failure
        return Thing()


@pytest.mark.parametrize("failed", [False, True])
async def test_nothing_of_a_job_is_kept(loop, failed):
    func, argument = Thing(), Thing()
    gone = [weakref.ref(func), weakref.ref(argument)]
    future = loop.run_in_executor(None, func, argument, failed)
    del func, argument
    [result] = await asyncio.gather(future, return_exceptions=True)
    gone += [weakref.ref(result), weakref.ref(future)]
    del result, future
    # The thread itself lets go a little later than it hands over.
    await loop.run_in_executor(None, int)
    gc.collect()
    assert [reference() for reference in gone] == [None] * 4


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


# -- What a job raises -------------------------------------------------------------


def fail(error):
    raise error


ERRORS = [
    ValueError("text", 5),
    asyncio.CancelledError("text"),
    asyncio.TimeoutError("text"),
    concurrent.futures.CancelledError("text"),
    concurrent.futures.TimeoutError("text"),
    concurrent.futures.InvalidStateError("text"),
    GeneratorExit("text"),
    StopAsyncIteration("text"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: str(type(error)))
def test_errors_are_asyncios(loop, error):
    async def main():
        future = asyncio.get_running_loop().run_in_executor(None, fail, error)
        await asyncio.wait([future])
        raised = future.exception()
        return type(raised), raised.args, raised is error

    like_asyncio(loop, lambda loop: loop.run_until_complete(main()))


def test_stop_iteration_is_no_result_of_a_future(loop):
    """Up to 3.11 it is refused, and the future waits for ever."""

    async def main():
        loop, told = asyncio.get_running_loop(), asyncio.Event()
        reports = []

        def report(loop, context):
            reports.append((type(context["exception"]), str(context["exception"])))
            told.set()

        handler = loop.get_exception_handler()
        loop.set_exception_handler(report)
        future = loop.run_in_executor(None, fail, StopIteration(5))
        future.add_done_callback(lambda future: told.set())
        await told.wait()
        loop.set_exception_handler(handler)
        error = future.done() and future.exception()
        return reports, type(error), str(error)

    like_asyncio(loop, lambda loop: loop.run_until_complete(main()))


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt("text")], ids=repr)
def test_what_ends_a_program_ends_the_run(loop, run, error):
    """It is the awaiting task that raises it, not the thread."""

    async def main():
        await loop.run_in_executor(None, fail, error)

    with pytest.raises(type(error)) as info:
        run(main())
    assert info.value.args == error.args
    assert run(loop.run_in_executor(None, int)) == 0


async def test_the_traceback_is_the_jobs(loop):
    with pytest.raises(ValueError) as info:
        await loop.run_in_executor(None, fail, ValueError())
    names = [frame.name for frame in traceback.extract_tb(info.value.__traceback__)]
    assert names[-1] == "fail"
    assert info.value.__context__ is None


# -- Other ways to the executor ----------------------------------------------------


async def test_the_default_executor_is_a_thread_pool(loop):
    await loop.run_in_executor(None, int)
    executor = loop._default_executor
    assert isinstance(executor, concurrent.futures.ThreadPoolExecutor)
    future = executor.submit(divmod, 17, 5)
    assert isinstance(future, concurrent.futures.Future)
    assert await asyncio.wrap_future(future) == (3, 2)
    assert await loop.run_in_executor(executor, divmod, 17, 5) == (3, 2)
    assert list(executor.map(int, "123")) == [1, 2, 3]
    assert isinstance(executor.submit(fail, ValueError()).exception(20), ValueError)
    assert executor_threads()[0] == "asyncio_0"


def test_another_default_executor_takes_over(loop, run):
    run(loop.run_in_executor(None, int))
    first = loop._default_executor
    with concurrent.futures.ThreadPoolExecutor(1, "mine") as pool:
        loop.set_default_executor(pool)
        job = loop.run_in_executor(None, lambda: threading.current_thread().name)
        assert run(job).startswith("mine")
        loop._default_executor = None
        job = loop.run_in_executor(None, lambda: threading.current_thread().name)
        assert run(job) == "asyncio_0"
        assert loop._default_executor not in (None, first, pool)
        loop.set_default_executor(first)
        assert run(loop.run_in_executor(None, int)) == 0
    loop._default_executor.shutdown()


def test_an_executor_that_was_shut_down(loop):
    def scenario(loop):
        loop.run_until_complete(loop.run_in_executor(None, int))
        loop._default_executor.shutdown()
        loop.run_in_executor(None, int)

    assert like_asyncio(loop, scenario)[0] == "raised"


async def test_an_executor_gives_up_its_jobs(loop):
    event, most = threading.Event(), await most_threads(loop)
    running = [loop.run_in_executor(None, event.wait, 20) for _ in range(most)]
    waiting = [loop.run_in_executor(None, fail, "not called") for _ in range(3)]
    other = loop._default_executor.submit(fail, "not called")
    # A job that no thread has taken yet would be given up, too.
    while loop._default_executor._work_queue.qsize() > 4:
        await turns()
    loop._default_executor.shutdown(wait=False, cancel_futures=True)
    event.set()
    assert await asyncio.gather(*running) == [True] * most
    await asyncio.wait(waiting)
    assert [job.cancelled() for job in waiting] == [True] * 3
    assert other.cancelled()


def test_results_come_by_an_overridden_call_soon_threadsafe(loop_name):
    calls = []
    plain = new_loop(loop_name)

    class Mine(type(plain)):
        def call_soon_threadsafe(self, callback, *args, **kwargs):
            calls.append(callback)
            return super().call_soon_threadsafe(callback, *args, **kwargs)

    plain.close()
    loop = Mine()
    assert loop.run_until_complete(loop.run_in_executor(None, int)) == 0
    assert len(calls) == 1
    finish(loop)


async def test_results_come_by_a_replaced_call_soon_threadsafe(loop):
    calls, call_soon_threadsafe = [], loop.call_soon_threadsafe
    assert await loop.run_in_executor(None, int) == 0
    loop.call_soon_threadsafe = lambda callback, *args: (
        calls.append(callback),
        call_soon_threadsafe(callback, *args),
    )
    assert await loop.run_in_executor(None, int) == 0
    assert len(calls) == 1
    del loop.call_soon_threadsafe
    assert await loop.run_in_executor(None, int) == 0
    assert len(calls) == 1


async def test_a_job_calls_back(loop):
    async def answer():
        return 42

    def job():
        future = concurrent.futures.Future()
        loop.call_soon_threadsafe(future.set_result, 5)
        coroutine = asyncio.run_coroutine_threadsafe(answer(), loop)
        nested = asyncio.run_coroutine_threadsafe(asyncio.to_thread(int), loop)
        return future.result(20), coroutine.result(20), nested.result(20)

    jobs = [loop.run_in_executor(None, job) for _ in range(3)]
    assert await asyncio.gather(*jobs) == [(5, 42, 0)] * 3


def test_many_loops_in_many_threads(new):
    async def main(number):
        loop, sums = asyncio.get_running_loop(), 0
        for round in range(20):
            jobs = [loop.run_in_executor(None, pow, number, n) for n in range(round)]
            sums += sum(await asyncio.gather(*jobs))
        return sums

    def run(number):
        loop = new()
        try:
            return loop.run_until_complete(main(number))
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        assert list(pool.map(run, range(5))) == [
            sum(number**n for round in range(20) for n in range(round))
            for number in range(5)
        ]


# -- The end -----------------------------------------------------------------------


def test_jobs_that_wait_are_done_though_the_loop_is_closed(new):
    done, event, loop = [], threading.Event(), new()
    loop.run_until_complete(loop.run_in_executor(None, int))
    count = loop._default_executor._max_workers + 10
    for number in range(count):
        loop.run_in_executor(None, lambda n=number: (event.wait(20), done.append(n)))
    loop.close()
    event.set()
    join_others()
    assert sorted(done) == list(range(count))


def test_loops_are_closed_while_results_come(new):
    for _ in range(100):
        loop = new()
        for _ in range(20):
            # A result of a closed loop is reported by asyncio's thread, up to 3.11.
            loop.run_in_executor(None, int).cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    join_others()


@pytest.mark.filterwarnings("ignore:unclosed event loop")
def test_the_threads_of_a_forgotten_loop_end(new):
    loop = new()
    loop.run_until_complete(loop.run_in_executor(None, int))
    del loop
    gc.collect()
    join_others()
    assert executor_threads() == []


EXIT = """
import asyncio, sys, threading, time
from support import new_loop

loop = new_loop(sys.argv[1])
event = threading.Event()

def job(number):
    event.wait()
    print("job", number, flush=True)
    try:
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).cancel()
    except RuntimeError as error:
        print(error)

def late():
    # Registered before the executor's end is, so called after it.
    try:
        loop.run_in_executor(None, print, "never")
    except RuntimeError as error:
        print(error)

async def main():
    return [loop.run_in_executor(None, job, 1)]

threading._register_atexit(late)
import concurrent.futures.thread
threading._register_atexit(event.set)
keep = loop.run_until_complete(main())
if sys.argv[2] == "closed":
    loop.close()
print("main ends", flush=True)
"""


@pytest.mark.parametrize("state", ["open", "closed"])
def test_the_interpreter_waits_for_jobs(state):
    ends = [
        python("-W", "ignore", "-c", EXIT, name, state)
        for name in ("asyncio", "asyncfast")
    ]
    outputs = [(done.returncode, done.stdout) for done in ends]
    assert outputs[0] == outputs[1]
    assert outputs[1][1].startswith("main ends\njob 1\n")
    assert "Traceback" not in ends[1].stderr


async def test_shutdown_of_busy_threads(loop):
    jobs = [loop.run_in_executor(None, pow, 3, n) for n in range(500)]
    await loop.shutdown_default_executor()
    assert await asyncio.gather(*jobs) == [3**n for n in range(500)]
    assert executor_threads() == []
