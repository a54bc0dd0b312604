"""core/handle.c: one scheduled call, its context, its cancelling, its looks."""

import asyncio
import contextvars
import functools
import gc
import importlib.machinery
import importlib.util
import weakref

import pytest
from support import PY, like_asyncio, normalise, once, turns


class Thing:
    """Something a weak reference can watch."""

    def method(self, *args):
        pass


def schedulers():
    """Every way to get a handle: name -> call(loop, callback, *args, **kwargs)."""
    return {
        "call_soon": lambda loop, *a, **k: loop.call_soon(*a, **k),
        "call_soon_threadsafe": lambda loop, *a, **k: loop.call_soon_threadsafe(
            *a, **k
        ),
        "call_later": lambda loop, *a, **k: loop.call_later(0, *a, **k),
        "call_at": lambda loop, *a, **k: loop.call_at(0, *a, **k),
    }


@pytest.fixture(params=schedulers())
def schedule(request, loop):
    """Schedules a callback that is due at once, in each of the four ways."""
    return functools.partial(schedulers()[request.param], loop)


def test_it_is_an_asyncio_handle(loop, schedule):
    handle = schedule(print)
    assert isinstance(handle, asyncio.Handle)
    assert isinstance(handle, asyncio.TimerHandle) == hasattr(handle, "when")
    handle.cancel()


def test_the_arguments_arrive(loop, schedule):
    for count in range(8):
        got = []
        schedule(lambda *args, got=got: got.append(args), *range(count))
        once(loop)
        assert got == [tuple(range(count))]


def test_a_cancelled_one_does_not_run(loop, schedule):
    ran = []
    handle = schedule(ran.append, 1)
    assert handle.cancelled() is False
    assert handle.cancel() is None
    assert handle.cancel() is None
    assert handle.cancelled() is True
    once(loop)
    assert ran == []


def test_one_can_be_cancelled_by_an_earlier_one_of_the_batch(loop, schedule):
    ran = []
    loop.call_soon(lambda: handle.cancel())
    handle = schedule(ran.append, 1)
    once(loop)
    once(loop)
    assert ran == []


def test_one_can_cancel_itself(loop, schedule):
    handle = schedule(lambda: handle.cancel())
    once(loop)
    assert handle.cancelled()


def test_cancel_after_the_run_does_nothing(loop, schedule):
    ran = []
    handle = schedule(ran.append, 1)
    once(loop)
    assert not handle.cancelled()
    handle.cancel()
    assert handle.cancelled()
    assert ran == [1]


def test_cancel_lets_go_of_callback_and_arguments(loop, schedule):
    callback, argument = Thing(), Thing()
    gone = weakref.ref(callback), weakref.ref(argument)
    handle = schedule(callback.method, argument)
    del callback, argument
    handle.cancel()
    assert handle._callback is None
    assert handle._args is None
    assert [ref() for ref in gone] == [None, None]


def test_after_the_run_nothing_is_kept(loop, schedule):
    callback, argument = Thing(), Thing()
    gone = weakref.ref(callback), weakref.ref(argument)
    schedule(callback.method, argument)
    del callback, argument
    once(loop)
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_what_is_scheduled_is_kept_until_it_runs(loop, schedule):
    seen = []

    class Callback:
        def __call__(self, argument):
            seen.append(type(argument))

    schedule(Callback(), Thing())
    gc.collect()
    once(loop)
    assert seen == [Thing]


def test_callback_and_arguments_can_be_looked_at(loop, schedule):
    handle = schedule(print, 1, 2)
    assert handle._callback is print
    assert tuple(handle._args) == (1, 2)
    handle.cancel()


def test_it_runs_in_a_copy_of_the_context(loop, schedule):
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []

    def look():
        seen.append(variable.get())
        variable.set("changed inside")

    variable.set("at scheduling")
    schedule(look)
    variable.set("after scheduling")
    once(loop)
    assert seen == ["at scheduling"]
    assert variable.get() == "after scheduling"


def test_it_runs_in_the_context_it_is_given(loop, schedule):
    variable = contextvars.ContextVar("variable", default="unset")
    context = contextvars.copy_context()
    schedule(variable.set, "inside", context=context)
    once(loop)
    assert context[variable] == "inside"
    assert variable.get() == "unset"


def test_a_change_in_one_callback_is_not_seen_by_another(loop, schedule):
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []

    def change(value):
        seen.append(variable.get())
        variable.set(value)
        loop.call_soon(lambda: seen.append(variable.get()))

    for value in range(3):
        schedule(change, value)
    loop.run_until_complete(turns(3))
    assert seen == ["unset"] * 3 + [0, 1, 2]


def test_a_token_belongs_to_the_context_of_its_callback(loop, schedule):
    variable = contextvars.ContextVar("variable", default="unset")
    tokens, refused = [], []

    def reset():
        try:
            variable.reset(tokens[0])
        except ValueError:
            refused.append(True)

    schedule(lambda: tokens.append(variable.set("x")))
    once(loop)
    schedule(reset)
    once(loop)
    assert refused == [True]


def test_a_context_that_somebody_keeps_is_his(loop, schedule):
    variable = contextvars.ContextVar("variable", default="unset")
    handles, seen = [], []

    def look():
        context = handles[0]._context
        seen.append((context, context.get(variable)))
        variable.set("changed")
        seen.append((context, context.get(variable)))

    variable.set("before")
    handles.append(schedule(look))
    variable.set("after")
    once(loop)
    schedule(variable.set, "another")
    once(loop)
    context = handles[0]._context
    assert seen == [(context, "before"), (context, "changed")]
    assert context[variable] == "changed"
    assert variable.get() == "after"


def test_the_values_of_a_context_are_let_go(loop, schedule):
    class Value:
        pass

    variable = contextvars.ContextVar("variable")

    def scenario():
        value = Value()
        variable.set(value)
        schedule(int)
        return weakref.ref(value)

    value = contextvars.copy_context().run(scenario)
    assert value() is not None
    once(loop)
    gc.collect()
    assert value() is None


def test_the_context_is_left_when_the_callback_raises(loop, reports, schedule):
    variable = contextvars.ContextVar("variable", default="unset")

    def fail():
        variable.set("inside")
        raise ValueError

    schedule(fail)
    once(loop)
    assert variable.get() == "unset"
    assert type(reports.take_one()["exception"]) is ValueError


def test_a_context_that_is_entered_already_is_reported(loop, caplog, schedule):
    context = contextvars.copy_context()
    # From 3.12 a handler of one's own runs in the same context, and cannot either.
    loop.set_exception_handler(None)
    schedule(print, context=context)
    context.run(once, loop)
    assert "cannot enter context" in caplog.text
    assert loop.run_until_complete(asyncio.sleep(0, "works")) == "works"


@pytest.mark.skipif(PY < (3, 12), reason="get_context is new in 3.12")
def test_get_context(loop, schedule):
    context = contextvars.copy_context()
    handle = schedule(print, context=context)
    assert handle.get_context() is context
    handle.cancel()
    variable = contextvars.ContextVar("variable")
    variable.set(5)
    handle = schedule(print)
    assert handle.get_context()[variable] == 5
    handle.cancel()


def test_a_weak_reference_to_it(loop, schedule):
    handle = schedule(print)
    reference = weakref.ref(handle)
    assert reference() is handle
    handle.cancel()
    once(loop)
    del handle
    gc.collect()
    assert reference() is None


def test_a_handle_is_its_callers_after_the_run(loop, schedule):
    """Keeping many handles, as debuggers do, must not mix them up."""
    handles = [schedule(list) for _ in range(2000)]
    once(loop)
    assert len({id(handle) for handle in handles}) == 2000
    again = [schedule(list) for _ in range(2000)]
    assert not {id(h) for h in handles} & {id(h) for h in again}
    assert not any(handle.cancelled() for handle in handles + again)
    once(loop)


def test_the_same_callback_many_times(loop, schedule):
    ran = []
    handles = [schedule(ran.append, 1) for _ in range(10)]
    for handle in handles[::2]:
        handle.cancel()
    once(loop)
    assert len(ran) == 5


def test_a_reference_cycle_through_a_handle_is_collected(loop, schedule):
    thing = Thing()
    thing.handle = schedule(thing.method)
    gone = weakref.ref(thing)
    del thing
    once(loop)
    gc.collect()
    assert gone() is None


async def test_a_cycle_that_began_while_the_loop_ran_is_collected(loop, schedule):
    thing = Thing()
    thing.handle = schedule(thing.method)
    gone = weakref.ref(thing)
    del thing
    await turns(3)
    gc.collect()
    assert gone() is None


async def test_a_cycle_through_a_cancelled_handle_is_collected(loop, schedule):
    """Which keeps its context."""
    thing, context = Thing(), contextvars.copy_context()
    context.run(contextvars.ContextVar("variable").set, thing)
    thing.handle = schedule(len, context=context)
    thing.handle.cancel()
    gone = weakref.ref(thing)
    del thing, context
    await turns(3)
    gc.collect()
    assert gone() is None


@pytest.mark.filterwarnings("ignore:unclosed event loop")
@pytest.mark.parametrize("name", schedulers())
def test_a_loop_is_collected_with_what_it_did_not_come_to(new, name):
    def begin(loop, thing):
        thing.handle = schedulers()[name](loop, thing.method)
        thing.loop = loop
        loop.stop()

    loop, thing = new(), Thing()
    loop.call_soon(begin, loop, thing)
    loop.run_forever()
    gone = weakref.ref(thing)
    del loop, thing
    gc.collect()
    assert gone() is None


def test_a_callback_that_drops_its_own_last_reference(loop, schedule):
    class Callback:
        def __call__(self):
            holder.clear()
            gc.collect()

    holder = [Callback()]
    schedule(holder[0])
    once(loop)
    assert holder == []


# -- Looks -------------------------------------------------------------------------


def named(*args):
    """A callback whose repr tells a file and a line."""


def states():
    def cancel(loop, handle):
        handle.cancel()
        return handle

    return {"waiting": lambda loop, handle: handle, "cancelled": cancel}


CALLBACKS = {
    "function": named,
    "partial": functools.partial(named, 1, key="word"),
    "builtin": print,
    "method": Thing().method,
    "lambda": lambda: None,
    "class": Thing,
}


@pytest.mark.parametrize("how", schedulers())
@pytest.mark.parametrize("state", states())
@pytest.mark.parametrize("callback", CALLBACKS)
@pytest.mark.parametrize("debug", [False, True])
def test_repr_is_that_of_asyncio(loop, how, state, callback, debug):
    def scenario(loop):
        loop.set_debug(debug)
        handle = schedulers()[how](loop, CALLBACKS[callback], 1, "two")
        text = normalise(repr(states()[state](loop, handle)))
        handle.cancel()
        return text

    like_asyncio(loop, scenario)


def test_repr_after_the_run_does_not_fail(loop, schedule):
    handle = schedule(named, 1)
    once(loop)
    assert repr(handle).startswith("<")


def test_in_debug_mode_it_remembers_what_it_was(loop, schedule):
    loop.set_debug(True)
    handle = schedule(named, 1)
    handle.cancel()
    assert "named(1)" in repr(handle)
    assert "created at" in repr(handle)
    assert "test_handle.py" in repr(handle)


@pytest.mark.parametrize("how", schedulers())
def test_a_failing_callback_that_has_no_repr(loop, how):
    class Shy:
        def __repr__(self):
            raise LookupError("no repr")

        def __call__(self):
            raise ValueError("from the callback")

    def scenario(loop):
        schedulers()[how](loop, Shy())
        once(loop)

    # There is no way to report it, so asyncio lets the second exception out.
    assert like_asyncio(loop, scenario) == ("raised", LookupError, "no repr")


@pytest.mark.parametrize("how", schedulers())
def test_unknown_and_missing_arguments(loop, how):
    schedule = functools.partial(schedulers()[how], loop)
    with pytest.raises(TypeError):
        schedule()
    with pytest.raises(TypeError):
        schedule(print, contxt=None)


# -- The module's own end ----------------------------------------------------------


def test_a_module_is_collected_together_with_what_it_made():
    """In whatever order the collector takes type, module, loop and handles."""
    core = pytest.importorskip("asyncfast._core")
    loader = importlib.machinery.ExtensionFileLoader(core.__name__, core.__file__)
    spec = importlib.util.spec_from_loader(core.__name__, loader)
    for schedule in "call_soon", "call_at":
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
        module.loop = module.Loop()
        arguments = (print,) if schedule == "call_soon" else (1e9, print)
        handle = getattr(module.loop, schedule)(*arguments)
        handle.cancel()
        cycle = [handle, module]
        cycle.append(cycle)
        gone = weakref.ref(module)
        del module, handle, cycle
        gc.collect()
        assert gone() is None
