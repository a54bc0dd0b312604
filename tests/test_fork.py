"""os/fork.c: a forked child gets a clean start, its parent keeps what it had."""

import asyncio
import multiprocessing
import os
import signal
import sys
import warnings

import pytest
from support import once, turns

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def in_child(work):
    """Fork; run `work` in the child; return what it returned, as text."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pid = os.fork()
    if pid == 0:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(20)
            try:
                answer = repr(work())
            except BaseException as error:
                answer = f"{type(error).__name__}: {error}"
            os.write(writer, answer.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"the child ended with {status}: {answer}"
    return answer


def test_a_new_loop_in_the_child(loop, new):
    once(loop)

    def work():
        fresh = new()
        result = fresh.run_until_complete(asyncio.sleep(0.001, "child"))
        fresh.close()
        return result

    assert in_child(work) == "'child'"
    assert loop.run_until_complete(asyncio.sleep(0.001, "parent")) == "parent"


def test_a_new_loop_in_the_child_of_a_running_loop(loop, new, run):
    """The running loop is not the child's."""

    async def main():
        def work():
            try:
                asyncio.get_running_loop()
            except RuntimeError as error:
                first = str(error)
            fresh = new()
            second = fresh.run_until_complete(asyncio.sleep(0.001, "child"))
            fresh.close()
            return first, second

        answer = in_child(work)
        await asyncio.sleep(0.001)
        return answer

    assert run(main()) == "('no running event loop', 'child')"


def test_run_in_the_child(loop, run):
    async def main():
        def work():
            async def inner():
                await asyncio.sleep(0.001)
                return "child"

            return asyncio.run(inner())

        return in_child(work)

    assert run(main()) == "'child'"


def test_the_parents_descriptors_stay_watched(loop, pair):
    """The child's poll set is not the parent's, whatever it does with its copy."""
    got = []
    loop.add_reader(pair[0], lambda: got.append(pair[0].recv(10)))
    once(loop)

    def work():
        loop.remove_reader(pair[0])
        loop.close()
        return "closed"

    answer = in_child(work)
    assert answer == "'closed'"
    pair[1].send(b"x")
    for _ in range(3):
        once(loop)
    if sys.implementation.name == "cpython" and not got:
        pytest.skip("asyncio shares the poll set, and the child emptied it")
    assert got == [b"x"]
    loop.remove_reader(pair[0])


def test_asyncfast_keeps_the_parents_poll_set(loop, loop_name, pair):
    if loop_name == "asyncio":
        pytest.skip("asyncio's child empties it")
    got = []
    loop.add_reader(pair[0], lambda: got.append(pair[0].recv(10)))
    once(loop)

    def work():
        loop.remove_reader(pair[0])
        once(loop)
        loop.close()
        return "closed"

    assert in_child(work) == "'closed'"
    pair[1].send(b"x")
    for _ in range(3):
        once(loop)
    assert got == [b"x"]
    loop.remove_reader(pair[0])


def test_a_stopped_loop_is_closed_by_the_child(loop):
    loop.call_soon_threadsafe(int)
    loop.add_signal_handler(signal.SIGUSR1, print)
    once(loop)

    def work():
        loop.close()
        return loop.is_closed()

    assert in_child(work) == "True"
    loop.remove_signal_handler(signal.SIGUSR1)
    assert not loop.is_closed()
    assert loop.run_until_complete(asyncio.sleep(0.001, "works")) == "works"


def test_signals_of_the_child_do_not_reach_the_parent(loop):
    """They share the wake-up descriptor's file until the child lets it go."""
    got = []
    loop.add_signal_handler(signal.SIGUSR1, got.append, 1)

    async def main():
        def work():
            os.kill(os.getpid(), signal.SIGUSR1)
            return "sent"

        answer = in_child(work)
        await turns(5)
        await asyncio.sleep(0.01)
        return answer

    answer = loop.run_until_complete(main())
    loop.remove_signal_handler(signal.SIGUSR1)
    if sys.version_info >= (3, 12):
        assert answer == "'sent'"
        assert got == []


def test_the_child_exits_quietly(loop, new):
    """A loop that the child inherits is no reason for a crash when it goes."""
    import gc

    once(loop)
    assert in_child(lambda: gc.collect() >= 0) == "True"


def double(number):
    return number * 2


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing(loop, run, method):
    from concurrent.futures import ProcessPoolExecutor

    async def main():
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return await loop.run_in_executor(pool, double, 21)

    assert run(main()) == 42
