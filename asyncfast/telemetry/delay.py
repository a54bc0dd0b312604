"""How late a loop is: a histogram of its delay."""

import asyncio
import math
import threading

from ._common import seconds

__all__ = ["DelayMonitor", "monitor_delay"]

# Values are kept to one part in 128: by their highest bit, and the seven after it.
PRECISION = 7
LONGEST = 3600 * 10**9
# However long a block was, no more records are made of it.
MOST_RECORDS = 1000


class Histogram:
    """Counts of values in nanoseconds, in buckets that grow with the value.

    At most some 4600 buckets, in fact as many as there are different values.
    """

    def __init__(self):
        self.clear()

    def clear(self):
        """Forget all values."""
        self.buckets = {}
        self.count = self.total = self.squares = self.longest = self.exceeds = 0
        self.shortest = 0

    def add(self, value, times=1):
        """Count *value* so many times; one beyond an hour only as that."""
        if value > LONGEST:
            self.exceeds += times
            return
        self.shortest = min(value, self.shortest) if self.count else value
        self.longest = max(value, self.longest)
        self.count += times
        self.total += value * times
        self.squares += value * value * times
        bucket = _bucket(value)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + times

    def percentile(self, percent):
        """The value that so many percent don't exceed."""
        buckets = sorted(self.buckets.items())
        wanted = math.ceil(sum(times for _, times in buckets) * percent / 100)
        for bucket, times in buckets:
            wanted -= times
            if wanted <= 0:
                return self._within(_highest(bucket))
        return self.longest

    def percentiles(self):
        """{percent: value} from 0 over 50, 75, 87.5, ... to 100."""
        found, percent = {0.0: self.shortest}, 50.0
        while found[max(found)] < self.longest and percent < 100:
            found[percent] = self.percentile(percent)
            percent = 100 - (100 - percent) / 2
        return {**found, 100.0: self.longest}

    def _within(self, value):
        return max(self.shortest, min(value, self.longest))


def _bucket(value):
    shift = max(value.bit_length() - PRECISION - 1, 0)
    return (shift << (PRECISION + 1)) + (value >> shift)


def _highest(bucket):
    shift = bucket >> (PRECISION + 1)
    return (((bucket & ((1 << (PRECISION + 1)) - 1)) + 1) << shift) - 1


class DelayMonitor:
    """A histogram of how late a loop is; :func:`monitor_delay` makes it.

    Also a context manager, which calls :meth:`enable` and :meth:`disable`. Times
    are float seconds, those whose names end with ``_ns`` int nanoseconds; all
    are 0 while nothing is recorded. Values are exact to one percent, ``min``,
    ``max``, ``mean`` and ``stddev`` exactly.
    """

    def __init__(self, resolution: float, loop: asyncio.AbstractEventLoop) -> None:
        self._resolution = seconds("resolution", resolution)
        self._loop = loop
        self._histogram = Histogram()
        self._timer = None
        self._due = 0.0
        self._run = None

    def __repr__(self) -> str:
        state = "enabled" if self.enabled else "disabled"
        return f"<{type(self).__name__} {state} count={self.count} max={self.max:.6f}>"

    def __enter__(self) -> "DelayMonitor":
        self.enable()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.disable()

    @property
    def enabled(self) -> bool:
        """True while the loop is watched."""
        return self._timer is not None

    def enable(self) -> bool:
        """Begin, or go on; True if it was disabled.

        RuntimeError if the loop is closed, or runs in another thread.
        """
        self._check_thread()
        if self.enabled:
            return False
        self._begin()
        return True

    def disable(self) -> bool:
        """Stop; what was recorded stays. True if it was enabled.

        RuntimeError if the loop runs in another thread.
        """
        self._check_thread()
        if not self.enabled:
            return False
        self._timer.cancel()
        self._timer = None
        return True

    def reset(self) -> None:
        """Forget what was recorded."""
        self._histogram.clear()

    def _check_thread(self):
        running = getattr(self._loop, "_thread_id", None)
        if running not in (None, threading.get_ident()):
            raise RuntimeError("a loop's delay is monitored from its own thread")

    def _begin(self):
        self._schedule(self._loop.time() + self._resolution)

    def _schedule(self, due):
        self._due = due
        self._run = getattr(self._loop, "_runs", None)
        self._timer = self._loop.call_at(due, self._tick)

    def _tick(self):
        if self._run != getattr(self._loop, "_runs", None):
            # It was due while the loop didn't run, which is no delay.
            self._begin()
            return
        late = max(self._loop.time() - self._due, 0)
        missed = int(late / self._resolution)
        self._record(late, missed + 1)
        self._schedule(self._due + (missed + 1) * self._resolution)

    def _record(self, late, ticks):
        """The delay of the tick that is late, and of those that were due since."""
        step = math.ceil(ticks / MOST_RECORDS)
        for first in range(0, ticks, step):
            value = late - first * self._resolution
            times = min(step, ticks - first)
            self._histogram.add(max(int(value * 1e9), 0), times)

    @property
    def resolution(self) -> float:
        """Seconds between two looks."""
        return self._resolution

    @property
    def count(self) -> int:
        """How many delays were recorded."""
        return self._histogram.count

    @property
    def exceeds(self) -> int:
        """How many delays were longer than an hour; they are not recorded."""
        return self._histogram.exceeds

    @property
    def min(self) -> float:
        """The shortest delay."""
        return self.min_ns / 1e9

    @property
    def min_ns(self) -> int:
        """The shortest delay."""
        return self._histogram.shortest

    @property
    def max(self) -> float:
        """The longest delay."""
        return self.max_ns / 1e9

    @property
    def max_ns(self) -> int:
        """The longest delay."""
        return self._histogram.longest

    @property
    def mean(self) -> float:
        """The mean delay."""
        return self._histogram.total / (self.count or 1) / 1e9

    @property
    def stddev(self) -> float:
        """The standard deviation of the delays."""
        count, histogram = self.count or 1, self._histogram
        # Of integers, so that nothing is lost by the difference.
        variance = histogram.squares * count - histogram.total**2
        return math.sqrt(variance) / count / 1e9

    def percentile(self, percent: float) -> float:
        """The delay that *percent* of all don't exceed; *percent* is above 0 and
        at most 100, else ValueError."""
        return self.percentile_ns(percent) / 1e9

    def percentile_ns(self, percent: float) -> int:
        """:meth:`percentile` in nanoseconds."""
        if not 0 < percent <= 100:
            raise ValueError(f"percent must be above 0 and at most 100, got {percent}")
        return self._histogram.percentile(percent)

    @property
    def percentiles(self) -> dict[float, float]:
        """{percent: delay} for 0, 50, 75, 87.5 and so on, each time half of what is
        left, to 100."""
        found = self._histogram.percentiles()
        return {percent: value / 1e9 for percent, value in found.items()}


def monitor_delay(
    resolution: float = 0.01, loop: asyncio.AbstractEventLoop | None = None
) -> DelayMonitor:
    """A histogram of how late *loop* is, by default the running one; of any make.

    A timer that is due every *resolution* seconds tells how much later it was
    called; a loop that is on time has a delay of almost 0. When the loop was
    blocked, each time that came due meanwhile counts, so percentiles say what
    somebody who came at any moment had to wait.

    It records nothing before :meth:`DelayMonitor.enable`, or ``with``. Raises
    ValueError unless *resolution* is positive, RuntimeError without a loop.
    """
    return DelayMonitor(resolution, loop or asyncio.get_running_loop())
