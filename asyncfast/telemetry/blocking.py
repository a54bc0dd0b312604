"""A thread that tells where a loop is blocked, while it is."""

import asyncio
import dataclasses
import itertools
import logging
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable

from ..loop import Loop
from ._common import own_loop, seconds

__all__ = ["Block", "Watchdog", "watchdog"]

logger = logging.getLogger("asyncfast")

# How often the thread looks in the time that it allows the loop.
LOOKS = 5
MOST_FRAMES = 100


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """A loop that is blocked: one of its turns takes too long."""

    seconds: float
    """How long the turn has taken so far."""
    thread_id: int
    """The loop's thread, as threading.get_ident() names it."""
    task: str | None
    """The name of the task whose step is under way."""
    stack: traceback.StackSummary
    """What the loop has called, the innermost frame last; all frames of its thread
    if it's the loop itself that takes long."""

    def __str__(self) -> str:
        """The report that goes to the log."""
        who = f" in task {self.task!r}" if self.task else ""
        lines = "".join(self.stack.format())
        return f"Event loop blocked for {self.seconds:.3f} seconds{who}, at:\n{lines}"


class Watchdog:
    """A thread that watches one loop; :func:`watchdog` starts it.

    Also a context manager, which ends in :meth:`stop`. The thread ends by itself
    when the loop is closed or forgotten; it keeps neither loop nor program alive.
    """

    def __init__(
        self,
        threshold: float,
        on_block: Callable[[Block], object] | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        if on_block is not None and not callable(on_block):
            raise TypeError(f"a callable object is needed, got {on_block!r}")
        self._threshold = seconds("threshold", threshold)
        self._on_block = _log if on_block is None else on_block
        self._loop = weakref.ref(loop)
        self._stopped = threading.Event()
        self._turn = None
        self._since = 0.0
        self._limit = self._threshold
        self._thread = threading.Thread(
            target=self._watch, name="asyncfast-watchdog", daemon=True
        )

    def __enter__(self) -> "Watchdog":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def threshold(self) -> float:
        """Seconds that a turn of the loop may take."""
        return self._threshold

    @property
    def running(self) -> bool:
        """True until it is stopped, or the loop is closed."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End the thread, and wait for that; from *on_block* only end it."""
        self._stopped.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _start(self):
        self._thread.start()
        return self

    def _watch(self):
        while not self._stopped.wait(self._threshold / LOOKS):
            loop = self._loop()
            if loop is None or loop.is_closed():
                return
            self._look(loop)
            # Or this thread would keep the loop between two looks.
            del loop

    def _look(self, loop):
        """A turn that goes on and on is seen by its number, which stays."""
        turn, now = loop._heartbeat(), time.monotonic()
        if turn is None or turn != self._turn:
            self._turn, self._since, self._limit = turn, now, self._threshold
        elif now - self._since >= self._limit:
            self._report(loop, now - self._since)
            while self._limit <= now - self._since:
                self._limit *= 2

    def _report(self, loop, duration):
        try:
            block = _block(loop, duration)
            # Collecting the stack took time.
            if block is not None and loop._heartbeat() == self._turn:
                self._on_block(block)
        except Exception:
            logger.exception("Exception in the watchdog of %r", loop)


def _log(block):
    logger.warning("%s", block)


def _block(loop, duration):
    stack = _stack(loop)
    if stack is None:
        return None
    task = asyncio.current_task(loop)
    return Block(duration, loop._thread_id, task and task.get_name(), stack)


def describe_block(loop):
    """The lines of the stack of a loop's thread; None if it doesn't run."""
    stack = _stack(loop)
    return None if stack is None else "".join(stack.format()).splitlines()


def _stack(loop):
    frame = sys._current_frames().get(loop._thread_id)
    if frame is None:
        return None
    # Both in the order of walk_stack: the innermost frame first.
    frames = list(traceback.walk_stack(frame))
    inside = list(itertools.takewhile(_is_called, frames))
    stack = traceback.StackSummary.extract((inside or frames)[:MOST_FRAMES])
    stack.reverse()
    return stack


def _is_called(found):
    return found[0].f_code is not Loop.run_forever.__code__


def watchdog(
    threshold: float = 0.5,
    on_block: Callable[[Block], object] | None = None,
    loop: asyncio.AbstractEventLoop | None = None,
) -> Watchdog:
    """Tell where *loop*, by default the running one, is while it is blocked.

    A thread looks five times in *threshold* seconds whether the loop still goes
    round. When a turn has taken that long, it calls ``on_block(Block(...))``, and
    again each time that the duration has doubled; without *on_block*, a warning
    with the stack goes to the logger ``asyncfast``. It costs the loop nothing, but
    it sees no more than a thread of Python can: not while C code keeps the GIL.

    *on_block* is called in the watchdog's thread; what it raises is logged. Raises
    ValueError unless *threshold* is positive, TypeError if *on_block* can't be
    called or *loop* isn't asyncfast's, RuntimeError without a loop.
    """
    return Watchdog(threshold, on_block, own_loop(loop))._start()
