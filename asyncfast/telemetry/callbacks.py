"""What callbacks take: those that are slow, and all of them by kind."""

import asyncio
import dataclasses
import functools
import math
import types
from asyncio import base_events, format_helpers
from asyncio.log import logger
from collections.abc import Callable

from ._common import code_name, own_loop, place, seconds

__all__ = [
    "CallbackStats",
    "SlowCallback",
    "callback_stats",
    "disable_callback_stats",
    "enable_callback_stats",
    "on_slow_callback",
]


# Slow callbacks


@dataclasses.dataclass(frozen=True, slots=True)
class SlowCallback:
    """A callback, or a step of a task, that took long."""

    callback: str
    """What ran, in the words of asyncio's debug mode."""
    duration: float
    """How long it ran, in seconds."""
    queued: float
    """How long it was ready before, in seconds; a timer, since it was due."""
    task: str | None
    """The task's name, if it was a step of one."""
    coroutine: str | None
    """The qualified name of the task's coroutine."""
    where: str | None
    """``file:line``: where the task waits now; if it's done, where its coroutine
    is defined; of any other callback, where the function is defined."""


def on_slow_callback(
    seconds: float | None,
    handler: Callable[[SlowCallback], object] | None = None,
    loop: asyncio.AbstractEventLoop | None = None,
) -> None:
    """Have ``handler(SlowCallback(...))`` called after each callback that takes
    *seconds* or longer; None for *seconds* ends that.

    The handler is called by the loop, right after the callback. Without one a
    warning goes to the logger ``asyncio``, in asyncio's words. There is one
    handler for each loop: this replaces it. An exception of the handler goes to
    the loop's exception handler. It has nothing to do with debug mode and
    ``loop.slow_callback_duration``.

    May be called from any thread. Raises ValueError unless *seconds* is positive,
    TypeError if *handler* can't be called or *loop* isn't asyncfast's,
    RuntimeError without a loop.
    """
    loop = own_loop(loop)
    if handler is not None and not callable(handler):
        raise TypeError(f"a callable object is needed, got {handler!r}")
    _set_slow(loop, seconds, handler)


def _set_slow(loop, threshold, handler):
    loop._slow_seconds = (
        math.inf if threshold is None else seconds("seconds", threshold)
    )
    loop._slow_handler = handler
    loop._observe(loop._slow_seconds, loop._keeps_stats)


def report_slow(loop, item, callback, duration, queued):
    """Called by the loop: *item* is a task, a handle, or one that C code made;
    *callback* is what a handle of the loop's had before it ran."""
    try:
        if loop._slow_handler is None:
            _log_slow(loop, item, callback, duration)
        else:
            loop._slow_handler(_describe(item, callback, duration, queued))
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as exc:
        loop.call_exception_handler(
            {"message": "Exception in handler of a slow callback", "exception": exc}
        )


def _log_slow(loop, item, callback, duration):
    # In debug mode asyncio has said so itself.
    if not (loop.get_debug() and duration >= loop.slow_callback_duration):
        logger.warning(
            "Executing %s took %.3f seconds", _text(item, callback), duration
        )


def _describe(item, callback, duration, queued):
    task = _task_of(item, callback)
    coro = None if task is None else task.get_coro()
    return SlowCallback(
        callback=_text(item, callback),
        duration=duration,
        queued=queued,
        task=None if task is None else task.get_name(),
        coroutine=getattr(coro, "__qualname__", None),
        where=_place_of(callback) if task is None else _place_of_task(task, coro),
    )


def _text(item, callback):
    if not isinstance(item, asyncio.Handle):
        return repr(item)
    if item.cancelled() and callback is not None:
        source = format_helpers._format_callback_source(callback, ())
        return f"<{type(item).__name__} cancelled {source}>"
    return base_events._format_handle(item)


def _task_of(item, callback):
    task = getattr(callback, "__self__", item)
    return task if isinstance(task, asyncio.Task) else None


def _place_of_task(task, coro):
    if stack := task.get_stack(limit=1):
        return f"{stack[-1].f_code.co_filename}:{stack[-1].f_lineno}"
    code = getattr(coro, "cr_code", None) or getattr(coro, "gi_code", None)
    return None if code is None else place(code)


def _place_of(callback):
    while isinstance(callback, functools.partial):
        callback = callback.func
    code = getattr(getattr(callback, "__func__", callback), "__code__", None)
    return place(code) if isinstance(code, types.CodeType) else None


# Statistics


@dataclasses.dataclass(frozen=True, slots=True)
class CallbackStats:
    """What the callbacks of one kind took altogether; times in seconds."""

    name: str
    """The qualified name of the function or coroutine; of what a transport does,
    the class of its protocol."""
    where: str | None
    """``file:line`` where that is defined, if it is Python code."""
    count: int
    """How many have run: calls, or steps of tasks."""
    total: float
    """How long they ran altogether."""
    max: float
    """How long the longest ran."""
    queued: float
    """How long they were ready before they ran, altogether."""
    max_queued: float
    """How long the one that waited longest did."""

    @property
    def mean(self) -> float:
        """How long one ran on average."""
        return self.total / self.count

    @property
    def mean_queued(self) -> float:
        """How long one was ready before, on average."""
        return self.queued / self.count


def enable_callback_stats(loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Measure each callback of *loop*, by default the running one, from now on.

    Does nothing if that is done already. May be called from any thread. Raises
    RuntimeError without a loop, TypeError if it is not asyncfast's.
    """
    _keep_stats(own_loop(loop), True)


def disable_callback_stats(loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Stop what :func:`enable_callback_stats` began, and forget the numbers."""
    _keep_stats(own_loop(loop), False)


def _keep_stats(loop, keep):
    loop._keeps_stats = keep
    loop._observe(loop._slow_seconds, keep)


def callback_stats(
    loop: asyncio.AbstractEventLoop | None = None, *, reset: bool = False
) -> list[CallbackStats]:
    """What the callbacks of each kind took since :func:`enable_callback_stats`,
    those first that took most.

    Steps of tasks count under the task's outermost coroutine. After 4096 kinds
    the rest is counted as one, ``(others)``. *reset* begins anew. An empty list
    if nothing is measured. Raises as :func:`enable_callback_stats` does.
    """
    loop = own_loop(loop)
    rows = [_stats(*row) for row in loop._tally()]
    if reset and loop._keeps_stats:
        loop._observe(loop._slow_seconds, False)
        loop._observe(loop._slow_seconds, True)
    return sorted(rows, key=lambda row: row.total, reverse=True)


def _stats(key, count, *nanoseconds):
    name, where = _name_of(key)
    return CallbackStats(name, where, count, *(value / 1e9 for value in nanoseconds))


def _name_of(key):
    if isinstance(key, types.CodeType):
        return code_name(key), place(key)
    if isinstance(key, type):
        return f"{key.__module__}.{key.__qualname__}", None
    return key or "(others)", None
