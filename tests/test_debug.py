"""Debug mode: its checks, its log of slow callbacks, its source tracebacks."""

import asyncio
import logging
import re
import sys
import threading

import pytest
from support import busy, connected, like_asyncio, message, once, python


@pytest.fixture(autouse=True)
def debug(loop):
    loop.set_debug(True)


def texts(caplog, level=logging.WARNING):
    found = [r for r in caplog.records if r.name == "asyncio" and r.levelno >= level]
    return [record.getMessage() for record in found]


def executed(caplog, what):
    """The log of slow callbacks that tells of `what`.

    A loaded machine may make any other callback slow, too.
    """
    return [t for t in texts(caplog) if t.startswith("Executing") and what in t]


# -- Slow callbacks ----------------------------------------------------------------


def test_a_slow_callback_is_logged(loop, caplog):
    loop.slow_callback_duration = 0.005
    loop.call_soon(busy, 0.01)
    once(loop)
    [text] = texts(caplog)
    assert text.startswith("Executing <Handle busy(0.01) at ")
    assert re.search(r" took \d+\.\d{3} seconds$", text)
    assert float(text.split()[-2]) >= 0.01


@pytest.mark.parametrize("how", ["timer", "reader", "threadsafe"])
def test_slow_callbacks_of_every_kind_are_logged(loop, caplog, pair, how):
    def slow():
        loop.remove_reader(pair[0])
        busy(0.01)

    loop.slow_callback_duration = 0.005
    if how == "timer":
        loop.call_at(0, slow)
    elif how == "reader":
        loop.add_reader(pair[0], slow)
        pair[1].send(b"x")
    else:
        loop.call_soon_threadsafe(slow)
    once(loop)
    once(loop)
    assert len(executed(caplog, ".slow()")) == 1


def test_a_slow_task_is_logged_as_a_task(loop, caplog):
    async def slow():
        busy(0.01)

    loop.slow_callback_duration = 0.005
    loop.run_until_complete(slow())
    [text] = executed(caplog, ".slow() ")
    assert text.startswith("Executing <Task ")


def test_a_quick_callback_is_not_logged(loop, caplog):
    loop.slow_callback_duration = 1000
    loop.call_soon(busy, 0.01)
    once(loop)
    assert texts(caplog) == []


def test_zero_logs_everything(loop, caplog):
    loop.slow_callback_duration = 0
    loop.call_soon(int)
    once(loop)
    assert len(texts(caplog)) == 1


def test_without_debug_mode_nothing_is_logged(loop, caplog):
    loop.set_debug(False)
    loop.slow_callback_duration = 0
    loop.call_soon(int)
    once(loop)
    assert texts(caplog) == []


def test_debug_mode_can_be_changed_while_running(loop, caplog):
    loop.set_debug(False)
    loop.slow_callback_duration = 0
    loop.call_soon(loop.set_debug, True)
    loop.call_soon(int)
    once(loop)
    loop.call_soon(int)
    once(loop)
    assert loop.get_debug() is True
    assert executed(caplog, "int()")
    caplog.clear()
    loop.call_soon(loop.set_debug, False)
    once(loop)
    caplog.clear()
    loop.call_soon(int)
    once(loop)
    assert texts(caplog) == []


def test_the_threshold_is_a_number_of_seconds(loop):
    assert loop.slow_callback_duration == 0.1
    loop.slow_callback_duration = 5
    assert loop.slow_callback_duration == 5


# -- Checks ------------------------------------------------------------------------


async def coroutine_function():
    pass


def wrong_callbacks():
    coro = coroutine_function()
    coro.close()
    return {
        "coroutine": coro,
        "coroutine function": coroutine_function,
        "none": None,
        "number": 5,
        "text": "print",
    }


CALLS = {
    "call_soon": lambda loop, callback: loop.call_soon(callback),
    "call_soon_threadsafe": lambda loop, callback: loop.call_soon_threadsafe(callback),
    "call_later": lambda loop, callback: loop.call_later(1, callback),
    "call_at": lambda loop, callback: loop.call_at(1, callback),
    "run_in_executor": lambda loop, callback: loop.run_in_executor(None, callback),
}


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize("what", wrong_callbacks())
def test_a_wrong_callback_is_refused(loop, method, what):
    def scenario(loop):
        loop.set_debug(True)
        CALLS[method](loop, wrong_callbacks()[what])

    assert like_asyncio(loop, scenario)[1] is TypeError


def in_thread(call):
    result = []

    def work():
        try:
            result.append(call())
        except Exception as error:
            result.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return result[0]


@pytest.mark.parametrize("method", ["call_soon", "call_later", "call_at"])
def test_another_thread_is_refused_while_the_loop_runs(loop, run, method):
    async def main():
        return in_thread(lambda: CALLS[method](loop, print))

    error = run(main())
    assert type(error) is RuntimeError
    assert str(error) == (
        "Non-thread-safe operation invoked on an event loop other than the current one"
    )


def test_another_thread_may_use_call_soon_threadsafe(loop, run):
    async def main():
        return in_thread(lambda: loop.call_soon_threadsafe(int))

    assert isinstance(run(main()), asyncio.Handle)


def test_another_thread_may_use_a_loop_that_does_not_run(loop):
    handle = in_thread(lambda: loop.call_soon(int))
    assert isinstance(handle, asyncio.Handle)
    once(loop)


# -- Source tracebacks -------------------------------------------------------------


def last_line(traceback):
    """(file, name of the function) of the innermost frame."""
    frame = traceback[-1]
    return frame.filename.rpartition("/")[2], frame.name


@pytest.mark.parametrize("method", ["call_soon", "call_later", "call_soon_threadsafe"])
def test_a_handle_knows_who_made_it(loop, method):
    def maker():
        return CALLS[method](loop, int)

    handle = maker()
    assert last_line(handle._source_traceback) == ("test_debug.py", "<lambda>")
    names = [frame.name for frame in handle._source_traceback]
    assert names[-2] == "maker"
    handle.cancel()


def test_tasks_and_futures_know_who_made_them(loop, run):
    async def child():
        pass

    def make_task():
        return loop.create_task(child())

    def make_future():
        return loop.create_future()

    task, future = make_task(), make_future()
    assert last_line(task._source_traceback) == ("test_debug.py", "make_task")
    # asyncio leaves its own create_future() in.
    names = [frame.name for frame in future._source_traceback[-2:]]
    assert "make_future" in names
    run(task)


@pytest.mark.parametrize("still", [True, False], ids=["on", "off again"])
def test_a_report_tells_where_the_callback_was_made(loop, reports, still):
    def fail():
        raise ValueError

    def maker():
        loop.call_soon(fail)

    maker()
    loop.set_debug(still)
    once(loop)
    report = reports.take_one()
    assert last_line(report["source_traceback"]) == ("test_debug.py", "maker")


def test_a_report_inside_a_callback_tells_the_callback(loop, caplog):
    """The default handler adds where the running callback was made."""
    loop.set_exception_handler(None)

    def callback():
        loop.call_exception_handler({"message": "from inside"})

    loop.call_soon(callback)
    once(loop)
    [text] = texts(caplog, logging.ERROR)
    first, second, *_ = text.splitlines()
    assert first == "from inside"
    assert second == "handle_traceback: Handle created at (most recent call last):"
    assert text.endswith("loop.call_soon(callback)")


def test_without_debug_mode_there_are_none(loop):
    loop.set_debug(False)
    assert loop.call_soon(int)._source_traceback is None
    assert loop.create_future()._source_traceback is None
    once(loop)


# -- The rest of it ----------------------------------------------------------------


def test_the_origin_of_coroutines_is_tracked_while_running(loop, run):
    async def main():
        return sys.get_coroutine_origin_tracking_depth()

    before = sys.get_coroutine_origin_tracking_depth()
    assert run(main()) > 0
    assert sys.get_coroutine_origin_tracking_depth() == before


async def test_tracking_can_be_switched_while_running(loop):
    loop.set_debug(False)
    await asyncio.sleep(0.001)
    assert sys.get_coroutine_origin_tracking_depth() == 0
    loop.set_debug(True)
    await asyncio.sleep(0.001)
    assert sys.get_coroutine_origin_tracking_depth() > 0


async def test_connections_work_in_debug_mode(loop, caplog):
    caplog.set_level(logging.DEBUG, "asyncio")
    async with connected(loop) as (transport, protocol, peer):
        peer.send(b"x")
        await protocol.received(1)
        transport.write(b"y")
        assert await loop.sock_recv(peer, 10) == b"y"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_leaves_the_loop_in_debug_mode_too(loop, kind):
    def callback():
        raise kind("out")

    loop.call_soon(callback)
    with pytest.raises(kind, match="out"):
        loop.run_forever()
    assert loop.run_until_complete(asyncio.sleep(0, "works")) == "works"


def test_the_environment_switches_it_on(loop_name):
    code = (
        "import sys; from support import new_loop\n"
        f"loop = new_loop({loop_name!r}); print(loop.get_debug()); loop.close()"
    )
    plain = {"PYTHONASYNCIODEBUG": ""}
    assert python("-c", code, env=plain).stdout == "False\n"
    assert python("-c", code, env={"PYTHONASYNCIODEBUG": "1"}).stdout == "True\n"
    assert python("-X", "dev", "-c", code, env=plain).stdout == "True\n"


def test_the_message_of_a_closed_loop_is_the_same(loop):
    loop.close()
    with pytest.raises(RuntimeError) as info:
        loop.call_soon(print)
    assert message(info) == "Event loop is closed"
