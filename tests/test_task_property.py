"""Random programs of tasks and futures do the same, step for step, whoever made these.

A program is a list of coroutines, each a list of operations on futures and tasks that
all of them share.  It's run turn by turn on asyncio and on asyncfast, with the classes
of either, and everything that can be seen from Python is written down at each operation:
results, exceptions and their texts, states, the current task, the number of tasks,
context variables, the order of callbacks.  The records must be equal.

ASYNCFAST_PROGRAMS=10000 tries so many, and other ones every time.
"""

import asyncio
import collections
import contextvars
import functools
import gc
import os
import re
import sys
import types
import warnings

import pytest

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from support import PY, normalise  # noqa: E402

import asyncfast  # noqa: E402

PROGRAMS = int(os.environ.get("ASYNCFAST_PROGRAMS", "0"))
VARIABLE = contextvars.ContextVar("variable", default=None)


class Odd(BaseException):
    """Neither an Exception nor one that leaves the loop."""


ERRORS = (
    ValueError,
    asyncio.CancelledError,
    Odd,
    StopIteration,
    StopAsyncIteration,
    GeneratorExit,
    asyncio.InvalidStateError,
    KeyboardInterrupt,
    SystemExit,
)


@types.coroutine
def give(thing):
    """What no coroutine does by itself: yield something to the task."""
    return (yield thing)


def plain(text):
    """A text without what differs from run to run, or from maker to maker."""
    text = re.sub(r"Task-\d+", "Task-N", normalise(text))
    # Where something was made may be what is left of a text cut in the middle.
    text = re.sub(r"\.\.\.[\w./-]*:\d+", "...", text)
    return re.sub(r" created at [^\s>]+:\d+|, created at [^\s>]+", "", text)


class Counting:
    """A subclass in Python; asyncio must not pass its methods by."""

    def __init__(self, *args, **kwargs):
        self.added = 0
        super().__init__(*args, **kwargs)

    def add_done_callback(self, *args, **kwargs):
        self.added += 1
        return super().add_done_callback(*args, **kwargs)


Kind = collections.namedtuple("Kind", "new_loop Future Task factory")


def counting(base):
    return type(base.__name__, (Counting, base), {})


STOCK = asyncio.SelectorEventLoop, asyncio.Future, asyncio.Task
OWN = asyncfast.new_event_loop, asyncfast.Future, asyncfast.Task
KINDS = {
    "asyncfast": Kind(*OWN, False),
    "stock tasks on asyncfast": Kind(*OWN[:2], STOCK[2], True),
    "own tasks on asyncio": Kind(STOCK[0], *OWN[1:], True),
}


class World:
    """One run of a program."""

    def __init__(self, kind, program):
        self.kind, self.program = kind, program
        self.trace, self.reports = [], collections.Counter()
        self.loop, self.other = kind.new_loop(), asyncio.SelectorEventLoop()
        self.foreign = self.other.create_future()
        self.loop.set_exception_handler(self.report)
        # A log record of a slow step would keep the task that it tells of.
        self.loop.slow_callback_duration = 3600
        if kind.factory:
            self.loop.set_task_factory(self.make)
        self.tasks, self.futures, self.callbacks = [], [], {}
        self.context = contextvars.copy_context()
        self.sub_future, self.sub_task = counting(kind.Future), counting(kind.Task)
        for how in program["futures"]:
            self.do_future(None, how)

    # What is written down

    def number(self, thing):
        for name, known in (("task", self.tasks), ("future", self.futures)):
            for index, one in enumerate(known):
                if one is thing:
                    return name, index
        return thing if thing is None else "other"

    def show(self, thing):
        if isinstance(thing, BaseException):
            return type(thing).__name__, plain(str(thing))
        if asyncio.isfuture(thing):
            return self.number(thing), self.state(thing)
        if isinstance(thing, (set, list, tuple)):
            return [self.show(one) for one in thing]
        return thing if isinstance(thing, (int, str, bool, type(None))) else "other"

    def state(self, thing):
        """All that a future or task tells of itself."""
        found = [plain(repr(thing)), thing._state, thing.done(), thing.cancelled()]
        found += [getattr(thing, "added", None), thing._cancel_message]
        found.append(len(thing._callbacks or ()))
        if isinstance(thing, asyncio.Task):
            found += [thing._must_cancel, self.number(thing._fut_waiter)]
            found.append(thing._coro is None)
        if isinstance(thing, asyncio.Task) and PY >= (3, 11):
            found.append(thing.cancelling())
        return found

    def see(self, *event):
        running = asyncio._get_running_loop()
        self.trace.append(
            (
                *event,
                running and self.number(asyncio.current_task()),
                len(asyncio.all_tasks(self.loop)),
                VARIABLE.get(),
            )
        )

    def report(self, loop, context):
        text = context["message"].split(" callback ")[0], context.get("exception")
        if "handle" in context:
            self.see("reported", text[0], self.show(text[1]))
        else:
            # When an object dies is not ours to say.
            key = text[0], str(self.show(text[1])), str(sorted(context))
            self.reports[key] += 1

    # Things by number

    def target(self, which, me=None):
        """A future, or a task; for one that waits only what can't wait for it."""
        known = [*self.futures]
        if me is None:
            known += [task for task in self.tasks if task is not None]
        else:
            known += [task for task in self.tasks[me[1] + 1 :] if task is not None]
        return known[which % len(known)]

    def callback(self, which):
        """The same function for the same number; it may do something, too."""
        if which not in self.callbacks:
            operations = self.program["callbacks"]
            operation = operations[which % len(operations)] if operations else None

            def callback(future=None, *rest):
                self.see("callback", which, self.show(future))
                if operation is not None:
                    self.perform(("callback", which), operation)
                    if operation[0] == "raise":
                        raise ERRORS[operation[1]](f"from callback {which}")

            self.callbacks[which] = callback
        return self.callbacks[which]

    # Operations: those that wait are coroutines

    def do_future(self, me, how):
        make = {
            "loop": self.loop.create_future,
            "class": functools.partial(self.kind.Future, loop=self.loop),
            "stock": functools.partial(asyncio.Future, loop=self.loop),
            "sub": functools.partial(self.sub_future, loop=self.loop),
        }
        self.futures.append(make[how]())

    def make(self, loop, coro, **kwargs):
        return self.kind.Task(coro, loop=loop, **kwargs)

    def spawn(self, loop_call, coro, kwargs):
        if loop_call in ("loop", "context"):
            return self.loop.create_task(coro, **kwargs)
        classes = {"stock": asyncio.Task, "sub": self.sub_task}
        return classes.get(loop_call, self.kind.Task)(coro, loop=self.loop, **kwargs)

    def do_spawn(self, me, which, how, name):
        if len(self.tasks) > 12:
            return None
        index = len(self.tasks)
        self.tasks.append(None)
        kwargs = {} if name is None else {"name": name}
        if how == "context" and PY >= (3, 11):
            kwargs["context"] = self.context
        if how == "eager" and PY >= (3, 12):
            kwargs["eager_start"] = True
        coro = self.run(("task", index), self.body(which))
        try:
            self.tasks[index] = self.spawn(how, coro, kwargs)
        finally:
            if self.tasks[index] is None:
                coro.close()
        return self.show(self.tasks[index])

    def body(self, which):
        bodies = self.program["bodies"]
        return bodies[which % len(bodies)]

    def do_set_result(self, me, which, value):
        return self.target(which).set_result(value)

    def do_set_exception(self, me, which, error):
        return self.target(which).set_exception(ERRORS[error](f"set {which}"))

    def do_set_exception_class(self, me, which, error):
        return self.target(which).set_exception(ERRORS[error])

    def do_cancel(self, me, which, message):
        target = self.target(which)
        return target.cancel() if message is None else target.cancel(message)

    def do_uncancel(self, me, which):
        target = self.target(which)
        return getattr(target, "uncancel", lambda: "none")()

    def do_add(self, me, which, callback, in_context):
        context = self.context if in_context else None
        target, callback = self.target(which), self.callback(callback)
        return target.add_done_callback(callback, context=context)

    def do_remove(self, me, which, callback):
        return self.target(which).remove_done_callback(self.callback(callback))

    def do_look(self, me, which):
        return self.show(self.target(which))

    def do_ask(self, me, which, method):
        return self.show(getattr(self.target(which), method)())

    def do_names(self, me, which):
        target = self.target(which)
        return plain(str(getattr(target, "get_name", lambda: "none")()))

    def do_variable(self, me, value):
        VARIABLE.set(value)

    def do_debug(self, me, on):
        self.loop.set_debug(on)

    def do_soon(self, me, callback, in_context):
        context = self.context if in_context else None
        self.loop.call_soon(self.callback(callback), context=context)

    def do_raise(self, me, error):
        if me[0] != "callback":
            raise ERRORS[error](f"from {me}")

    async def do_await(self, me, which):
        return self.show(await self.target(which, me))

    async def do_sleep(self, me):
        await asyncio.sleep(0)

    async def do_yield(self, me, what):
        things = {
            "none": None,
            "number": 42,
            "text": "text",
            "future": self.futures[0],
            "generator": (n for n in ()),
            "foreign": self.foreign,
        }
        return self.show(await give(things[what]))

    async def do_itself(self, me):
        return self.show(await asyncio.current_task())

    async def do_foreign(self, me):
        return self.show(await self.foreign)

    async def do_gather(self, me, which, and_which, exceptions):
        targets = self.target(which, me), self.target(and_which, me)
        return self.show(await asyncio.gather(*targets, return_exceptions=exceptions))

    async def do_gather_bodies(self, me, which, and_which):
        bodies = [self.nested(me, n) for n in (which, and_which)]
        return self.show(await asyncio.gather(*bodies))

    def nested(self, me, which):
        """A coroutine that isn't one of the numbered tasks, and makes no more."""
        ops = [op for op in self.body(which) if op[0] in SIMPLE]
        return self.run((*me, "nested"), ops)

    async def do_shield(self, me, which):
        return self.show(await asyncio.shield(self.target(which, me)))

    async def do_wait_for(self, me, which, timeout):
        return self.show(await asyncio.wait_for(self.target(which, me), timeout))

    async def do_wait_for_body(self, me, which, timeout):
        return self.show(await asyncio.wait_for(self.nested(me, which), timeout))

    async def do_timeout(self, me, which, delay):
        if PY < (3, 11):
            return None
        async with asyncio.timeout(delay):
            return self.show(await self.target(which, me))

    async def do_wait(self, me, which, and_which, first):
        when = asyncio.FIRST_COMPLETED if first else asyncio.ALL_COMPLETED
        targets = {self.target(which, me), self.target(and_which, me)}
        done, pending = await asyncio.wait(targets, return_when=when)
        return len(done), len(pending)

    async def do_group(self, me, which, and_which):
        if PY < (3, 11):
            return None
        async with asyncio.TaskGroup() as group:
            for body in which, and_which:
                group.create_task(self.nested(me, body))

    async def do_try(self, me, body, then):
        try:
            await self.run(me, body)
        except (Exception, asyncio.CancelledError, Odd) as error:
            self.see("caught", me, self.show(error))
            await self.run(me, then)
        finally:
            self.see("finally", me)

    # Running

    def perform(self, me, operation):
        """An operation of a callback; what it raises is of no consequence."""
        name, *args = operation
        try:
            done = self.show(getattr(self, f"do_{name}")(me, *args))
        except Exception as error:
            done = "raised", self.show(error)
        self.see(me, name, done)

    async def run(self, me, operations):
        for name, *args in operations:
            if name in HARMLESS:
                self.perform(me, (name, *args))
                continue
            self.see(me, "begins", name)
            try:
                done = getattr(self, f"do_{name}")(me, *args)
                if asyncio.iscoroutine(done):
                    done = await done
            except BaseException as error:
                self.see(me, name, "raised", self.show(error))
                raise
            self.see(me, name, self.show(done))
        return len(operations)

    def turn(self):
        self.loop.call_soon(self.loop.stop)
        try:
            self.loop.run_forever()
        except (KeyboardInterrupt, SystemExit, GeneratorExit) as error:
            self.see("left the loop", self.show(error))
        self.trace.append(("turn", asyncio.current_task(self.loop)))

    def turns(self):
        """As many as something happens in, if it ends at all."""
        for _ in range(60):
            before = len(self.trace)
            self.turn()
            if len(self.trace) == before + 1 and not self.loop._ready:
                return

    def execute(self):
        for how, name in self.program["mains"]:
            self.see("main", self.do_spawn(None, len(self.tasks), how, name))
        self.turns()
        for _ in range(12):
            left = asyncio.all_tasks(self.loop)
            for task in [t for t in self.tasks if t in left] or left:
                task.cancel("end")
            if not left:
                break
            self.turns()
        self.see("end", [self.show(task) for task in self.tasks])

    def close(self):
        record, self.trace = self.trace, []
        self.loop.set_debug(False)
        self.tasks, self.futures, self.callbacks = [], [], {}
        self.foreign = self.sub_future = self.sub_task = None
        gc.collect()
        self.turn()
        self.loop.close()
        self.other.close()
        return record


def record(kind, program):
    """(the record, what was reported) of a program."""
    lost = collections.Counter()
    hook, sys.unraisablehook = (
        sys.unraisablehook,
        lambda info: lost.update([type(info.exc_value).__name__]),
    )
    gc.disable()
    gc.freeze()  # so that collecting looks at nothing else
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            world = World(kind, program)
            context = contextvars.copy_context()
            context.run(world.execute)
            return world.close(), world.reports, lost
    finally:
        gc.unfreeze()
        gc.enable()
        sys.unraisablehook = hook


# -- Programs ----------------------------------------------------------------------

NUMBER = st.integers(0, 7)
ERROR = st.integers(0, len(ERRORS) - 1)
HOW = st.sampled_from(["loop", "loop", "class", "stock", "sub", "context", "eager"])
NAME = st.sampled_from([None, None, "named", 7])
MESSAGE = st.sampled_from([None, None, "message", 5])
FLAG = st.booleans()
TIMEOUT = st.sampled_from([0, -1, None, 1000])


def operation(name, *args):
    return st.tuples(st.just(name), *args)


# Without waiting; callbacks may do these.
AT_ONCE = [
    operation("future", st.sampled_from(["loop", "class", "stock", "sub"])),
    operation("spawn", NUMBER, HOW, NAME),
    operation("set_result", NUMBER, NUMBER),
    operation("set_result", NUMBER, NUMBER),
    operation("set_exception", NUMBER, ERROR),
    operation("set_exception_class", NUMBER, ERROR),
    operation("cancel", NUMBER, MESSAGE),
    operation("cancel", NUMBER, MESSAGE),
    operation("uncancel", NUMBER),
    operation("add", NUMBER, NUMBER, FLAG),
    operation("remove", NUMBER, NUMBER),
    operation("look", NUMBER),
    operation(
        "ask", NUMBER, st.sampled_from(["result", "exception", "_make_cancelled_error"])
    ),
    operation("names", NUMBER),
    operation("variable", NUMBER),
    operation("soon", NUMBER, FLAG),
    operation("raise", ERROR),
]
WAITING = [
    operation("sleep"),
    operation("yield", st.sampled_from(["none", "none", "number", "text"])),
    operation("yield", st.sampled_from(["future", "generator", "foreign"])),
    operation("await", NUMBER),
    operation("await", NUMBER),
    operation("await", NUMBER),
    operation("itself"),
    operation("foreign"),
    operation("shield", NUMBER),
    operation("wait_for", NUMBER, TIMEOUT),
    operation("timeout", NUMBER, TIMEOUT),
    operation("gather", NUMBER, NUMBER, FLAG),
    operation("wait", NUMBER, NUMBER, FLAG),
]
NESTING = [
    operation("gather_bodies", NUMBER, NUMBER),
    operation("wait_for_body", NUMBER, TIMEOUT),
    operation("group", NUMBER, NUMBER),
]
HARMLESS = (
    "spawn set_result set_exception set_exception_class cancel add look ask".split()
)
SIMPLE = {"sleep", "yield", "set_result", "cancel", "raise", "variable", "look"}
OPERATION = st.recursive(
    st.one_of(*AT_ONCE, *WAITING, *NESTING, operation("debug", FLAG)),
    lambda inner: operation(
        "try", st.lists(inner, min_size=1, max_size=4), st.lists(inner, max_size=3)
    ),
    max_leaves=6,
)
PROGRAM = st.fixed_dictionaries(
    {
        "futures": st.lists(
            st.sampled_from(["loop", "loop", "class", "stock", "sub"]),
            min_size=1,
            max_size=3,
        ),
        "callbacks": st.lists(st.one_of(*AT_ONCE), max_size=4),
        "bodies": st.lists(
            st.lists(OPERATION, min_size=2, max_size=9), min_size=2, max_size=5
        ),
        "mains": st.lists(st.tuples(HOW, NAME), min_size=2, max_size=5),
    }
)


def difference(expected, found):
    """Where two records part."""
    for step, (old, new) in enumerate(zip(expected, found, strict=False)):
        if old != new:
            before = "\n".join(map(str, expected[max(0, step - 6) : step]))
            return f"{before}\nasyncio: {old}\nhere:    {new}"
    return f"asyncio: {expected[len(found) :]}\nhere:    {found[len(expected) :]}"


@pytest.mark.guard(600 + PROGRAMS)
@settings(
    max_examples=PROGRAMS or 300,
    derandomize=not PROGRAMS,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(PROGRAM)
def test_a_program_does_the_same_with_whichever_tasks(program):
    # A factory makes a difference to asyncio: to names, for one.
    oracles = {
        factory: record(Kind(*STOCK, factory), program) for factory in (False, True)
    }
    for name, kind in KINDS.items():
        expected, *rest = oracles[kind.factory]
        found, *found_rest = record(kind, program)
        assert found == expected, f"{name}:\n{difference(expected, found)}"
        assert found_rest == rest, name
