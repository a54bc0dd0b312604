"""Code that runs where nobody expects any: destructors, the collector, overridden
methods, a task that is initialized while it waits."""

import asyncio
import gc
import threading
import weakref
from collections import abc

import pytest
from support import like_asyncio, python, told, turns

import asyncfast


def settled(loop, value):
    future = loop.create_future()
    future.set_result(value)
    return future


# -- Destructors -------------------------------------------------------------------


async def test_what_dies_with_a_result_may_await_another(loop):
    async def wait(future):
        return await future

    class Last:
        def __del__(self):
            try:
                wait(settled(loop, "wrong")).send(None)
            except StopIteration as stop:
                seen.append(stop.value)

    seen = []
    for number in range(3):
        await settled(loop, Last())
        assert await settled(loop, number) == number
    await asyncio.sleep(0)
    assert seen == ["wrong"] * 3


class AtItsEnd:
    """Calls something when it dies."""

    def __init__(self, call):
        self.call = call

    def __del__(self):
        self.call()


def in_thread(call, *args):
    thread = threading.Thread(target=call, args=args)
    thread.start()
    thread.join()


# What the destructor does with the loop, whose reader it may give a writer.
AT_THE_END = {
    "stop": lambda loop, sock: loop.stop(),
    "call_soon": lambda loop, sock: loop.call_soon(loop.stop),
    "call_later": lambda loop, sock: loop.call_later(0.001, loop.stop),
    "add_writer": lambda loop, sock: loop.add_writer(sock, loop.stop),
    "thread": lambda loop, sock: in_thread(loop.call_soon_threadsafe, loop.stop),
}


@pytest.mark.parametrize("what", AT_THE_END)
def test_a_result_that_nobody_wants_dies_before_the_loop_sleeps(loop, pair, what):
    """Or the loop would sleep over what that schedules."""

    async def leave_result():
        return AtItsEnd(lambda: AT_THE_END[what](loop, pair[0]))

    loop.add_reader(pair[0], print)
    loop.create_task(leave_result())
    loop.run_forever()
    loop.remove_reader(pair[0])
    loop.remove_writer(pair[0])


def test_while_tasks_are_cleared_they_are_not_among_all_tasks(loop, reports):
    """A task that the collector clears is of no use, and some methods of it crash."""

    class Cycle:
        pass

    def tell(_):
        found.extend(asyncio.all_tasks(loop))
        calls.append(None)

    def leave_code():
        # Not tracked by the collector, so it dies when what holds it is cleared.
        cycle = Cycle()
        cycle.cycle, cycle.code = cycle, compile("1", "", "exec")
        told.append(weakref.ref(cycle.code, tell))

    async def wait(future):
        await future

    def leave_task():
        future = loop.create_future()
        task = loop.create_task(wait(future))
        loop.run_until_complete(asyncio.sleep(0))
        future.task, future.future = task, future

    found, calls, told = [], [], []
    gc.disable()
    try:
        leave_code()
        leave_task()
        leave_code()
        gc.collect()
    finally:
        gc.enable()
    assert len(calls) == 2
    assert found == []
    assert len(reports.take()) == 1


class Scheduling:
    """Schedules much when it's collected."""

    def __init__(self, loop):
        self.cycle, self.loop = self, loop

    def __del__(self):
        for _ in range(100):
            self.loop.call_soon(int)
            self.loop.call_later(100, int)


@pytest.mark.parametrize("name", ["_ready", "_scheduled"])
def test_the_collector_may_schedule_while_the_queues_are_shown(loop, name):
    threshold = gc.get_threshold()
    kept = [[] for _ in range(200)]  # so that each new list is allocated
    for _ in range(10):
        gc.disable()
        Scheduling(loop)
        kept.append([])
        gc.set_threshold(1)
        gc.enable()
        kept.append(getattr(loop, name))
        gc.set_threshold(*threshold)
    gc.collect()
    assert len(getattr(loop, name)) >= 1000


FORK = """
import gc, os, weakref
from support import new_loop

def leave_job():
    loop = new_loop("asyncfast")
    first = loop.run_in_executor(None, int)
    while not first.done():
        loop._run_once()
    loop.run_in_executor(None, int)
    return weakref.ref(loop)

gc.disable()
others = [new_loop("asyncfast") for _ in range(3)]
forgotten = leave_job()
pid = os.fork()
if pid == 0:
    for loop in others:
        loop.run_until_complete(loop.run_in_executor(None, int))
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_loop_that_only_a_job_holds_may_die_in_a_forked_child():
    spoilt = {"PYTHONMALLOC": "malloc_debug"}  # overwrites what is freed
    for _ in range(3):
        done = python("-W", "ignore", "-c", FORK, env=spoilt)
        assert done.stdout == "0\n", done.stderr


# -- Overridden methods ------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3])
def test_call_soon_may_initialize_the_future_anew(count):
    class Loop(asyncfast.Loop):
        def call_soon(self, callback, *args, context=None):
            with pytest.raises(ZeroDivisionError):
                future.__init__(loop=NoDebug())
            scheduled.append(callback)

    class NoDebug:
        def get_debug(self):
            return 1 / 0

    scheduled = []
    loop = Loop()
    future = asyncfast.Future(loop=loop)
    for _ in range(count):
        future.add_done_callback(print)
    future.set_result(None)
    assert scheduled == [print] * count
    loop.close()


class Stop(StopIteration):
    def __new__(cls, *args):
        return Exception.__new__(Exception)


class Thrower(abc.Coroutine):
    """Its throw() ends with a class that makes instances of another."""

    def __init__(self, future):
        self.iterator = future.__await__()

    def send(self, value):
        return self.iterator.send(value)

    def throw(self, *args):
        return self.iterator.throw(Stop)

    def close(self):
        pass

    def __await__(self):
        return self


async def test_an_exception_may_not_be_of_its_class(loop):
    task = asyncio.Task(Thrower(loop.create_future()), loop=loop)
    await turns(2)
    task.cancel()
    await turns(3)
    assert type(task.exception()) is Exception


# -- A task that is initialized while it waits --------------------------------------


async def awaits(future, seen):
    try:
        seen.append(await future)
    except BaseException as error:
        seen.append(type(error))


def initialize_again(loop, end, debug):
    """A task waits, is initialized, and what it waited for comes to its end."""
    seen = []

    async def main():
        old, new = loop.create_future(), loop.create_future()
        task = loop.create_task(awaits(old, seen), name="task")
        await turns(1)
        task._log_destroy_pending = False
        task.__init__(awaits(new, seen), loop=loop, name="task")
        await turns(1)
        loop.set_debug(debug)
        end(old)
        await turns(2)
        if not new.done():
            new.set_result("new")
        await turns(3)
        return task.done(), old.cancelled() or str(old.exception())

    done = loop.run_until_complete(main())
    loop.set_debug(False)
    return done, seen, [message for message, _ in told(loop)]


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(
    "end",
    [
        lambda future: future.set_result("old"),
        lambda future: future.set_exception(KeyError("old")),
        lambda future: future.cancel(),
    ],
    ids=["result", "exception", "cancel"],
)
def test_what_a_task_awaited_before_wakes_it(loop, end, debug):
    like_asyncio(loop, lambda loop: initialize_again(loop, end, debug))


def test_a_task_may_leave_its_loop_to_die(loop, reports):
    """In a step that is called by name, when nobody else holds the loop."""

    async def leave():
        await held["future"]
        held.pop("task").__init__(unused, loop=loop)
        held.clear()
        asyncio.tasks._current_tasks.clear()
        gc.collect()

    def waiting():
        own = asyncfast.new_event_loop()
        held["future"] = own.create_future()
        held["task"] = own.create_task(leave())
        own.run_until_complete(asyncio.sleep(0))
        [(wakeup, _)] = held["future"]._callbacks
        held["future"].set_result(None)
        own.close()
        return wakeup, weakref.ref(own)

    held, unused = {}, asyncio.sleep(0)
    wakeup, forgotten = waiting()
    done = loop.create_future()
    done.set_result(None)
    wakeup(done)
    assert forgotten() is None
    loop.run_until_complete(asyncio.sleep(0))
    unused.close()
    assert "already done" in str(reports.take_one()["exception"])
