"""core/loop.c: the order of callbacks, run, stop, close, and what a loop looks like."""

import asyncio
import contextvars
import gc
import socket
import threading
import time
import warnings
import weakref

import pytest
from support import PY, finish, like_asyncio, message, once

# -- Order -------------------------------------------------------------------------


def test_an_iteration_runs_queued_then_io_then_timers(loop, pair):
    order = []
    loop.call_soon(order.append, "soon")
    loop.add_reader(pair[0], order.append, "io")
    pair[1].send(b"x")
    loop.call_at(loop.time() - 1, order.append, "timer")
    once(loop)
    loop.remove_reader(pair[0])
    assert order == ["soon", "io", "timer"]


def test_what_a_batch_queues_waits_for_the_next_iteration(loop):
    order = []

    def first():
        loop.call_soon(order.append, "later")
        order.append("first")

    loop.call_soon(first)
    loop.call_soon(order.append, "second")
    once(loop)
    assert order == ["first", "second"]
    once(loop)
    assert order == ["first", "second", "later"]


def test_what_a_batch_queues_runs_before_io_that_it_caused(loop, pair):
    order = []

    def cause():
        pair[1].send(b"x")
        loop.call_soon(order.append, "queued")

    loop.add_reader(pair[0], order.append, "io")
    loop.call_soon(cause)
    once(loop)
    assert order == []
    once(loop)
    assert order[:1] == ["queued"]
    while "io" not in order:
        once(loop)
    loop.remove_reader(pair[0])


def test_call_soon_is_first_in_first_out(loop):
    order = []
    for number in range(1000):
        loop.call_soon(order.append, number)
    once(loop)
    assert order == list(range(1000))


def test_the_queue_grows_while_it_is_run(loop):
    """Each callback queues two until there are thousands."""
    count = 0

    def grow(depth):
        nonlocal count
        count += 1
        if depth:
            loop.call_soon(grow, depth - 1)
            loop.call_soon(grow, depth - 1)

    loop.call_soon(grow, 11)
    loop.call_soon(lambda: None)
    while count < 2**12 - 1:
        once(loop)
    once(loop)
    assert count == 2**12 - 1


def test_a_queue_that_never_empties_does_not_starve_a_descriptor(loop, pair):
    spins = 0

    def spin():
        nonlocal spins
        spins += 1
        if spins > 1_000_000:
            loop.stop()
        else:
            loop.call_soon(spin)

    loop.add_reader(pair[0], loop.stop)
    loop.call_soon(spin)
    loop.call_later(0, pair[1].send, b"x")
    loop.run_forever()
    loop.remove_reader(pair[0])
    assert spins < 100_000


def test_a_queue_that_never_empties_does_not_starve_a_timer(loop):
    def spin():
        loop.call_soon(spin)

    loop.call_soon(spin)
    begin = time.monotonic()
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert time.monotonic() - begin < 5


def test_a_queue_that_never_empties_does_not_starve_a_thread(loop):
    def spin():
        loop.call_soon(spin)

    loop.call_soon(spin)
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(loop.stop,))
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()


def test_slow_callbacks_do_not_put_off_a_descriptor(loop, pair):
    """Poll skipping must be bounded by time as well as by count."""
    order = []

    def slow():
        order.append("slow")
        end = time.monotonic() + 0.01
        while time.monotonic() < end:
            pass
        if len(order) < 50:
            loop.call_soon(slow)

    loop.add_reader(pair[0], lambda: (order.append("io"), loop.stop()))
    loop.call_soon(slow)
    loop.call_soon(pair[1].send, b"x")
    loop.run_forever()
    loop.remove_reader(pair[0])
    assert order.index("io") <= 6, order


# -- run_forever and stop ----------------------------------------------------------


def test_stop_before_a_run_runs_one_iteration(loop):
    ran = []

    def again():
        ran.append(1)
        loop.call_soon(again)

    loop.call_soon(again)
    once(loop)
    assert ran == [1]


def test_stop_lets_the_batch_finish(loop):
    ran = []
    loop.call_soon(loop.stop)
    loop.call_soon(ran.append, 1)
    loop.run_forever()
    assert ran == [1]


def test_stop_is_forgotten_after_the_run(loop):
    """Two stops end one run; the next needs its own."""
    loop.stop()
    loop.stop()
    loop.run_forever()
    ran = []
    loop.call_later(0.001, ran.append, 1)
    loop.call_later(0.002, loop.stop)
    loop.run_forever()
    assert ran == [1]


def test_a_loop_runs_many_times(loop):
    for _ in range(100):
        loop.call_soon(loop.stop)
        loop.run_forever()
    assert not loop.is_running()


def test_is_running_only_while_it_runs(loop):
    seen = []

    def look():
        seen.append((loop.is_running(), asyncio.get_running_loop() is loop))

    assert not loop.is_running()
    loop.call_soon(look)
    once(loop)
    assert seen == [(True, True)]
    assert not loop.is_running()
    assert asyncio._get_running_loop() is None


@pytest.mark.parametrize("how", ["run_forever", "run_until_complete"])
def test_a_running_loop_does_not_run_again(loop, run, how):
    async def main():
        awaitable = () if how == "run_forever" else (loop.create_future(),)
        with pytest.raises(RuntimeError) as info:
            getattr(loop, how)(*awaitable)
        return message(info)

    assert run(main()) == "This event loop is already running"


@pytest.mark.parametrize("how", ["run_forever", "run_until_complete"])
def test_another_loop_does_not_run_inside(loop, new, run, how):
    other = new()

    async def main():
        awaitable = () if how == "run_forever" else (other.create_future(),)
        with pytest.raises(RuntimeError) as info:
            getattr(other, how)(*awaitable)
        assert not other.is_running()
        return message(info)

    text = "Cannot run the event loop while another loop is running"
    assert run(main()) == text
    other.close()


def test_a_refused_run_leaves_the_running_loop_as_it_was(loop, loop_name, run):
    if loop_name == "asyncio" and (3, 13) <= PY < (3, 15):
        pytest.skip("asyncio forgets that it runs (fixed in 3.15)")

    async def main():
        with pytest.raises(RuntimeError):
            loop.run_forever()
        assert loop.is_running()
        assert asyncio.get_running_loop() is loop

    run(main())


def test_inside_a_stock_loop_it_does_not_run(loop):
    stock = asyncio.SelectorEventLoop()

    async def main():
        with pytest.raises(RuntimeError, match="while another loop is running"):
            loop.run_forever()

    stock.run_until_complete(main())
    stock.close()


def test_it_runs_in_another_thread(new):
    result = []

    def work():
        loop = new()
        result.append(loop.run_until_complete(asyncio.sleep(0.001, "done")))
        loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert result == ["done"]


def test_two_loops_run_side_by_side(new):
    """Each in its thread, waiting for the other: neither blocks the other."""
    loops = [new(), new()]
    events = [asyncio.Event(), asyncio.Event()]

    async def main(own, other):
        for _ in range(20):
            loops[other].call_soon_threadsafe(events[other].set)
            await events[own].wait()
            events[own].clear()
        loops[other].call_soon_threadsafe(events[other].set)

    def work(own):
        loops[own].run_until_complete(main(own, 1 - own))

    threads = [threading.Thread(target=work, args=(n,)) for n in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for loop in loops:
        loop.close()


# -- run_until_complete ------------------------------------------------------------


def test_run_until_complete_returns_and_raises(loop):
    async def good():
        return 42

    async def bad():
        raise LookupError("no")

    assert loop.run_until_complete(good()) == 42
    with pytest.raises(LookupError, match="no"):
        loop.run_until_complete(bad())


def test_run_until_complete_takes_a_future_of_its_own(loop):
    future = loop.create_future()
    loop.call_soon(future.set_result, 7)
    assert loop.run_until_complete(future) == 7
    assert loop.run_until_complete(future) == 7


def test_run_until_complete_refuses_the_future_of_another_loop(loop, new):
    other = new()
    future = other.create_future()
    with pytest.raises(ValueError) as info:
        loop.run_until_complete(future)
    other.close()
    assert message(info) == (
        "The future belongs to a different loop than the one specified as the loop "
        "argument"
    )


@pytest.mark.parametrize("thing", [None, 1, "text", object, lambda: None])
def test_run_until_complete_refuses_what_is_no_awaitable(loop, thing):
    like_asyncio(loop, lambda loop: loop.run_until_complete(thing))


def test_run_until_complete_says_when_it_was_stopped(loop):
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError) as info:
        loop.run_until_complete(future)
    assert message(info) == "Event loop stopped before Future completed."
    # Its callback is gone: completing the future does not stop the next run.
    future.set_result(None)
    ran = []
    loop.call_soon(loop.call_soon, ran.append, 1)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert ran == [1]


def test_run_until_complete_uses_the_standard_callback(loop):
    """anyio knows the root task by this very function."""
    seen = []

    async def main():
        seen.extend(cb for cb, _ in asyncio.current_task()._callbacks)

    loop.run_until_complete(main())
    assert seen == [asyncio.base_events._run_until_complete_cb]


def test_run_until_complete_runs_what_is_left_of_the_batch(loop):
    ran = []

    async def main():
        loop.call_soon(loop.call_soon, ran.append, 1)

    loop.run_until_complete(main())
    once(loop)
    assert ran == [1]


# -- Exceptions that leave ---------------------------------------------------------


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_leaves_at_once_and_the_rest_runs_later(loop, kind):
    ran = []

    def fail():
        raise kind("out")

    loop.call_soon(ran.append, 1)
    loop.call_soon(fail)
    loop.call_soon(ran.append, 2)
    with pytest.raises(kind, match="out"):
        loop.run_forever()
    assert ran == [1]
    assert not loop.is_running()
    assert asyncio._get_running_loop() is None
    once(loop)
    assert ran == [1, 2]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["timer", "reader", "threadsafe"])
def test_an_interrupt_leaves_from_every_kind_of_callback(loop, pair, kind, where):
    def fail():
        raise kind("out")

    if where == "timer":
        loop.call_later(0.001, fail)
    elif where == "reader":
        loop.add_reader(pair[0], fail)
        pair[1].send(b"x")
    else:
        loop.call_soon_threadsafe(fail)
    with pytest.raises(kind, match="out"):
        loop.run_forever()
    loop.remove_reader(pair[0])
    assert loop.run_until_complete(asyncio.sleep(0, "works")) == "works"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_a_task_leaves_and_is_its_result(loop, kind):
    async def main():
        raise kind("out")

    task = loop.create_task(main())
    with pytest.raises(kind, match="out"):
        loop.run_until_complete(task)
    assert task.done()
    assert type(task.exception()) is kind


def test_a_task_goes_on_after_the_run_was_interrupted(loop):
    def fail():
        raise KeyboardInterrupt

    async def main():
        await asyncio.sleep(0.005)
        return "finished"

    task = loop.create_task(main())
    loop.call_soon(fail)
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)
    assert not task.done()
    assert loop.run_until_complete(task) == "finished"


class Odd(BaseException):
    """Derived from no Exception."""


@pytest.mark.parametrize("kind", [ValueError, GeneratorExit, Odd])
def test_every_other_exception_is_reported_and_the_loop_goes_on(loop, reports, kind):
    def fail():
        raise kind("inside")

    ran = []
    handle = loop.call_soon(fail)
    loop.call_soon(ran.append, 1)
    once(loop)
    assert ran == [1]
    report = reports.take_one()
    assert type(report.pop("exception")) is kind
    assert report.pop("handle") is handle
    assert "Exception in callback" in report.pop("message")
    assert report == {}


def test_cancelled_error_in_a_callback_is_reported(loop, reports):
    def fail():
        raise asyncio.CancelledError

    loop.call_soon(fail)
    once(loop)
    assert type(reports.take_one()["exception"]) is asyncio.CancelledError


# -- Closing -----------------------------------------------------------------------


def test_close_is_idempotent_and_seen(loop):
    assert not loop.is_closed()
    loop.close()
    loop.close()
    assert loop.is_closed()
    assert not loop.is_running()


def test_a_running_loop_does_not_close(loop, run):
    async def main():
        with pytest.raises(RuntimeError) as info:
            loop.close()
        return message(info)

    assert run(main()) == "Cannot close a running event loop"
    assert not loop.is_closed()


def closed_calls():
    sock = socket.socket
    return {
        "call_soon": lambda loop: loop.call_soon(print),
        "call_soon_threadsafe": lambda loop: loop.call_soon_threadsafe(print),
        "call_later": lambda loop: loop.call_later(1, print),
        "call_at": lambda loop: loop.call_at(1, print),
        "run_in_executor": lambda loop: loop.run_in_executor(None, print),
        "run_forever": lambda loop: loop.run_forever(),
        "run_until_complete": lambda loop: loop.run_until_complete(
            loop.create_future()
        ),
        "add_reader": lambda loop: loop.add_reader(0, print),
        "add_writer": lambda loop: loop.add_writer(0, print),
        "add_signal_handler": lambda loop: loop.add_signal_handler(10, print),
        "remove_reader": lambda loop: loop.remove_reader(0),
        "remove_writer": lambda loop: loop.remove_writer(0),
        "remove_signal_handler": lambda loop: loop.remove_signal_handler(10),
        "create_future": lambda loop: loop.create_future(),
        "stop": lambda loop: loop.stop(),
        "close": lambda loop: loop.close(),
        "is_running": lambda loop: loop.is_running(),
        "get_debug": lambda loop: loop.get_debug(),
        "set_debug": lambda loop: loop.set_debug(False),
        "time": lambda loop: loop.time() > 0,
        "call_exception_handler": lambda loop: loop.call_exception_handler(
            {"message": "x"}
        ),
        "set_exception_handler": lambda loop: loop.set_exception_handler(None),
        "get_task_factory": lambda loop: loop.get_task_factory(),
        "remove_reader of nothing": lambda loop: loop.remove_reader(sock().fileno()),
    }


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", closed_calls())
def test_a_closed_loop_does_as_asyncio_does(loop, reports, name):
    def scenario(loop):
        loop.close()
        return closed_calls()[name](loop)

    result = like_asyncio(loop, scenario)
    if result[0] == "raised" and result[1] is RuntimeError:
        assert result[2] == "Event loop is closed"
    reports.clear()


def test_a_closed_loop_refuses_a_coroutine(loop):
    async def main():
        pass

    loop.close()
    for call in (loop.run_until_complete, loop.create_task):
        coro = main()
        with pytest.raises(RuntimeError, match="^Event loop is closed$"):
            call(coro)
        coro.close()


def test_close_drops_what_was_queued(loop):
    class Thing:
        def method(self):
            raise AssertionError("must not run")

    thing = Thing()
    gone = weakref.ref(thing)
    loop.call_soon(thing.method)
    loop.call_soon_threadsafe(thing.method)
    loop.call_later(100, thing.method)
    loop.close()
    del thing
    gc.collect()
    assert gone() is None


def test_a_forgotten_loop_warns_and_closes(new):
    loop = new()
    text = repr(loop)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del loop
        gc.collect()
    assert [str(w.message) for w in caught] == [f"unclosed event loop {text}"]
    assert caught[0].category is ResourceWarning


def test_a_closed_loop_does_not_warn(new):
    loop = new()
    loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.__del__()


# -- time --------------------------------------------------------------------------


def test_time_is_the_monotonic_clock(loop):
    before = time.monotonic()
    now = loop.time()
    assert before <= now <= time.monotonic()
    assert isinstance(now, float)


def test_time_moves_on_inside_a_callback(loop):
    times = []

    def spin():
        times.append(loop.time())
        end = time.monotonic() + 0.002
        while time.monotonic() < end:
            pass
        times.append(loop.time())

    loop.call_soon(spin)
    once(loop)
    assert times[1] - times[0] >= 0.002


def test_time_has_the_full_resolution(loop):
    """A clock in milliseconds would repeat itself."""
    seen = {loop.time() for _ in range(1000)}
    assert len(seen) > 100


# -- What a loop looks like --------------------------------------------------------


def test_it_is_an_asyncio_loop(loop):
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert isinstance(loop, asyncio.BaseEventLoop)
    assert hash(loop) == hash(loop)
    assert {loop: 1}[loop] == 1


def test_repr_tells_its_state(loop, run):
    def after_name(loop):
        return repr(loop).split(" ", 1)[1]

    async def main():
        return after_name(loop)

    assert after_name(loop) == "running=False closed=False debug=False>"
    assert run(main()) == "running=True closed=False debug=False>"
    loop.set_debug(True)
    loop.close()
    assert after_name(loop) == "running=False closed=True debug=True>"


def test_it_takes_attributes_and_weak_references(loop):
    loop.anything = 1
    assert loop.anything == 1
    assert weakref.ref(loop)() is loop


PRIVATE = (
    "_ready _scheduled _default_executor _executor_shutdown_called _closed _stopping "
    "_thread_id _debug _task_factory _exception_handler _asyncgens _check_closed "
    "_asyncgens_shutdown_called _signal_handlers _clock_resolution _current_handle "
    "_timer_handle_cancelled _add_reader _remove_reader _add_writer _remove_writer "
    "_stop_serving slow_callback_duration"
)


@pytest.mark.parametrize("name", PRIVATE.split())
def test_it_has_the_attribute_that_libraries_use(loop, name):
    assert hasattr(loop, name)


def test_ready_and_scheduled_can_be_looked_at(loop):
    loop.call_soon(print)
    timer = loop.call_later(100, print)
    assert len(loop._ready) == 1
    assert list(loop._scheduled) == [timer]
    timer.cancel()
    loop._ready.clear() if loop._ready else None


def test_create_future_belongs_to_the_loop(loop):
    future = loop.create_future()
    assert isinstance(future, asyncio.Future)
    assert future.get_loop() is loop
    assert not future.done()


def test_create_task_names_and_runs(loop, run):
    async def main():
        return asyncio.current_task().get_name()

    task = loop.create_task(main(), name="here")
    assert isinstance(task, asyncio.Task)
    assert task.get_loop() is loop
    assert run(task) == "here"


@pytest.mark.skipif(PY < (3, 11), reason="context= is new in 3.11")
def test_create_task_runs_in_a_given_context(loop, run):
    variable = contextvars.ContextVar("variable", default="outer")
    context = contextvars.copy_context()
    context.run(variable.set, "inner")

    async def main():
        return variable.get()

    assert run(loop.create_task(main(), context=context)) == "inner"
    assert run(main()) == "outer"


def test_a_task_factory_makes_the_tasks(loop, run):
    made = []

    def factory(loop, coro, **kwargs):
        made.append(coro)
        return asyncio.Task(coro, loop=loop, **kwargs)

    async def main():
        return 1

    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    coro = main()
    assert run(coro) == 1
    assert made == [coro]
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None


def test_a_task_factory_must_be_callable(loop):
    like_asyncio(loop, lambda loop: loop.set_task_factory(1))


@pytest.mark.skipif(PY < (3, 12), reason="eager tasks are new in 3.12")
def test_eager_tasks_start_at_once(loop):
    order = []

    async def child():
        order.append("child")
        await asyncio.sleep(0)
        order.append("child again")

    async def main():
        task = loop.create_task(child())
        order.append("main")
        await task

    loop.set_task_factory(asyncio.eager_task_factory)
    loop.run_until_complete(main())
    assert order == ["child", "main", "child again"]


def test_all_tasks_and_current_task(loop, run):
    async def main():
        me = asyncio.current_task()
        other = loop.create_task(asyncio.sleep(0))
        assert asyncio.all_tasks() == {me, other}
        seen = []
        loop.call_soon(lambda: seen.append(asyncio.current_task(loop)))
        await other
        assert seen == [None]
        assert asyncio.all_tasks() == {me}

    run(main())


def test_it_works_with_the_callbacks_of_another_thread_of_python(loop, run):
    """contextvars: a callback sees the context of the one who queued it."""
    variable = contextvars.ContextVar("variable", default=0)
    seen = []

    def queue(value):
        variable.set(value)
        loop.call_soon(lambda: seen.append(variable.get()))

    for value in (1, 2, 3):
        contextvars.copy_context().run(queue, value)
    once(loop)
    assert seen == [1, 2, 3]
    assert variable.get() == 0


def test_an_overridden_method_of_the_instance_is_used(loop, run):
    """Instance attributes win, as with a Python class."""
    calls = []
    original = loop.call_soon

    def call_soon(callback, *args, **kwargs):
        calls.append(callback)
        return original(callback, *args, **kwargs)

    loop.call_soon = call_soon
    run(asyncio.sleep(0))
    del loop.call_soon
    assert calls


def test_a_loop_of_a_subclass_runs(loop):
    class Mine(type(loop)):
        def __init__(self):
            super().__init__()
            self.mine = True

        def call_exception_handler(self, context):
            self.context = context

    mine = Mine()
    mine.call_soon(lambda: 1 / 0)
    assert mine.run_until_complete(asyncio.sleep(0, "ran")) == "ran"
    assert type(mine.context["exception"]) is ZeroDivisionError
    finish(mine)
