"""Places of deeds: what a loop calls of its user's code; the list of them all."""

import asyncio
import collections.abc
import functools
import gc
import os
import signal
import sys
import threading

from deeds import (
    ANYWHERE,
    TO_A_DATAGRAM_TRANSPORT,
    TO_A_TRANSPORT,
    World,
    abort,
    cancel,
    cancelled,
    close,
    close_twice,
    drop,
    fail,
    interrupt,
    name_of,
    nothing,
    pause,
    run_nested,
    schedule,
    stop,
    swap,
    write,
    write_and_close,
)
from places_io import (
    in_buffered_stream,
    in_child,
    in_datagrams,
    in_death_of_a_protocol,
    in_iteration_of_writelines,
    in_protocol_factory,
    in_reader,
    in_stream,
    in_writer,
    life_of_tls,
)
from support import finish, normalise, still_serves, told


def in_call_soon(world):
    handle = world.loop.call_soon(world.act)
    world.cancel = handle.cancel
    world.loop.call_soon(world.note, "next")
    del handle
    world.drive()


def in_call_later(world):
    handle = world.loop.call_later(0, world.act)
    world.cancel = handle.cancel
    world.loop.call_later(0, world.note, "next")
    del handle
    world.drive()


def in_call_soon_threadsafe(world):
    def call():
        world.cancel = world.loop.call_soon_threadsafe(world.act).cancel

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    world.drive()


def in_signal_handler(world):
    loop = world.loop
    loop.add_signal_handler(signal.SIGUSR1, world.act)
    world.cancel = lambda: loop.remove_signal_handler(signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR1)
    world.drive()
    loop.remove_signal_handler(signal.SIGUSR1)


def in_done_callback(world):
    future = world.loop.create_future()
    world.cancel = future.cancel
    world.objects.append(future)
    future.add_done_callback(world.act)
    future.add_done_callback(lambda _: world.note("next"))
    future.set_result(1)
    del future
    world.drive()


def in_done_callback_of_task(world):
    task = world.loop.create_task(asyncio.sleep(0, "slept"))
    world.cancel = task.cancel
    world.objects.append(task)
    task.add_done_callback(world.act)
    task.add_done_callback(lambda task: world.note("next", task.result()))
    del task
    world.drive()


async def acting(world, place):
    try:
        if place == "body":
            world.act()
        await asyncio.sleep(0)
        world.note("went on")
        await world.future
        if place == "after":
            world.act()
    except asyncio.CancelledError:
        world.note("cancelled")
        if place == "cancelled":
            world.act()
        raise
    finally:
        if place == "finally":
            world.act()
    return "result"


def in_task(place, world):
    world.future = world.loop.create_future()
    task = world.loop.create_task(acting(world, place))
    world.cancel = task.cancel
    world.objects.append(task)
    world.drive()
    if place == "cancelled":
        task.cancel()
    elif not world.future.done():
        world.future.set_result(None)
    world.drive()
    world.note("task", task.done())
    if task.done() and not task.cancelled():
        world.note("exception", name_of(task.exception()))


class Awaitable:
    """A future that isn't asyncio's, as allowed by _asyncio_future_blocking."""

    _asyncio_future_blocking = False

    def __init__(self, world, place):
        self.world, self.place = world, place
        self.callbacks = []
        self.finished = False

    def get_loop(self):
        if self.place == "get_loop":
            self.world.act()
        return self.world.loop

    def add_done_callback(self, callback, *, context):
        self.callbacks.append((callback, context))
        if self.place == "add_done_callback":
            self.world.act()

    def result(self):
        if self.place == "result":
            self.world.act()
        return "awaited"

    def cancel(self, msg=None):
        if self.place == "cancel":
            self.world.act()
        return False

    def __await__(self):
        if not self.finished:
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    def finish(self):
        self.finished = True
        for callback, context in self.callbacks:
            self.world.loop.call_soon(callback, self, context=context)


def in_awaited(place, world):
    async def wait():
        return await awaited

    awaited = Awaitable(world, place)
    task = world.loop.create_task(wait())
    world.cancel = task.cancel
    world.objects.append(task)
    world.drive()
    if place == "cancel":
        world.inside(task.cancel)
    awaited.finish()
    world.drive()
    world.note("task", task.done())
    if task.done() and not task.cancelled():
        world.note("exception", name_of(task.exception()))


class Handmade(collections.abc.Coroutine):
    """A coroutine that isn't a generator."""

    def __init__(self, world, place):
        self.world, self.place, self.sent = world, place, 0

    def send(self, value):
        self.sent += 1
        if self.place == "send":
            self.world.act()
        if self.sent == 3:
            raise StopIteration("result")

    def throw(self, kind, value=None, traceback=None):
        if self.place == "throw":
            self.world.act()
        raise kind if value is None else value

    def close(self):
        pass

    def __await__(self):
        return self

    __iter__ = __await__
    __next__ = functools.partialmethod(send, None)


def in_handmade_coroutine(place, world):
    task = world.loop.create_task(Handmade(world, place))
    world.cancel = task.cancel
    world.objects.append(task)
    if place == "throw":
        task.cancel()
    world.drive()
    world.note("task", task.done())
    if task.done() and not task.cancelled():
        world.note("exception", name_of(task.exception()))


def in_exception_handler(world):
    def handler(loop, context):
        world.note("handler", context["message"].split(" callback ")[0])
        world.act()

    def wrong():
        raise ValueError("wrong")

    world.loop.set_exception_handler(handler)
    world.cancel = lambda: world.loop.set_exception_handler(None)
    world.loop.call_soon(wrong)
    world.loop.call_soon(world.note, "next")
    world.drive()
    world.loop.set_exception_handler(world.loop.reports)


class Dying:
    def __init__(self, world):
        self.world = world

    def __del__(self):
        self.world.act()


def in_death_of_an_argument(world):
    handle = world.loop.call_later(3600, world.note, Dying(world))
    world.cancel = world.loop.call_later(0, world.note, "next").cancel
    world.inside(handle.cancel)


def in_death_of_a_result(world):
    future = world.loop.create_future()
    future.set_result(Dying(world))
    world.objects.append(future)
    world.cancel = lambda: None
    del future
    world.inside(world.objects.clear)


def in_equality_of_a_callback(world):
    class Callback:
        def __call__(self, future):
            world.note("called")

        def __eq__(self, other):
            world.act()
            return False

        __hash__ = None

    future = world.loop.create_future()
    world.cancel = future.cancel
    world.objects.append(future)
    for _ in range(3):
        future.add_done_callback(Callback())
    remove = functools.partial(future.remove_done_callback, Callback())
    del future
    world.inside(lambda: world.note("removed", remove()))


def in_asyncgen(world):
    async def numbers():
        try:
            yield 1
            yield 2
        finally:
            world.act()

    async def take_one():
        async for number in numbers():
            return number

    task = world.loop.create_task(take_one())
    world.cancel = task.cancel
    world.drive()
    gc.collect()
    world.drive()
    world.note("took", task.done())


def in_shutdown_of_asyncgens(world):
    async def numbers():
        try:
            yield 1
        finally:
            world.act()

    async def begin():
        await world.objects[0].__anext__()

    world.objects.append(numbers())
    world.loop.create_task(begin())
    world.drive()
    task = world.loop.create_task(world.loop.shutdown_asyncgens())
    world.cancel = task.cancel
    world.drive()
    world.note("shut down", task.done())
    world.loop._asyncgens_shutdown_called = False  # for what comes after


def in_task_factory(world):
    def factory(loop, coro, **kwargs):
        world.note("factory")
        try:
            world.act()
        except BaseException:
            coro.close()
            raise
        return asyncio.Task(coro, loop=loop, **kwargs)

    world.cancel = lambda: world.loop.set_task_factory(None)
    world.loop.set_task_factory(factory)

    def make():
        world.objects.append(world.loop.create_task(asyncio.sleep(0)))

    world.loop.call_soon(make)
    world.drive()
    world.loop.set_task_factory(None)


def in_executor(world):
    future = world.loop.run_in_executor(None, int, "7")
    world.cancel = future.cancel
    world.objects.append(future)
    future.add_done_callback(world.act)
    ended = future.done
    del future
    world.drive_until(ended)


def in_sum_of_a_delay(world):
    class Delay:
        def __radd__(self, time):
            world.act()
            return time

        __add__ = __radd__

        def __float__(self):
            return 0.0

    def later():
        world.loop.call_later(Delay(), world.note, "later")

    world.cancel = lambda: None
    world.loop.call_soon(later)
    world.drive()


def in_text_of_a_callback(world):
    """What is wrong is told with a repr."""

    class Wrong:
        def __call__(self):
            raise ValueError("wrong")

        def __repr__(self):
            world.act()
            return "<Wrong>"

    world.cancel = lambda: None
    world.loop.set_exception_handler(
        lambda loop, context: world.note("report", context["message"][:21])
    )
    world.loop.call_soon(Wrong())
    world.drive()
    world.loop.set_exception_handler(world.loop.reports)


STREAM_CALLS = [
    "connection_made",
    "data_received",
    "pause_writing",
    "resume_writing",
    "eof_received",
    "connection_lost",
]
BUFFERED_CALLS = ["get_buffer", "buffer_updated", "eof_received", "connection_lost"]
DATAGRAM_CALLS = [
    "connection_made",
    "datagram_received",
    "pause_writing",
    "resume_writing",
    "error_received",
    "connection_lost",
]
CHILD_CALLS = [
    "connection_made",
    "pipe_data_received",
    "pipe_connection_lost",
    "process_exited",
    "connection_lost",
]
TLS_CALLS = ["connection_made", "data_received", "connection_lost"]

# {name: (place, deeds that can be done there)}
PLACES = {
    **{
        f"stream.{call}": (in_stream(call), ANYWHERE + TO_A_TRANSPORT)
        for call in STREAM_CALLS
    },
    **{
        f"buffered.{call}": (in_buffered_stream(call), ANYWHERE + TO_A_TRANSPORT)
        for call in BUFFERED_CALLS
    },
    **{
        f"datagram.{call}": (in_datagrams(call), ANYWHERE + TO_A_DATAGRAM_TRANSPORT)
        for call in DATAGRAM_CALLS
    },
    **{
        f"task.{place}": (functools.partial(in_task, place), [*ANYWHERE, cancelled])
        for place in ("body", "after", "cancelled", "finally")
    },
    **{
        f"awaited.{place}": (functools.partial(in_awaited, place), ANYWHERE)
        for place in ("get_loop", "add_done_callback", "result", "cancel")
    },
    **{
        f"coroutine.{place}": (
            functools.partial(in_handmade_coroutine, place),
            ANYWHERE,
        )
        for place in ("send", "throw")
    },
    **{
        place.__name__[3:]: (place, ANYWHERE)
        for place in (
            in_call_soon,
            in_call_later,
            in_call_soon_threadsafe,
            in_reader,
            in_writer,
            in_signal_handler,
            in_done_callback,
            in_done_callback_of_task,
            in_exception_handler,
            in_death_of_an_argument,
            in_death_of_a_result,
            in_equality_of_a_callback,
            in_asyncgen,
            in_shutdown_of_asyncgens,
            in_task_factory,
            in_executor,
            in_sum_of_a_delay,
            in_text_of_a_callback,
            in_protocol_factory,
        )
    },
    **{
        place.__name__[3:]: (place, ANYWHERE + TO_A_TRANSPORT)
        for place in (in_iteration_of_writelines, in_death_of_a_protocol)
    },
}
CHILD_PLACES = {
    f"child.{call}": (
        functools.partial(in_child, call),
        [nothing, cancel, stop, interrupt, fail, drop, run_nested, schedule],
    )
    for call in CHILD_CALLS
}
TLS_PLACES = {
    f"tls.{call}": (
        functools.partial(life_of_tls, call),
        [*ANYWHERE, close, abort, close_twice, write, write_and_close, swap, pause],
    )
    for call in TLS_CALLS
}


def of_a_task(report):
    """asyncio accepts connections in a task, which keeps what has left the loop."""
    text, error = report
    return text == "Task exception was never retrieved" and not issubclass(
        error[0], Exception
    )


def note_unraisable(world, args):
    if not isinstance(args.exc_value, Warning):
        world.note("unraisable", name_of(args.exc_value))


def happened(kind, place, deed, tls=()):
    """The log of what happens on a loop of this kind when a deed is done in a place."""
    world = World(kind, deed, tls)
    loop = world.loop
    hook = sys.unraisablehook
    sys.unraisablehook = functools.partial(note_unraisable, world)
    try:
        place(world)
        world.drive()
        world.end()
    finally:
        sys.unraisablehook = hook
    reports = [report for report in told(loop) if not of_a_task(report)]
    world.note("reports", [(normalise(text), error) for text, error in reports])
    loop.set_debug(False)
    if kind == "asyncio":  # not ours to judge what a deed has broken there
        loop.close()
        return world.log
    loop.run_until_complete(still_serves(loop))
    finish(loop)
    assert not loop.reports, loop.reports
    return world.log
