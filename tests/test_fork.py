"""os/fork.c: a forked child gets a clean start, its parent keeps what it had."""

import asyncio
import contextlib
import multiprocessing
import os
import random
import signal
import socket
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver, resource_tracker

import load_bytes
import pytest
from support import PY, descriptors, free_pair, once, python, turns, until

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def start_child(work):
    """Fork; run `work` in the child, for answer_of()."""
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
    return pid, reader


def answer_of(child):
    """Wait for the end of a child; what its work returned, as text."""
    pid, reader = child
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"the child ended with {status}: {answer}"
    return answer


def in_child(work):
    return answer_of(start_child(work))


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


def test_the_child_goes_on_with_the_loop(loop, pair):
    """Readers, timers and the wake-up from a thread work in the copy, too."""
    got = []
    loop.add_reader(pair[0], lambda: got.append(pair[0].recv(10)))
    loop.call_later(0.001, got.append, "timer")
    once(loop)

    async def main():
        pair[1].send(b"x")
        await until(lambda: len(got) == 2)
        woken = loop.create_future()
        args = (loop.call_soon_threadsafe, (woken.set_result, "thread"))
        timer = threading.Timer(0.01, *args)
        timer.start()
        got.append(await woken)
        timer.join()
        return sorted(map(str, got))

    answer = in_child(lambda: loop.run_until_complete(main()))
    assert answer == repr(["b'x'", "thread", "timer"])
    loop.remove_reader(pair[0])


def test_the_childs_poll_set_is_not_the_parents(loop, loop_name, pair):
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


def executor_jobs(loop):
    async def main():
        return await asyncio.gather(
            *(loop.run_in_executor(None, pow, 2, n) for n in range(20)),
            asyncio.to_thread(int),
        )

    assert loop.run_until_complete(main()) == [2**n for n in range(20)] + [0]


@pytest.mark.nosanitizer  # its allocator may be locked by a thread at the fork
def test_the_executor_of_a_new_loop_in_the_child(loop, new):
    executor_jobs(loop)

    def work():
        fresh = new()
        executor_jobs(fresh)
        fresh.run_until_complete(fresh.shutdown_default_executor())
        fresh.close()
        return "done"

    assert in_child(work) == "'done'"
    executor_jobs(loop)


@pytest.mark.nosanitizer  # likewise
def test_the_executor_that_the_child_inherits(loop, loop_name):
    """It has threads of its own there; what was left for the parent's is theirs."""
    if loop_name == "asyncio":
        pytest.skip("asyncio's child waits for the threads of its parent")
    event, done = threading.Event(), []
    executor_jobs(loop)
    count = loop._default_executor._max_workers + 5

    async def begin():
        return [
            loop.run_in_executor(None, lambda n=n: (event.wait(20), done.append(n)))
            for n in range(count)
        ]

    jobs = loop.run_until_complete(begin())

    def work():
        executor_jobs(loop)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        return done

    assert in_child(work) == "[]"
    event.set()
    loop.run_until_complete(asyncio.gather(*jobs))
    assert sorted(done) == list(range(count))


FORKING_JOB = """
import asyncio, os, sys
from support import new_loop

loop = new_loop(sys.argv[1])

def job():
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

async def main():
    for _ in range(5):
        print(await asyncio.gather(*(asyncio.to_thread(job) for _ in range(5))))

loop.run_until_complete(main())
loop.close()
"""


def test_a_job_may_fork(loop_name):
    done = python("-W", "ignore", "-c", FORKING_JOB, loop_name)
    assert (done.stdout, done.stderr) == ("[7, 7, 7, 7, 7]\n" * 5, "")


def in_one_of_three_children(work):
    """A fork may find a lock of the C library's taken by a lookup of the parent's,
    and nobody gives it back in the child: that one is ended by its alarm."""
    for _ in range(2):
        with contextlib.suppress(AssertionError):
            return in_child(work)
    return in_child(work)


@pytest.mark.guard(90)
@pytest.mark.nosanitizer  # its allocator may be locked by a thread at the fork
def test_lookups_under_way_stay_the_parents(loop, loop_name):
    """Though the child asks a resolver, too, on the loop that it inherits."""
    if loop_name == "asyncio":
        pytest.skip("asyncio's child waits for the threads of its parent")

    def look():
        return loop.create_task(loop.getaddrinfo("127.0.0.1", "1"))

    async def begin():
        lookups = [look() for _ in range(10)]
        await turns(1)
        return lookups

    async def answers(lookups):
        return [address for [(*_, address), *_] in await asyncio.gather(*lookups)]

    lookups = loop.run_until_complete(begin())
    child = in_one_of_three_children(lambda: loop.run_until_complete(answers([look()])))
    assert child == "[('127.0.0.1', 1)]"
    assert loop.run_until_complete(answers(lookups)) == [("127.0.0.1", 1)] * 10


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


@pytest.mark.skipif(PY < (3, 12), reason="asyncio lets go of it from 3.12 on")
async def test_signals_of_the_child_do_not_reach_the_parent(loop):
    """They share the wake-up descriptor's file until the child lets it go."""
    got = []
    loop.add_signal_handler(signal.SIGUSR1, got.append, "child's")
    loop.add_signal_handler(signal.SIGUSR2, got.append, "parent's")
    in_child(lambda: os.kill(os.getpid(), signal.SIGUSR1))
    os.kill(os.getpid(), signal.SIGUSR2)
    await until(lambda: got)
    assert got == ["parent's"]
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.remove_signal_handler(signal.SIGUSR2)


EXITS = """
import asyncio, os, socket, sys
from support import new_loop, once

loop = new_loop(sys.argv[1])
left, right = socket.socketpair()
loop.add_reader(left, print)
loop.call_later(100, print)
loop.call_soon(print, "parent")
future = loop.run_in_executor(None, int)
loop.run_until_complete(future)

async def main():
    if os.fork() == 0:
        sys.exit(5)
    _, status = os.wait()
    print(os.waitstatus_to_exitcode(status))

loop.run_until_complete(main())
"""


@pytest.mark.skipif(PY >= (3, 14), reason="asyncio can't leave the task it is in")
def test_a_child_exits_quietly_with_the_loop_it_inherits(loop_name):
    done = python("-W", "ignore", "-c", EXITS, loop_name)
    assert (done.stdout, done.stderr) == ("parent\n5\n", "")


def double(number):
    return number * 2


@pytest.fixture
def _multiprocessing():
    """What it keeps for the life of the process is there before the loop is."""
    resource_tracker.ensure_running()
    forkserver.ensure_running()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
async def test_processes_of_multiprocessing(_multiprocessing, loop, method):
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        assert await loop.run_in_executor(pool, double, 21) == 42


# -- Amid a load -------------------------------------------------------------------


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    return load_bytes.Place(tmp_path_factory.mktemp("load"))


async def load(place, size=1 << 21):
    """Bytes go over all kinds of transports side by side, and each is compared."""
    ways = ["tcp", "streams", "tls", "pipes", "datagrams", "sock_calls"]
    await asyncio.gather(
        *(load_bytes.WAYS[way](place, size, random.Random(way)) for way in ways)
    )


def a_loop_of_its_own(new):
    async def main():
        left, right = free_pair()
        _, writer = await asyncio.open_connection(sock=left)
        reader, other = await asyncio.open_connection(sock=right)
        writer.write(b"echo")
        writer.close()
        found = await reader.read(), await asyncio.to_thread(int)
        other.close()
        return found

    fresh = new()
    try:
        return fresh.run_until_complete(main())
    finally:
        fresh.run_until_complete(fresh.shutdown_default_executor())
        fresh.close()


def fork_and_wait():
    child = os.fork()
    if child == 0:
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.nosanitizer  # its allocator may be locked by a thread at the fork
async def test_children_amid_a_load(loop, new, place):
    """Of the loop's thread and of others; the parent's connections lose no byte."""

    async def fork_on():
        for _ in range(4):
            child = start_child(lambda: a_loop_of_its_own(new))
            forks = [asyncio.to_thread(fork_and_wait) for _ in range(3)]
            assert await asyncio.gather(*forks) == [7, 7, 7]
            assert answer_of(child) == "(b'echo', 0)"

    await asyncio.gather(load(place), fork_on())


def poll_sets():
    """{epoll descriptor: what it watches}, as the kernel has it."""
    found = {}
    for descriptor, what in descriptors().items():
        if what == "anon_inode:[eventpoll]":
            with open(f"/proc/self/fdinfo/{descriptor}") as file:
                found[descriptor] = sorted(n for n in file if n.startswith("tfd:"))
    return found


@pytest.mark.nosanitizer  # likewise
@pytest.mark.skipif(not os.path.isdir("/proc/self/fdinfo"), reason="needs Linux")
@pytest.mark.parametrize("loop_name", ["asyncfast"], indirect=True)
def test_a_child_takes_its_copy_apart(loop, place, pair):
    """Of all that the loop watches, nothing is changed for the parent."""
    ends, size, rng = [], 100_000, random.Random(1)

    async def begin():
        for tls in (False, True):
            receiver = load_bytes.Receiver(rng)
            ends.append(
                await load_bytes.connect(place, socket.AF_INET, receiver, tls=tls)
            )
        await loop.run_in_executor(None, int)
        return await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)

    def take_apart():
        for sender, receiver in ends:
            sender.transport.abort()
            receiver.transport.abort()
        loop.remove_reader(pair[0])
        loop.remove_signal_handler(signal.SIGUSR1)
        server.close()
        for _ in range(5):
            once(loop)
        loop.close()
        return "closed"

    async def go_on():
        for sender, receiver in ends:
            await load_bytes.send(sender, size, rng)
            await load_bytes.ended(sender, receiver, size)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.close()

    server = loop.run_until_complete(begin())
    loop.add_reader(pair[0], print)
    loop.add_signal_handler(signal.SIGUSR1, print)
    once(loop)
    before = poll_sets()
    assert in_child(take_apart) == "'closed'"
    assert poll_sets() == before and any(before.values())
    loop.run_until_complete(go_on())
    server.close()
    loop.remove_reader(pair[0])
    loop.remove_signal_handler(signal.SIGUSR1)


async def through_cat(data):
    process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    output, _ = await process.communicate(data)
    return output == data and process.returncode == 0


@pytest.mark.usefixtures("_multiprocessing", "threads_end")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
async def test_processes_amid_a_load(loop, place, method):
    context = multiprocessing.get_context(method)
    storm = [loop.create_task(through_cat(bytes(n * 5000))) for n in range(20)]
    busy = loop.create_task(load(place))
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        jobs = [loop.run_in_executor(pool, double, number) for number in range(20)]
        assert await asyncio.gather(*jobs) == [2 * number for number in range(20)]
    # Not before: until it ends, a forked process has the other ends of all pipes.
    assert all(await asyncio.gather(*storm))
    await busy
