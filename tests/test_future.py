"""Futures: states and errors, callbacks, reports, subclasses, the collector.

Most of it is tried on the futures of both loops, and on asyncfast's own class wherever
it was made; asyncio's are the oracle.
"""

import asyncio
import contextvars
import functools
import gc
import sys
import types
import weakref

import pytest
from support import PY, message, normalise, once, python, turns

import asyncfast

VARIABLE = contextvars.ContextVar("variable", default="none")


@pytest.fixture(params=["of the loop", "class"])
def make(request, loop, loop_name):
    """Makes a future of the loop under test, in either way."""
    if request.param == "of the loop":
        return loop.create_future
    cls = asyncio.Future if loop_name == "asyncio" else asyncfast.Future
    return lambda: cls(loop=loop)


@pytest.fixture
def cls(loop_name):
    return asyncio.Future if loop_name == "asyncio" else asyncfast.Future


def settled(loop):
    """Two iterations: a callback, and what it scheduled."""
    once(loop)
    once(loop)


# -- What it is --------------------------------------------------------------------


def test_the_class_of_a_loops_futures(loop, loop_name):
    future = loop.create_future()
    assert isinstance(future, asyncio.Future)
    assert asyncio.isfuture(future)
    if loop_name == "asyncfast":
        assert type(future) is asyncfast.Future
        assert issubclass(asyncfast.Future, asyncio.Future)
        assert issubclass(asyncfast.Task, asyncfast.Future)


def test_a_fresh_future(make, loop):
    future = make()
    assert not future.done() and not future.cancelled()
    assert future._state == "PENDING"
    assert future.get_loop() is loop is future._loop
    assert future._callbacks is None or future._callbacks == []
    assert future._result is future._exception is None
    assert future._log_traceback is False
    assert future._asyncio_future_blocking is False
    assert future._source_traceback is None
    assert future._cancel_message is None
    assert repr(future) == "<Future pending>"


def test_the_loop_of_a_future_may_be_the_current_one(loop, cls):
    async def main():
        return cls().get_loop()

    assert loop.run_until_complete(main()) is loop


def test_attributes_and_weak_references(make):
    future = make()
    future.colour = "red"
    assert future.colour == "red"
    watch = weakref.ref(future)
    assert watch() is future
    del future
    assert watch() is None


def test_the_dict_of_a_dead_future_is_not_that_of_the_next(make):
    for _ in range(20):
        future = make()
        assert not hasattr(future, "colour")
        future.colour = "red"
        del future


def test_nothing_of_a_dead_future_shows_in_the_next(make, loop):
    for _ in range(20):
        future = make()
        assert repr(future) == "<Future pending>"
        future._asyncio_future_blocking = True
        future.cancel("message")
        del future
        failed = make()
        assert failed._cancel_message is None and not failed._asyncio_future_blocking
        failed.set_exception(LookupError())
        failed.exception()
        del failed


def test_the_generic_alias(cls):
    alias = cls[int]
    assert isinstance(alias, types.GenericAlias)
    assert alias.__origin__ is cls and alias.__args__ == (int,)


# -- States and errors -------------------------------------------------------------


def test_results_and_exceptions(make):
    done, failed, cancelled = make(), make(), make()
    done.set_result(42)
    assert done.result() == 42 and done.exception() is None
    assert repr(done) == "<Future finished result=42>"
    error = LookupError("gone")
    failed.set_exception(error)
    assert failed.exception() is error
    with pytest.raises(LookupError) as info:
        failed.result()
    assert info.value is error
    assert repr(failed) == "<Future finished exception=LookupError('gone')>"
    assert cancelled.cancel("why") is True
    assert cancelled.cancelled() and cancelled.done()
    assert cancelled.cancel() is False
    assert repr(cancelled) == "<Future cancelled>"
    with pytest.raises(asyncio.CancelledError) as info:
        cancelled.result()
    assert info.value.args == ("why",)


def test_the_texts_of_what_may_not_be_done(make):
    future = make()
    for call, text in (
        (future.result, "Result is not set."),
        (future.exception, "Exception is not set."),
    ):
        with pytest.raises(asyncio.InvalidStateError) as info:
            call()
        assert message(info) == text
    future.set_result(1)
    for call in future.set_result, lambda _: future.set_exception(ValueError()):
        with pytest.raises(asyncio.InvalidStateError, match="invalid state"):
            call(2)
    assert future.result() == 1
    with pytest.raises(TypeError):
        future.set_result()
    with pytest.raises(TypeError):
        future.set_result(1, 2)


def test_exceptions_that_are_none(make):
    future = make()
    with pytest.raises(TypeError):
        future.set_exception(42)
    if PY < (3, 13):
        with pytest.raises(TypeError, match="StopIteration interacts badly"):
            future.set_exception(StopIteration)
        assert not future.done()
    else:
        future.set_exception(StopIteration)
        assert isinstance(future.exception(), RuntimeError)


def test_attributes_that_may_not_be_set(make):
    future = make()
    with pytest.raises(ValueError, match="_log_traceback can only be set to False"):
        future._log_traceback = True
    future._log_traceback = False
    with pytest.raises(AttributeError):
        del future._asyncio_future_blocking
    with pytest.raises(AttributeError):
        del future._log_traceback
    with pytest.raises(AttributeError):
        future._callbacks = []


def test_uninitialised(cls, loop):
    class Hollow(cls):
        def __init__(self):
            pass

    told = []
    for future in (cls.__new__(cls), Hollow()):
        for call in (
            future.get_loop,
            future.result,
            future.exception,
            future.cancel,
            lambda future=future: iter(future),
            lambda future=future: future.set_result(1),
            lambda future=future: future.set_exception(ValueError()),
            lambda future=future: future.add_done_callback(print),
            lambda future=future: future.remove_done_callback(print),
        ):
            with pytest.raises((RuntimeError, asyncio.InvalidStateError)) as info:
                call()
            told.append(message(info))
    assert told[: len(told) // 2] == told[len(told) // 2 :]
    assert told.count("Future object is not initialized.") >= 12, told

    async def wait():
        await cls.__new__(cls)

    with pytest.raises(RuntimeError, match="not initialized|different loop"):
        loop.run_until_complete(wait())


@pytest.mark.skipif(PY >= (3, 15), reason="may be initialized only once from 3.15 on")
def test_initialised_again(make, loop, cls):
    future = make()
    future.set_exception(LookupError())
    future.exception()
    future.add_done_callback(print)
    cls.__init__(future, loop=loop)
    assert repr(future) == "<Future pending>"
    future.set_result(1)
    assert future.result() == 1
    with pytest.raises(TypeError):
        future.__init__(42)


def test_unbound_methods_of_asyncio_work(make, loop):
    future, called = make(), []
    asyncio.Future.add_done_callback(future, called.append)
    assert asyncio.Future.remove_done_callback(future, called.append) == 1
    asyncio.Future.add_done_callback(future, called.append)
    asyncio.Future.set_result(future, 42)
    settled(loop)
    assert called == [future] and asyncio.Future.result(future) == 42
    assert asyncio.Future.cancel(make()) is True


# -- Callbacks ---------------------------------------------------------------------


def test_callbacks_run_in_their_order_and_context(make, loop):
    future, seen = make(), []
    context = contextvars.copy_context()
    context.run(VARIABLE.set, "given")
    VARIABLE.set("when added")
    for number in range(3):
        future.add_done_callback(lambda f, n=number: seen.append((n, VARIABLE.get())))
    future.add_done_callback(lambda f: seen.append(VARIABLE.get()), context=context)
    VARIABLE.set("later")
    future.set_result(None)
    assert not seen
    settled(loop)
    assert seen == [(n, "when added") for n in range(3)] + ["given"]


def test_a_context_of_none_is_the_one_at_the_end(make, loop):
    future, seen = make(), []
    VARIABLE.set("when added")
    future.add_done_callback(lambda f: seen.append(VARIABLE.get()), context=None)
    future.add_done_callback(lambda f: seen.append(VARIABLE.get()), context=None)
    VARIABLE.set("at the end")
    future.set_result(None)
    settled(loop)
    assert seen == ["at the end"] * 2


def test_a_callback_on_a_done_future_is_scheduled_at_once(make, loop):
    future, called = make(), []
    future.set_result(None)
    future.add_done_callback(called.append)
    assert not called and not future._callbacks
    settled(loop)
    assert called == [future]


@pytest.mark.parametrize("first", [0, 1, 2])
def test_removing_callbacks(make, loop, first):
    future, called = make(), []
    callbacks = [lambda f, n=n: called.append(n) for n in range(3)]
    for callback in [*callbacks, callbacks[first]]:
        future.add_done_callback(callback)
    assert [callback for callback, _ in future._callbacks][:3] == callbacks
    assert future.remove_done_callback(callbacks[first]) == 2
    assert future.remove_done_callback(callbacks[first]) == 0
    future.set_result(None)
    settled(loop)
    assert called == [n for n in range(3) if n != first]


def test_callbacks_are_compared_by_value(make):
    class Same:
        def __eq__(self, other):
            return True

        __hash__ = None

        def __call__(self, future):
            raise AssertionError

    future = make()
    future.add_done_callback(Same())
    future.add_done_callback(print)
    assert future.remove_done_callback(Same()) == 2


def test_a_comparison_may_fail_or_change_the_callbacks(make):
    class Evil:
        def __init__(self, act):
            self.act = act

        def __eq__(self, other):
            return self.act()

        __hash__ = None

        def __call__(self, future):
            pass

    def fail():
        raise LookupError

    def change():
        future.set_result(None)
        return False

    future = make()
    for _ in range(3):
        future.add_done_callback(Evil(fail))
    with pytest.raises(LookupError):
        future.remove_done_callback(print)
    future = make()
    for _ in range(3):
        future.add_done_callback(Evil(change))
    future.remove_done_callback(Evil(change))
    gc.collect()


def test_a_callback_may_do_anything_to_its_future(make, loop, reports):
    future, seen = make(), []

    def callback(done):
        done.remove_done_callback(callback)
        done.add_done_callback(seen.append)
        assert asyncio.current_task() is None
        raise LookupError("from a callback")

    future.add_done_callback(callback)
    future.set_result(1)
    settled(loop)
    assert seen == [future]
    report = reports.take_one()
    assert str(report["exception"]) == "from a callback"
    assert report["message"].startswith("Exception in callback")


@pytest.mark.parametrize("end", ["result", "exception", "cancel"])
def test_a_call_soon_that_fails_does_so_to_who_ends_the_future(make, loop, end):
    def refuse(*args, **kwargs):
        raise MemoryError("no more")

    future, called = make(), []
    future.add_done_callback(called.append)
    future.add_done_callback(called.append)
    loop.call_soon = refuse
    try:
        with pytest.raises(MemoryError, match="no more"):
            if end == "result":
                future.set_result(1)
            elif end == "exception":
                future.set_exception(LookupError())
            else:
                future.cancel()
    finally:
        del loop.call_soon
    assert future.done() and not future._callbacks
    if end == "exception":
        future.exception()


def test_a_closed_loop_schedules_no_callback(new):
    loop = new()
    future, silent = loop.create_future(), loop.create_future()
    future.add_done_callback(print)
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        future.set_result(1)
    silent.set_result(2)
    assert silent.result() == 2


# -- Awaiting ----------------------------------------------------------------------


async def test_awaiting_what_is_done(make):
    future = make()
    future.set_result(42)
    assert [await future, await future] == [42, 42]
    assert future._asyncio_future_blocking is False


def test_by_hand(make):
    future = make()
    iterator = iter(future)
    assert next(iterator) is future
    assert future._asyncio_future_blocking is True
    with pytest.raises(RuntimeError, match="await wasn't used with future"):
        next(iterator)
    future.set_result(42)
    with pytest.raises(StopIteration) as info:
        iter(future).send(None)
    assert info.value.value == 42


def frames(error):
    """How many frames a traceback has."""
    count, traceback = 0, error.__traceback__
    while traceback:
        count, traceback = count + 1, traceback.tb_next
    return count


async def test_the_traceback_of_an_exception_awaited_twice_does_not_grow(make, loop):
    future = make()
    try:
        raise LookupError("once")
    except LookupError as error:
        future.set_exception(error)
    lengths = []
    for _ in range(4):
        with pytest.raises(LookupError) as info:
            await future
        lengths.append(frames(info.value))
    if PY >= (3, 11):
        assert len(set(lengths[1:])) == 1, lengths


async def test_several_wait_for_one(make, loop):
    future, order = make(), []

    async def wait(number):
        order.append((number, await future))

    tasks = [loop.create_task(wait(number)) for number in range(4)]
    await turns(1)
    assert len(future._callbacks) == 4
    assert "4 more" not in repr(future) and "cb=[" in repr(future)
    future.set_result("now")
    await turns(1)
    assert order == [(number, "now") for number in range(4)]
    await asyncio.gather(*tasks)


async def test_the_wakeup_of_a_waiting_task_is_shown_as_asyncio_does(make, loop):
    future = make()
    task = loop.create_task(asyncio.wait_for(future, None))
    await turns(1)
    ((wakeup, context),) = future._callbacks
    assert wakeup.__self__ is task and callable(wakeup)
    assert isinstance(context, contextvars.Context)
    assert normalise(repr(future)) == "<Future pending cb=[Task.task_wakeup()]>"
    # Whoever removes it by that takes the wake-up away; and may give it back.
    assert future.remove_done_callback(wakeup) == 1
    future.add_done_callback(wakeup, context=context)
    future.set_result(5)
    assert await task == 5


@pytest.mark.parametrize("how", ["method", "of asyncio"])
async def test_a_waiting_task_is_found_among_the_callbacks(make, loop, how):
    future = make()
    task = loop.create_task(asyncio.wait_for(future, None))
    await turns(1)
    remove = future.remove_done_callback
    if how == "of asyncio":
        remove = functools.partial(asyncio.Future.remove_done_callback, future)
    assert remove(print) == 0
    future.set_result(7)
    assert await task == 7


# -- Reports -----------------------------------------------------------------------


def test_an_exception_never_retrieved_is_reported(make, loop, reports):
    for number in range(3):
        future = make()
        error = LookupError(number)
        future.set_exception(error)
        text = repr(future)
        del future
        report = reports.take_one()
        assert report["message"] == "Future exception was never retrieved"
        assert report["exception"] is error
        assert repr(report["future"]) == text
        assert "source_traceback" not in report


def test_it_is_reported_also_where_memory_was_used_before(make, loop, reports):
    """An object's finalizer runs once; the next in the same place has its own."""
    for _ in range(1500):
        make().set_exception(LookupError())
    assert len(reports.take()) == 1500
    for _ in range(2000):
        make()
    gc.collect()
    for _ in range(1500):
        make().set_exception(LookupError())
    assert len(reports.take()) == 1500


@pytest.mark.parametrize("how", ["result", "exception", "await", "_log_traceback"])
def test_a_retrieved_exception_is_not(make, loop, how):
    future = make()
    future.set_exception(LookupError())
    if how == "await":
        with pytest.raises(LookupError):
            loop.run_until_complete(future)
    elif how == "_log_traceback":
        future._log_traceback = False
    elif how == "exception":
        future.exception()
    else:
        with pytest.raises(LookupError):
            future.result()
    del future


@pytest.mark.parametrize("tasks", [1, 2])
async def test_an_exception_that_woke_a_task_is_retrieved(make, loop, tasks):
    future, seen = make(), []

    async def wait():
        try:
            await future
        except LookupError as error:
            seen.append(error)

    waiting = [loop.create_task(wait()) for _ in range(tasks)]
    await turns(1)
    future.set_exception(LookupError())
    assert future._log_traceback is True
    await asyncio.gather(*waiting)
    assert future._log_traceback is False and len(seen) == tasks
    assert seen[0] is future.exception()


def test_a_report_may_bring_the_future_back(make, loop):
    kept = []
    loop.set_exception_handler(lambda loop, context: kept.append(context["future"]))
    for _ in range(10):
        make().set_exception(LookupError("back"))
    assert [str(future.exception()) for future in kept] == ["back"] * 10
    kept[0].add_done_callback(lambda future: None)
    kept.clear()
    gc.collect()
    settled(loop)


def test_debug_mode_keeps_where_a_future_was_made(loop, cls, reports):
    loop.set_debug(True)
    for make in loop.create_future, lambda: cls(loop=loop):
        future = make()
        trace = future._source_traceback
        assert __file__ in [frame.filename for frame in trace[-2:]]
        frame = trace[-1]
        assert f"created at {frame.filename}:{frame.lineno}" in repr(future)
        future.set_exception(LookupError())
        del future
        assert reports.take_one()["source_traceback"] is trace


# -- Subclasses --------------------------------------------------------------------


def test_subclasses(cls, loop):
    class Plain(cls):
        pass

    class Slotted(cls):
        __slots__ = ("mark",)

    class Named(cls):
        def __init__(self, name, **kwargs):
            super().__init__(**kwargs)
            self.name = name

    slotted, named = Slotted(loop=loop), Named("n", loop=loop)
    slotted.mark, slotted.other, named.extra = 1, 2, 3
    for future in Plain(loop=loop), slotted, named:
        future.set_result("done")
        assert loop.run_until_complete(future) == "done"
    assert slotted.mark == 1 and named.name == "n"
    watches = [weakref.ref(slotted), weakref.ref(named)]
    del slotted, named, future
    assert [watch() for watch in watches] == [None, None]


def test_overridden_methods_are_called(cls, loop):
    seen = []

    class Loud(cls):
        def add_done_callback(self, *args, **kwargs):
            seen.append("add")
            return super().add_done_callback(*args, **kwargs)

        def result(self):
            seen.append("result")
            return super().result()

        def set_result(self, result):
            seen.append("set")
            super().set_result(result)

        def cancel(self, *args, **kwargs):
            seen.append("cancel")
            return super().cancel(*args, **kwargs)

    async def wait(future):
        return await future

    future = Loud(loop=loop)
    loop.call_soon(loop.call_soon, future.set_result, 5)
    assert loop.run_until_complete(wait(future)) == 5
    assert seen.count("add") == 1 and seen.count("set") == 1
    future = Loud(loop=loop)
    task = loop.create_task(wait(future))
    once(loop)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    assert seen[-1] in ("cancel", "result") and "cancel" in seen


def test_a_subclass_with_a_finalizer(cls, loop, reports):
    kept = []

    class Back(cls):
        def __del__(self):
            kept.append(self)
            super().__del__()

    future = Back(loop=loop)
    future.set_exception(LookupError())
    del future
    assert reports.take_one()["message"] == "Back exception was never retrieved"
    assert repr(kept[0].exception()) == "LookupError()"
    kept.clear()
    gc.collect()


def test_two_classes_may_be_mixed(cls, loop):
    class Other(asyncio.Future):
        pass

    class Mixed(Other, cls):
        pass

    future = Mixed(loop=loop)
    future.set_result(1)
    assert loop.run_until_complete(future) == 1


# -- The collector -----------------------------------------------------------------


def test_cycles_are_collected(make, cls, loop):
    class Sub(cls):
        pass

    watches = []
    for future in [make() for _ in range(5)] + [Sub(loop=loop) for _ in range(5)]:
        future.me = future
        future.add_done_callback(future.done)
        future.add_done_callback(lambda done, future=future: future)
        watches.append(weakref.ref(future))
    done = make()
    done.set_result([done])
    failed = make()
    failed.set_exception(LookupError(failed))
    failed.exception()
    watches += [weakref.ref(done), weakref.ref(failed)]
    del future, done, failed
    gc.collect()
    assert [watch() for watch in watches] == [None] * len(watches)


def test_the_collector_sees_everything(make, loop):
    def callback(future):
        raise AssertionError

    future, result, key = make(), ["result"], "colour"
    contexts = [contextvars.copy_context() for _ in range(2)]
    future.add_done_callback(callback, context=contexts[0])
    future.add_done_callback(print, context=contexts[1])
    future.colour = ["red"]
    found = gc.get_referents(future)
    assert any(thing is loop for thing in found)
    assert any(thing is callback for thing in found)
    assert any(thing is contexts[0] for thing in found)
    assert any(isinstance(thing, list) and len(thing) == 1 for thing in found)
    assert any(thing is future.colour or thing == {key: ["red"]} for thing in found)
    if type(future).__flags__ & (1 << 9) or PY >= (3, 12):
        assert type(future) in found
    future.remove_done_callback(callback)
    future.remove_done_callback(print)
    future.set_result(result)
    assert any(thing is result for thing in gc.get_referents(future))
    failed, error = make(), LookupError()
    try:
        raise error
    except LookupError:
        failed.set_exception(error)
    found = gc.get_referents(failed)
    assert any(thing is error for thing in found)
    assert any(isinstance(thing, types.TracebackType) for thing in found)
    failed.exception()
    cancelled, why = make(), ["why"]
    cancelled.cancel(why)
    assert any(thing is why for thing in gc.get_referents(cancelled))
    debugged = loop.set_debug(True) or make()
    trace = debugged._source_traceback
    assert any(thing is trace for thing in gc.get_referents(debugged))


def test_a_weak_reference_is_told_of_the_end(make):
    told = []
    future = make()
    watch = weakref.ref(future, told.append)
    del future
    assert told == [watch]


def test_what_dies_with_a_future_may_look_around(make, loop):
    class Looker:
        def __del__(self):
            asyncio.all_tasks(loop)
            make().set_result(None)
            gc.collect(0)

        def __call__(self, future):
            pass

    for _ in range(50):
        future = make()
        future.add_done_callback(Looker())
        future.add_done_callback(Looker())
        future.looker = Looker()
        future.cancel(Looker()) if _ % 2 else future.set_result(Looker())
        del future
    settled(loop)


# -- What is in use ----------------------------------------------------------------


def test_build_info_tells_whose_tasks():
    info = asyncfast.build_info()
    assert info["version"] == asyncfast.__version__
    assert info["python"] == sys.version.split()[0]
    assert info["libuv"] == asyncfast.libuv_version()
    assert info["poller"] in ("epoll", "libuv")
    own = asyncfast.Task is not asyncio.Task
    assert own == (asyncfast.Future is not asyncio.Future)
    assert info["tasks"] == ("own" if own else "stock")
    assert set(map(type, info.values())) == {str}


STOCK = """
import asyncio, asyncfast
assert asyncfast.build_info()["tasks"] == "stock"
assert asyncfast.Task is asyncio.Task and asyncfast.Future is asyncio.Future
loop = asyncfast.new_event_loop()
assert type(loop.create_future()) is asyncio.Future
async def main():
    assert type(asyncio.current_task()) is asyncio.Task
    return await asyncio.gather(*map(asyncio.sleep, [0] * 5, range(5)))
assert loop.run_until_complete(main()) == [0, 1, 2, 3, 4]
loop.close()
"""


def test_the_environment_can_ask_for_asyncios():
    python("-c", STOCK, env={"ASYNCFAST_TASKS": "stock"})


@pytest.mark.skipif(PY >= (3, 14), reason="asyncio's structs are others from 3.14 on")
def test_ours_are_in_use_otherwise():
    code = "import asyncfast; print(asyncfast.build_info()['tasks'])"
    assert python("-c", code, env={"ASYNCFAST_TASKS": ""}).stdout == "own\n"
