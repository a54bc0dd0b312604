"""The Future and Task that loops make, and their registration with asyncio.

They extend the structs of the C classes in the standard library's ``_asyncio``,
so they are used only where those are laid out as the C core expects: that is
tried here, once, on stock objects. Elsewhere, and with ASYNCFAST_TASKS=stock in
the environment, loops make the stock classes.
"""

import asyncio
import os
import sys
import weakref
from asyncio import tasks
from typing import TYPE_CHECKING

from . import _core

__all__ = ["OWN", "Future", "Task"]


class _Registry(weakref.WeakSet):
    """asyncio's set of all tasks, which also shows those of the C core.

    Those hang in a list of the core, at a fraction of the cost.
    """

    def __iter__(self):
        yield from _core._tasks()
        yield from super().__iter__()

    def __len__(self):
        return len(_core._tasks()) + super().__len__()

    def __contains__(self, task):
        return super().__contains__(task) or any(own is task for own in _core._tasks())

    def discard(self, task):
        _core._forget_task(task)
        super().discard(task)


class _Recorder:
    """As much of a loop as a Future and a Task ask for."""

    def __init__(self):
        self.debug = False
        self.calls = []

    def get_debug(self):
        return self.debug

    def call_soon(self, callback, *args, context=None):
        self.calls.append(callback)


async def _await(future):
    await future


def _failed_future(loop):
    failed = asyncio.Future(loop=loop)
    try:
        raise LookupError
    except LookupError as error:
        failed.set_exception(error)
    return failed


def _pending_future(loop):
    loop.debug = True
    pending = asyncio.Future(loop=loop)
    loop.debug = False
    return pending


def _adopt():
    """Let the core compare the structs of stock objects with their attributes."""
    loop = _Recorder()
    pending, failed = _pending_future(loop), _failed_future(loop)
    waiting = asyncio.Task(_await(pending), loop=loop, name="waiting")
    loop.calls.pop()()
    (wakeup, _context), *_ = pending._callbacks
    cancelled = asyncio.Task(_await(pending), loop=loop, name="probe")
    wrapper = loop.calls.pop()
    try:
        pending.add_done_callback(print)
        pending._asyncio_future_blocking = True
        waiting._log_destroy_pending = False
        cancelled.cancel("message")
        return _core._adopt_tasks(pending, failed, waiting, cancelled, wrapper, wakeup)
    finally:
        failed.exception()
        pending.remove_done_callback(wakeup)
        cancelled._log_destroy_pending = False
        for task in cancelled, waiting:
            task.get_coro().close()


def _registry():
    name = "_all_tasks" if sys.version_info < (3, 12) else "_scheduled_tasks"
    registry = getattr(tasks, name, None)
    return registry if type(registry) is weakref.WeakSet else None


def _set_up():
    """Make the core's Future and Task those of our loops, where they fit."""
    registry = _registry()
    if os.environ.get("ASYNCFAST_TASKS") == "stock" or registry is None:
        return False
    if _core.Task is asyncio.Task or not _adopt():
        return False
    # Everybody who imported the set keeps that object.
    registry.__class__ = _Registry
    return True


OWN = _set_up()

if TYPE_CHECKING or OWN:
    from ._core import Future, Task
else:
    from asyncio import Future, Task
