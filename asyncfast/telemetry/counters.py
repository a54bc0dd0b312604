"""A loop's numbers: what it has done, and how its time was spent."""

import asyncio
import dataclasses

from ._common import own_loop

__all__ = ["Metrics", "disable_timing", "enable_timing", "metrics"]

GAUGES = ("ready", "timers", "descriptors")


@dataclasses.dataclass(frozen=True, slots=True)
class Metrics:
    """The numbers of one loop at one moment; see :func:`metrics`.

    ``later - earlier`` is what happened in between: counts and times are
    subtracted, ``ready``, ``timers`` and ``descriptors`` are those of the later.
    """

    iterations: int
    """Turns of the loop."""
    callbacks: int
    """What the turns ran: callbacks, steps of tasks, events of transports."""
    polls: int
    """Turns that asked the system for events; the others could leave it out."""
    wakeups: int
    """How often another thread has ended the loop's wait."""
    reads: int
    """System calls that received something."""
    writes: int
    """System calls that sent something."""
    bytes_received: int
    """By transports and by the loop's ``sock_`` methods, as on the wire."""
    bytes_sent: int
    """Likewise; what sendfile() sends is not in it."""
    busy_ns: int
    """Nanoseconds in which the loop ran and did not wait for events."""
    idle_ns: int
    """Nanoseconds in which it waited for events."""
    gil_ns: int
    """The part of ``busy_ns`` in which something had come already, and another
    thread had the GIL."""
    ready: int
    """What is ready to run now."""
    timers: int
    """Timers that are not due yet."""
    descriptors: int
    """Descriptors that are watched or belong to a transport."""
    time_ns: int
    """time.monotonic_ns(); of a difference, the nanoseconds between the two."""

    def __sub__(self, earlier: "Metrics") -> "Metrics":
        """What happened since *earlier*."""
        if not isinstance(earlier, Metrics):
            return NotImplemented
        return Metrics(
            **{
                name: getattr(self, name)
                - (0 if name in GAUGES else getattr(earlier, name))
                for name in self.__slots__
            }
        )

    @property
    def busy(self) -> float:
        """``busy_ns`` in seconds."""
        return self.busy_ns / 1e9

    @property
    def idle(self) -> float:
        """``idle_ns`` in seconds."""
        return self.idle_ns / 1e9

    @property
    def gil_wait(self) -> float:
        """``gil_ns`` in seconds."""
        return self.gil_ns / 1e9

    @property
    def utilization(self) -> float:
        """The share of its time that the loop was busy, 0 to 1; 0 if no time was
        taken."""
        return self.busy_ns / ((self.busy_ns + self.idle_ns) or 1)

    @property
    def polls_skipped(self) -> int:
        """Turns that could leave out asking for events."""
        return self.iterations - self.polls


def metrics(loop: asyncio.AbstractEventLoop | None = None) -> Metrics:
    """The numbers of *loop*, by default the running one, since it was made.

    May be called from any thread, also when the loop is closed. Everything is
    always counted but for the times, which begin with :func:`enable_timing`.

    Raises RuntimeError without a loop, TypeError if it is not asyncfast's.
    """
    *counts, ran, idle, gil, ready, timers, descriptors, now = own_loop(loop)._counts()
    return Metrics(*counts, ran - idle, idle, gil, ready, timers, descriptors, now)


def enable_timing(loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Let ``busy``, ``idle``, ``gil_wait`` and ``utilization`` of :class:`Metrics`
    count from now on.

    It takes three looks at the clock each time that the loop goes to sleep, and
    nothing per callback. May be called from any thread. Raises as
    :func:`metrics` does.
    """
    own_loop(loop)._time_waits(True)


def disable_timing(loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Stop what :func:`enable_timing` began; the times so far stay."""
    own_loop(loop)._time_waits(False)
