"""Tasks: steps, what is awaited, cancellation, the current and all tasks, reports.

Where both promise it each test runs on asyncio and on asyncfast; asyncio is the oracle.
"""

import asyncio
import contextvars
import gc
import io
import os
import sys
import threading
import types
import weakref

import pytest
from support import (
    PY,
    Recorder,
    connected,
    like_asyncio,
    normalise,
    once,
    python,
    turns,
)

import asyncfast

OWN = asyncfast.Task is not asyncio.Task
since_311 = pytest.mark.skipif(PY < (3, 11), reason="new in 3.11")
since_312 = pytest.mark.skipif(PY < (3, 12), reason="eager tasks are new in 3.12")
VARIABLE = contextvars.ContextVar("variable", default="none")


@types.coroutine
def give(thing):
    return (yield thing)


async def wait(thing):
    return await thing


@pytest.fixture
def cls(loop_name):
    return asyncio.Task if loop_name == "asyncio" else asyncfast.Task


@pytest.fixture(params=["create_task", "class", "stock", "subclass"])
def make(request, loop, cls):
    """Makes a task of the loop under test, in each way that there is."""

    class Sub(cls):
        pass

    classes = {"class": cls, "stock": asyncio.Task, "subclass": Sub}
    if request.param == "create_task":
        return loop.create_task
    return lambda coro, **kw: classes[request.param](coro, loop=loop, **kw)


# -- What it is --------------------------------------------------------------------


async def test_the_class_of_a_loops_tasks(loop, loop_name):
    task = asyncio.current_task()
    assert isinstance(task, asyncio.Task) and isinstance(task, asyncio.Future)
    if loop_name == "asyncfast":
        assert type(task) is asyncfast.Task
    alias = asyncfast.Task[int]
    assert isinstance(alias, types.GenericAlias) and alias.__args__ == (int,)


async def test_names(make, loop):
    first, second = (make(wait(asyncio.sleep(0))) for _ in range(2))
    numbers = [int(task.get_name().removeprefix("Task-")) for task in (first, second)]
    assert numbers[0] < numbers[1]
    named, odd = (make(wait(asyncio.sleep(0)), name=name) for name in ("name", 42))
    assert (named.get_name(), odd.get_name()) == ("name", "42")
    named.set_name(5)
    assert named.get_name() == "5" and "name='5'" in repr(named)
    await asyncio.gather(first, second, named, odd)


def test_what_is_no_coroutine(make):
    for thing in (None, 42, print, asyncio.sleep):
        with pytest.raises(TypeError, match="a coroutine was expected"):
            make(thing)


async def test_tasks_can_not_be_set_by_hand(make):
    task = make(wait(asyncio.sleep(0)))
    with pytest.raises(RuntimeError, match="Task does not support set_result"):
        task.set_result(1)
    with pytest.raises(RuntimeError, match="Task does not support set_exception"):
        task.set_exception(ValueError())
    await task


def test_uninitialised(cls, loop):
    task = cls.__new__(cls)
    assert task._must_cancel is False and task._fut_waiter is None
    with pytest.raises(RuntimeError, match="Future object is not initialized."):
        task.get_loop()
    del task
    gc.collect()


@pytest.mark.skipif(PY >= (3, 15), reason="may be initialized only once from 3.15 on")
async def test_initialised_again(make, loop):
    task = make(wait(asyncio.sleep(0, 1)))
    assert await task == 1
    task.__init__(wait(asyncio.sleep(0, 2)), loop=loop)
    assert not task.done() and task in asyncio.all_tasks()
    assert await task == 2


async def test_stacks(make, loop):
    future = loop.create_future()
    task = make(wait(future))
    await turns(1)
    assert [frame.f_code.co_name for frame in task.get_stack()] == ["wait"]
    out = io.StringIO()
    task.print_stack(file=out)
    assert f"Stack for <{type(task).__name__} pending" in out.getvalue()
    assert task.get_coro().cr_code.co_name == "wait"
    future.set_result(None)
    await task


async def test_unbound_methods_of_asyncio_work(make, loop):
    task = make(wait(loop.create_future()), name="name")
    await turns(1)
    assert asyncio.Task.get_name(task) == "name"
    assert asyncio.Task.get_coro(task) is task.get_coro()
    assert asyncio.Task.cancel(task, "why") is True
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.Task.cancel(task) is False


async def test_the_context_of_a_task(make):
    VARIABLE.set("outer")

    async def look():
        seen = VARIABLE.get()
        VARIABLE.set("inner")
        await asyncio.sleep(0)
        return seen, VARIABLE.get()

    assert await make(look()) == ("outer", "inner")
    assert VARIABLE.get() == "outer"
    if PY >= (3, 11):
        context = contextvars.copy_context()
        assert await make(look(), context=context) == ("outer", "inner")
        assert context[VARIABLE] == "inner"


# -- What a task may not await -----------------------------------------------------


def mistakes(loop):
    """The texts of the five mistakes, and of some more."""
    other = asyncio.SelectorEventLoop()
    foreign = other.create_future()
    things = (
        lambda: give(42),
        lambda: give(loop.create_future()),
        lambda: give(asyncio.Future(loop=loop)),
        lambda: give(number for number in ()),
        lambda: wait(foreign),
        lambda: wait(asyncio.current_task()),
        lambda: give("text"),
    )
    texts = []

    async def main():
        for thing in things:
            try:
                await thing()
            except RuntimeError as error:
                texts.append(normalise(str(error)))

    loop.run_until_complete(loop.create_task(main(), name="main"))
    other.close()
    return texts


def test_the_texts_of_mistakes(loop):
    texts = mistakes(loop)
    assert len(texts) == 7
    for text, part in zip(
        texts,
        (
            "Task got bad yield: 42",
            "yield was used instead of yield from in task",
            "yield was used instead of yield from in task",
            "yield was used instead of yield from for generator in task",
            "attached to a different loop",
            "Task cannot await on itself",
            "Task got bad yield: 'text'",
        ),
        strict=True,
    ):
        assert part in text
    like_asyncio(loop, mistakes)


class Duck:
    """A future that is asyncio's by its manners only."""

    def __init__(self, loop):
        self._loop, self._asyncio_future_blocking = loop, False
        self.callbacks, self.cancelled_with = [], []

    def __await__(self):
        self._asyncio_future_blocking = True
        yield self
        return "quack"

    def add_done_callback(self, callback, *, context=None):
        self.callbacks.append((callback, context))

    def cancel(self, msg=None):
        self.cancelled_with.append(msg)
        return False

    def result(self):
        return None


async def test_futures_of_any_make_are_awaited(make, loop):
    duck = Duck(loop)
    task = make(wait(duck))
    await turns(1)
    assert duck._asyncio_future_blocking is False
    assert task._fut_waiter is duck
    ((wakeup, context),) = duck.callbacks
    loop.call_soon(wakeup, duck, context=context)
    assert await task == "quack"


@pytest.mark.parametrize("kind", ["loop", "stock", "task", "subclass"])
@pytest.mark.parametrize("end", ["result", "exception", "cancel"])
async def test_all_kinds_of_tasks_await_all_kinds_of_futures(make, loop, kind, end):
    class Sub(asyncio.Future):
        pass

    gate = loop.create_future()
    kinds = {
        "loop": lambda: gate,
        "stock": lambda: asyncio.Future(loop=loop),
        "task": lambda: loop.create_task(wait(gate)),
        "subclass": lambda: Sub(loop=loop),
    }
    future = kinds[kind]()
    tasks = [make(wait(future)) for _ in range(3)]
    await turns(2)
    target = gate if kind == "task" else future
    if end == "result":
        target.set_result(1)
        assert await asyncio.gather(*tasks) == [1, 1, 1]
    elif end == "exception":
        target.set_exception(LookupError("gone"))
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            assert repr(error) == "LookupError('gone')"
    else:
        target.cancel("why")
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(error) for error in done] == [asyncio.CancelledError] * 3


# -- Cancellation ------------------------------------------------------------------


@since_311
async def test_cancelling_and_uncancelling(make, loop):
    seen = []

    async def stubborn():
        for _ in range(2):
            try:
                await loop.create_future()
            except asyncio.CancelledError as error:
                seen.append((error.args, task.cancelling()))
        return task.uncancel(), task.uncancel(), task.uncancel()

    task = make(stubborn())
    await turns(1)
    for number in range(2):
        assert task.cancel(number) is True
        await turns(2)
    assert await task == (1, 0, 0)
    assert seen == [((0,), 1), ((1,), 2)]


async def test_cancelled_before_its_first_step(make):
    ran = []

    async def work():
        ran.append(True)

    task = make(work())
    task.cancel("early")
    assert task._must_cancel and not task.done()
    with pytest.raises(asyncio.CancelledError) as info:
        await task
    assert task.cancelled() and not ran
    if PY >= (3, 11):
        assert info.value.args == ("early",)


async def test_cancelled_by_itself(make, loop):
    async def work():
        asyncio.current_task().cancel("why")
        assert task._must_cancel
        await future

    future = loop.create_future()
    task = make(work())
    await turns(1)
    # What it waits for was cancelled in its place.
    assert future.cancelled() and task._fut_waiter is future
    assert not task._must_cancel
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelled_between_the_result_and_the_wakeup(make, loop):
    future = loop.create_future()
    task = make(wait(future))
    await turns(1)
    future.set_result(1)
    assert task.cancel() is True
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_cancel_scopes_of_anyio(loop):
    """They read _must_cancel, _fut_waiter and _callbacks, and cancel again and again."""
    anyio = pytest.importorskip("anyio")
    seen = []

    async def work(number):
        try:
            await (anyio.sleep(100) if number % 2 else loop.create_future())
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0)
                seen.append(number)
            raise

    for _ in range(3):
        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(work, number)
            await turns(2)
            group.cancel_scope.cancel()
        with anyio.move_on_after(0) as scope:
            await loop.create_future()
        assert scope.cancelled_caught
    assert sorted(seen) == sorted([*range(4)] * 3)
    await asyncio.sleep(0)


# -- KeyboardInterrupt, SystemExit -------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_step_may_end_the_run(make, loop, error):
    async def leave():
        await asyncio.sleep(0)
        raise error("out")

    task = make(leave())
    with pytest.raises(error, match="out"):
        loop.run_forever()
    assert asyncio.current_task(loop) is None
    assert isinstance(task.exception(), error)
    assert loop.run_until_complete(wait(asyncio.sleep(0, 5))) == 5


# -- The current task --------------------------------------------------------------


async def test_the_current_task_is_none_in_whatever_is_no_step(make, loop):
    seen, me = [], asyncio.current_task()

    def look(*args):
        seen.append(asyncio.current_task())

    future = loop.create_future()
    future.add_done_callback(look)
    tasks = [make(wait(asyncio.sleep(0))) for _ in range(3)]
    loop.call_soon(look)
    loop.call_later(0, look)
    future.set_result(None)
    assert asyncio.current_task() is me
    while len(seen) < 3:
        await asyncio.sleep(0)
    loop.set_exception_handler(look)
    loop.call_soon(lambda: 1 / 0)
    await asyncio.gather(*tasks)
    await turns(2)
    assert seen == [None] * 4 and asyncio.current_task() is me


def test_the_current_task_is_none_in_a_clock_of_ones_own(loop):
    seen, clock = [], loop.time

    def look():
        seen.append(asyncio.current_task(loop))
        return clock()

    async def main():
        timer = loop.call_later(1000, print)
        await turns(3)
        timer.cancel()
        return asyncio.current_task()

    loop.time = look
    task = loop.run_until_complete(main())
    del loop.time
    assert [current for current in seen if current is not None] == [task]
    assert seen.count(None) > 1


async def test_the_current_task_is_none_in_a_protocol(loop):
    seen = []

    class Looker(Recorder):
        def data_received(self, data):
            seen.append(asyncio.current_task())
            super().data_received(data)

    async with connected(loop, Looker) as (_, protocol, peer):
        peer.send(b"data")
        await protocol.received(4)
    assert seen == [None]


async def test_the_current_task_in_each_of_many(make):
    async def look():
        for _ in range(3):
            assert asyncio.current_task() in tasks
            seen.append(tasks.index(asyncio.current_task()))
            await asyncio.sleep(0)

    seen = []
    tasks = [make(look()) for _ in range(4)]
    await asyncio.gather(*tasks)
    assert seen == [0, 1, 2, 3] * 3


def test_the_current_task_after_a_run(make, loop):
    task = make(wait(asyncio.sleep(0)))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert asyncio.current_task(loop) is None
    loop.run_until_complete(task)
    assert asyncio.current_task(loop) is None


async def test_from_another_thread(make, loop):
    task = make(wait(loop.create_future()))
    await turns(1)
    seen = []
    thread = threading.Thread(
        target=lambda: seen.extend(
            [asyncio.current_task(loop), asyncio.all_tasks(loop)]
        )
    )
    thread.start()
    thread.join()
    assert seen == [asyncio.current_task(), {asyncio.current_task(), task}]
    task.cancel()


async def test_a_loop_run_once_inside_of_a_step(loop, loop_name):
    """Tools for nested loops take the outer task out while they do that."""
    if loop_name == "asyncio":
        pytest.skip("a stock loop takes another way to the same end")
    seen, me = [], asyncio.current_task()

    async def look(number):
        for _ in range(4):
            seen.append((number, asyncio.current_task() is tasks[number]))
            await asyncio.sleep(0)

    tasks = [loop.create_task(look(number)) for number in range(2)]
    current = asyncio.tasks._current_tasks
    del current[loop]
    loop._run_once()
    loop._run_once()
    assert loop not in current
    current[loop] = me
    loop.call_soon(lambda: seen.append(asyncio.current_task()))
    await asyncio.gather(*tasks)
    assert asyncio.current_task() is me
    assert seen.count(None) == 1
    assert [pair for pair in seen if pair] == [(0, True), (1, True)] * 4


# -- All tasks ---------------------------------------------------------------------


async def test_all_tasks(make, loop):
    me = asyncio.current_task()
    done, waiting = make(wait(asyncio.sleep(0))), make(wait(loop.create_future()))
    assert asyncio.all_tasks() == {me, done, waiting}
    await done
    assert asyncio.all_tasks() == {me, waiting}
    other = asyncio.SelectorEventLoop()
    assert asyncio.all_tasks(other) == set()
    other.close()
    asyncio._unregister_task(waiting)
    assert asyncio.all_tasks() == {me}
    asyncio._register_task(waiting)
    assert asyncio.all_tasks() == {me, waiting}
    waiting.cancel()


async def test_who_is_told_of_the_end_of_a_task_may_ask_for_all(make, loop):
    """The task that is dying must not be among them."""
    seen = []

    def told(_):
        seen.append(asyncio.all_tasks(loop))

    class Looker:
        __del__ = told

    for _ in range(20):
        future = loop.create_future()
        task = make(wait(future))
        await turns(1)
        task._log_destroy_pending = False
        task.looker = Looker()
        task.add_done_callback(lambda task, looker=task.looker: None)
        watch = weakref.ref(task, told)
        future.remove_done_callback(future._callbacks[0][0])
        del task
        assert watch() is None
    me = asyncio.current_task()
    assert len(seen) == 40 and all(tasks == {me} for tasks in seen)


def test_run_cancels_what_is_left(loop_name):
    async def main():
        tasks.append(asyncio.ensure_future(wait(asyncio.Event().wait())))
        await asyncio.sleep(0)

    tasks = []
    (asyncio if loop_name == "asyncio" else asyncfast).run(main())
    assert tasks[0].cancelled()


# -- Factories, loops that are watched ---------------------------------------------


@pytest.mark.parametrize("kind", ["own", "stock", "subclass"])
def test_task_factories(loop, kind):
    class Sub(asyncfast.Task):
        pass

    make = {"own": asyncfast.Task, "stock": asyncio.Task, "subclass": Sub}[kind]
    loop.set_task_factory(lambda loop, coro, **kw: make(coro, loop=loop, **kw))

    async def main():
        assert type(asyncio.current_task()) is make
        return await asyncio.gather(*(wait(asyncio.sleep(0, n)) for n in range(5)))

    assert loop.run_until_complete(main()) == [0, 1, 2, 3, 4]
    loop.set_task_factory(None)
    assert type(loop.create_task(wait(asyncio.sleep(0)))) is not Sub
    once(loop)
    once(loop)


@since_312
async def test_eager_tasks(loop, cls):
    me, order = asyncio.current_task(), []

    async def work(future=None):
        order.append(asyncio.current_task() in (me, None))
        if future:
            await future
        return 5

    done = cls(work(), loop=loop, eager_start=True)
    # Not get_coro(), which early releases of 3.12 end with.
    assert done.done() and done.result() == 5 and done._coro is None
    future = loop.create_future()
    waiting = cls(work(future), loop=loop, eager_start=True)
    assert asyncio.current_task() is me and order == [False, False]
    assert waiting in asyncio.all_tasks()
    future.set_result(None)
    assert await waiting == 5
    loop.set_task_factory(asyncio.eager_task_factory)
    assert loop.create_task(work()).done()


@pytest.mark.parametrize("end", ["set_result", "set_exception", "cancel", "yield"])
@pytest.mark.parametrize("where", ["class", "instance", "later"])
def test_an_overridden_call_soon_sees_every_callback(new, where, end):
    seen = []
    base = type(new_loop := new())
    new_loop.close()

    class Watched(base):
        def call_soon(self, callback, *args, context=None):
            seen.append(callback)
            assert callable(callback)
            return super().call_soon(
                lambda *given: callback(*given), *args, context=context
            )

    loop = Watched() if where == "class" else new()
    if where == "instance":
        loop.call_soon = types.MethodType(Watched_call_soon(seen), loop)

    async def work():
        future = loop.create_future()
        await (asyncio.sleep(0) if end == "yield" else future)

    async def main():
        outer = loop.create_future()
        task = loop.create_task(wait(outer))
        await turns(1)
        if where == "later":
            loop.call_soon = types.MethodType(Watched_call_soon(seen), loop)
        seen.clear()
        if end == "cancel":
            outer.cancel()
        elif end == "set_exception":
            outer.set_exception(LookupError())
        else:
            outer.set_result(None)
        await asyncio.wait([task])
        assert seen and all(callable(callback) for callback in seen)
        task.cancelled() or task.exception()

    try:
        loop.run_until_complete(main())
    finally:
        loop.__dict__.pop("call_soon", None)
        loop.close()


def Watched_call_soon(seen):
    def call_soon(loop, callback, *args, context=None):
        seen.append(callback)
        call = type(loop).call_soon
        return call(loop, lambda *given: callback(*given), *args, context=context)

    return call_soon


@pytest.mark.parametrize("end", ["set_result", "set_exception", "cancel"])
async def test_debug_mode_may_change_while_a_task_waits(make, loop, end):
    for before, after in ((False, True), (True, False)):
        loop.set_debug(before)
        future = loop.create_future()
        task = make(wait(future))
        await turns(1)
        loop.set_debug(after)
        args = {"set_result": [1], "set_exception": [LookupError()], "cancel": []}
        getattr(future, end)(*args[end])
        await asyncio.wait([task])
        task.cancelled() or task.exception()
    loop.set_debug(False)


async def test_debug_mode_names_a_slow_step(make, loop, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 0
    task = make(wait(asyncio.sleep(0)))
    await task
    loop.set_debug(False)
    assert f"Executing <{type(task).__name__}" in caplog.text and "took" in caplog.text


# -- Reports -----------------------------------------------------------------------


async def test_reports_of_lost_tasks(make, loop, reports):
    for number in range(300):
        task = make(fail(number))
        await turns(1)
        del task
    told = reports.take()
    assert len(told) == 300
    assert {report["message"] for report in told} == {
        f"{type(told[0]['future']).__name__} exception was never retrieved"
    }
    assert [report["exception"].args for report in told] == [(n,) for n in range(300)]
    told.clear()
    for _ in range(300):
        future = loop.create_future()
        task = make(wait(future))
        await turns(1)
        del task, future
    gc.collect()
    told = reports.take()
    assert [r["message"] for r in told] == [
        "Task was destroyed but it is pending!"
    ] * 300
    assert all(set(report) == {"task", "message"} for report in told)


async def fail(number):
    raise LookupError(number)


# -- The collector -----------------------------------------------------------------


async def test_cycles_are_collected(make, loop):
    watches = []
    for _ in range(20):
        future = loop.create_future()
        task = make(wait(future))
        task._log_destroy_pending = False
        task.me, task.future = task, future
        task.add_done_callback(lambda done, task=task: task)
        watches += [weakref.ref(task), weakref.ref(future)]
    await turns(1)
    del task, future
    gc.collect()
    assert [watch() for watch in watches] == [None] * 40


async def test_the_collector_sees_everything(make, loop):
    context = contextvars.copy_context()
    future = loop.create_future()
    kwargs = {"context": context} if PY >= (3, 11) else {}
    task = make(coro := wait(future), name="name", **kwargs)
    await turns(1)
    found = gc.get_referents(task)
    assert all(any(one is thing for one in found) for thing in (loop, coro, future))
    assert "name" in found
    assert PY < (3, 11) or any(one is context for one in found)
    future.set_result(None)
    await task


@pytest.mark.nosanitizer
async def test_many_tasks_cost_nothing_in_the_end(loop):
    async def some(count):
        for _ in range(count // 100):
            await asyncio.gather(
                *(loop.create_task(asyncio.sleep(0)) for _ in range(99))
            )

    await some(20000)
    gc.collect()
    before = sys.getallocatedblocks()
    await some(20000)
    gc.collect()
    assert sys.getallocatedblocks() - before < 2000


# -- Where the structs are not known -----------------------------------------------


@pytest.mark.guard(120)
@pytest.mark.skipif(not OWN, reason="they are asyncio's already")
def test_all_of_this_holds_with_asyncios_tasks_too():
    if "ASYNCFAST_TASKS" in os.environ:
        return
    python(
        *["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", __file__],
        *["-k", "asyncfast and not many and not all_of_this"],
        env={"ASYNCFAST_TASKS": "stock"},
        cwd=os.path.dirname(os.path.dirname(__file__)),
        timeout=110,
    )
