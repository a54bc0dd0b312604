"""asyncfast/signals.py: signal handlers, the wake-up descriptor, Ctrl-C."""

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import threading

import pytest
from support import descriptors, like_asyncio, once, python, until


def kill(signum):
    os.kill(os.getpid(), signum)


@pytest.fixture(autouse=True)
def dispositions():
    """Every disposition and the wake-up descriptor are put back."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


# -- add_signal_handler ------------------------------------------------------------


def handle_one(loop):
    """Let the loop take one SIGUSR1; return what its handler was called with."""
    got = []
    assert loop.add_signal_handler(signal.SIGUSR1, got.append, 1) is None
    loop.call_soon(kill, signal.SIGUSR1)
    loop.run_until_complete(until(lambda: got))
    return got


def test_a_handler_is_called_with_its_arguments(loop):
    assert handle_one(loop) == [1]
    assert loop.remove_signal_handler(signal.SIGUSR1) is True


def test_it_wakes_a_sleeping_loop(loop):
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    timer = threading.Timer(0.02, kill, (signal.SIGUSR1,))
    timer.start()
    loop.run_forever()
    timer.join()
    loop.remove_signal_handler(signal.SIGUSR1)


def test_it_runs_as_a_callback_of_the_loop(loop):
    """Not inside another callback: the loop's own order holds."""
    order = []

    def callback():
        kill(signal.SIGUSR1)
        order.append("callback")

    loop.add_signal_handler(signal.SIGUSR1, order.append, "handler")
    loop.call_soon(callback)
    loop.run_until_complete(until(lambda: len(order) == 2))
    assert order == ["callback", "handler"]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_a_signal_between_two_runs_is_not_lost(loop):
    got = []
    loop.add_signal_handler(signal.SIGUSR1, got.append, 1)
    kill(signal.SIGUSR1)
    assert got == []
    loop.run_until_complete(until(lambda: got))
    loop.remove_signal_handler(signal.SIGUSR1)


def test_a_second_handler_replaces_the_first(loop):
    got = []
    loop.add_signal_handler(signal.SIGUSR1, got.append, "old")
    loop.add_signal_handler(signal.SIGUSR1, got.append, "new")
    loop.call_soon(kill, signal.SIGUSR1)
    loop.run_until_complete(until(lambda: got))
    assert got == ["new"]
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGUSR1) is False


def test_two_signals_have_two_handlers(loop):
    got = set()
    loop.add_signal_handler(signal.SIGUSR1, got.add, 1)
    loop.add_signal_handler(signal.SIGUSR2, got.add, 2)
    kill(signal.SIGUSR2)
    kill(signal.SIGUSR1)
    loop.run_until_complete(until(lambda: len(got) == 2))
    assert loop.remove_signal_handler(signal.SIGUSR1)
    loop.call_soon(kill, signal.SIGUSR2)
    got.clear()
    loop.run_until_complete(until(lambda: got))
    assert got == {2}
    loop.remove_signal_handler(signal.SIGUSR2)


def test_every_signal_is_handled(loop, loop_name):
    """More at once than a socket's buffer holds; none is merged, each was taken."""
    count = 200 if loop_name == "asyncio" else 10_000
    got = []
    loop.add_signal_handler(signal.SIGUSR1, got.append, 1)

    async def main():
        for _ in range(count):
            kill(signal.SIGUSR1)
        await until(lambda: len(got) == count)

    loop.run_until_complete(main())
    loop.remove_signal_handler(signal.SIGUSR1)


def test_remove_restores_the_default(loop):
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.add_signal_handler(signal.SIGINT, print)
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.remove_signal_handler(signal.SIGINT)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_close_removes_all_handlers(new):
    loop = new()
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.add_signal_handler(signal.SIGUSR2, print)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL


def test_sigchld_is_free_for_the_user(loop):
    got = []
    loop.add_signal_handler(signal.SIGCHLD, got.append, 1)
    with subprocess.Popen(["true"]):
        loop.run_until_complete(until(lambda: got))
    loop.remove_signal_handler(signal.SIGCHLD)


def test_a_handler_that_raises_is_reported(loop, reports):
    loop.add_signal_handler(signal.SIGUSR1, lambda: 1 / 0)
    loop.call_soon(kill, signal.SIGUSR1)
    loop.run_until_complete(until(lambda: reports))
    assert type(reports.take_one()["exception"]) is ZeroDivisionError
    loop.remove_signal_handler(signal.SIGUSR1)


async def coroutine_function():
    pass


BAD = {
    "SIGKILL": lambda loop: loop.add_signal_handler(signal.SIGKILL, print),
    "SIGSTOP": lambda loop: loop.add_signal_handler(signal.SIGSTOP, print),
    "no number": lambda loop: loop.add_signal_handler("SIGUSR1", print),
    "none": lambda loop: loop.add_signal_handler(None, print),
    "too big": lambda loop: loop.add_signal_handler(1000, print),
    "zero": lambda loop: loop.add_signal_handler(0, print),
    "negative": lambda loop: loop.add_signal_handler(-1, print),
    "coroutine function": lambda loop: loop.add_signal_handler(
        signal.SIGUSR1, coroutine_function
    ),
    "remove SIGKILL": lambda loop: loop.remove_signal_handler(signal.SIGKILL),
    "remove no number": lambda loop: loop.remove_signal_handler("SIGUSR1"),
    "remove too big": lambda loop: loop.remove_signal_handler(1000),
    "remove none there": lambda loop: loop.remove_signal_handler(signal.SIGUSR1),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_signals_are_refused_as_asyncio_does(loop, what):
    like_asyncio(loop, BAD[what])
    assert loop.run_until_complete(asyncio.sleep(0, "works")) == "works"


def test_in_another_thread_it_is_refused(new):
    result = []

    def work():
        loop = new()
        try:
            loop.add_signal_handler(signal.SIGUSR1, print)
        except Exception as error:
            result.append((type(error), str(error)))
        loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert result[0][0] is RuntimeError
    assert "main thread" in result[0][1]


# -- The wake-up descriptor --------------------------------------------------------


@pytest.fixture
def wakeup():
    """A descriptor that the program has a use of its own for."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    previous = signal.set_wakeup_fd(-1)
    yield writer
    signal.set_wakeup_fd(previous)
    os.close(reader)
    os.close(writer)


def test_the_wakeup_descriptor_is_given_back(loop, wakeup):
    signal.set_wakeup_fd(wakeup)
    once(loop)
    assert signal.set_wakeup_fd(-1) == wakeup


def test_the_wakeup_descriptor_may_be_taken_while_the_loop_runs(loop, wakeup):
    loop.call_soon(signal.set_wakeup_fd, wakeup)
    once(loop)
    assert signal.set_wakeup_fd(-1) == wakeup


def test_after_close_nothing_points_at_the_loop(new):
    loop = new()
    loop.add_signal_handler(signal.SIGUSR1, print)
    once(loop)
    loop.close()
    assert signal.set_wakeup_fd(-1) == -1


def strangers():
    """Files that may get the numbers of those that were closed just now."""
    pipes = [os.pipe() for _ in range(8)]
    for _, writer in pipes:
        os.set_blocking(writer, False)
    return pipes


def assert_nothing_came(pipes):
    for reader, writer in pipes:
        os.close(writer)
        assert os.read(reader, 100) == b""
        os.close(reader)


def test_signals_reach_no_file_that_has_the_number_of_a_closed_loops(new):
    """One whose wake-up descriptor another loop was to give back."""
    first, second = new(), new()
    first.add_signal_handler(signal.SIGUSR1, print)
    once(first)
    second.call_soon(first.close)
    signal.signal(signal.SIGUSR2, lambda *_: None)
    pipes = []
    second.call_soon(lambda: pipes.extend(strangers()))
    once(second)
    kill(signal.SIGUSR2)
    assert_nothing_came(pipes)
    second.close()


@pytest.mark.parametrize("loop_name", ["asyncfast"], indirect=True)
def test_signals_reach_no_file_when_another_thread_closed_the_loop(new):
    """It can't give the wake-up descriptor back."""
    loop = new()
    loop.add_signal_handler(signal.SIGUSR1, print)
    thread = threading.Thread(target=loop.close)
    thread.start()
    thread.join()
    pipes = strangers()
    kill(signal.SIGUSR1)
    assert_nothing_came(pipes)
    os.close(signal.set_wakeup_fd(-1))


def test_two_loops_one_after_the_other(new):
    for _ in range(3):
        loop = new()
        assert handle_one(loop) == [1]
        loop.close()


@pytest.fixture
def no_descriptors():
    """The process has no descriptor left, until it calls this."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []

    def give_back():
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        while taken:
            os.close(taken.pop())

    resource.setrlimit(resource.RLIMIT_NOFILE, (max(descriptors()) + 1, before[1]))
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.dup(0))
    yield give_back
    give_back()


def test_a_run_for_want_of_descriptors_leaves_nothing_running(loop, no_descriptors):
    """It may run nevertheless, or fail; after that it runs."""
    with contextlib.suppress(OSError):
        once(loop)
    assert asyncio._get_running_loop() is None
    assert not loop.is_running()
    no_descriptors()
    assert loop.run_until_complete(asyncio.sleep(0, "works")) == "works"
    assert handle_one(loop) == [1]
    loop.remove_signal_handler(signal.SIGUSR1)


# -- Python's own handlers ---------------------------------------------------------


def test_a_plain_python_handler_runs_while_the_loop_sleeps(loop):
    """Nothing else is there to end the sleep."""
    signal.signal(signal.SIGUSR1, lambda *args: loop.call_soon_threadsafe(loop.stop))
    timer = threading.Timer(0.02, kill, (signal.SIGUSR1,))
    timer.start()
    loop.run_forever()
    timer.join()


class Stop(BaseException):
    """Raised by a handler; nothing of asyncio's."""


def raise_stop(signum, frame):
    raise Stop


def test_a_plain_python_handler_that_raises_ends_the_run(loop):
    signal.signal(signal.SIGUSR1, raise_stop)
    timer = threading.Timer(0.02, kill, (signal.SIGUSR1,))
    timer.start()
    with pytest.raises(Stop):
        loop.run_forever()
    timer.join()
    assert not loop.is_running()


def test_so_does_one_whose_signal_another_thread_gets(loop):
    """The loop's wait isn't interrupted then, but ended by the wake-up descriptor."""

    def kill_here():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        kill(signal.SIGUSR1)

    loop.add_signal_handler(signal.SIGUSR2, print)  # asyncio takes it only now
    signal.signal(signal.SIGUSR1, raise_stop)
    timer = threading.Timer(0.02, kill_here)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    timer.start()
    try:
        with pytest.raises(Stop):
            loop.run_forever()
    finally:
        timer.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    loop.remove_signal_handler(signal.SIGUSR2)


def test_ctrl_c_leaves_an_idle_loop_at_once(loop):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.02, kill, (signal.SIGINT,))
    timer.start()
    with pytest.raises(KeyboardInterrupt) as info:
        loop.run_forever()
    assert type(info.value) is KeyboardInterrupt  # the guard's would be a Hang
    timer.join()
    assert loop.run_until_complete(asyncio.sleep(0, "works")) == "works"


def test_ctrl_c_leaves_a_busy_loop_at_once(loop):
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def spin():
        loop.call_soon(spin)

    spin()
    timer = threading.Timer(0.02, kill, (signal.SIGINT,))
    timer.start()
    with pytest.raises(KeyboardInterrupt) as info:
        loop.run_forever()
    assert type(info.value) is KeyboardInterrupt
    timer.join()


CTRL_C = """
import asyncio, os, signal, sys, threading
from support import new_loop

async def main():
    try:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        raise

if sys.argv[1] == "asyncfast":
    import asyncfast
    asyncfast.run(main())
else:
    asyncio.run(main())
"""


def test_ctrl_c_in_run_cancels_the_main_task(loop_name):
    done = python("-c", CTRL_C, loop_name, check=False)
    assert done.stdout == "cancelled\n"
    assert "KeyboardInterrupt" in done.stderr
    assert done.returncode == -signal.SIGINT


def test_an_interrupt_at_the_end_leaves_no_loop_running(loop, run, monkeypatch):
    """Ctrl-C while run_forever() gives the wake-up descriptor back."""

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    loop.call_soon(monkeypatch.setattr, signal, "set_wakeup_fd", interrupt)
    loop.call_soon(loop.stop)
    with contextlib.suppress(KeyboardInterrupt):
        loop.run_forever()
    monkeypatch.undo()
    assert not loop.is_running()
    assert run(asyncio.sleep(0, "runs again")) == "runs again"
