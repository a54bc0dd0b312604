"""What ``python -m asyncfast`` can tell of a program: --slow, --stats, --top, --watchdog."""

import atexit
import sys

from .. import loop as loop_module
from .blocking import watchdog
from .callbacks import callback_stats, enable_callback_stats, on_slow_callback
from .counters import enable_timing, metrics
from .server import MetricsServer

__all__ = ["observe_program"]

TOP = 20


def observe_program(
    slow: float | None = None,
    block: float | None = None,
    stats: bool = False,
    top: bool = False,
) -> None:
    """Observe each loop that the program makes from now on.

    Callbacks of *slow* seconds or more and turns of *block* seconds or more are
    logged; with *stats*, the numbers of all loops go to sys.stderr at exit; with
    *top*, ``python -m asyncfast top`` sees them.
    """
    report = Report() if stats else None
    server = MetricsServer() if top else None

    def observe(loop):
        if slow is not None:
            on_slow_callback(slow, loop=loop)
        if block is not None:
            watchdog(block, loop=loop)
        if report is not None:
            report.add(loop)
        if server is not None:
            server.add(loop)
            enable_callback_stats(loop)

    loop_module.new_loop_hooks.append(observe)
    if report is not None:
        atexit.register(report.write)


class Report:
    """The numbers of all loops of a program; those that are closed are let go."""

    def __init__(self) -> None:
        self._open = []
        self._metrics = []
        self._stats = {}

    def add(self, loop):
        """Observe one more loop."""
        self._settle([loop for loop in self._open if loop.is_closed()])
        self._open.append(loop)
        enable_timing(loop)
        enable_callback_stats(loop)

    def _settle(self, loops):
        for loop in loops:
            self._open.remove(loop)
            self._metrics.append(metrics(loop))
            for row in callback_stats(loop):
                self._stats.setdefault((row.name, row.where), []).append(row)

    def write(self, file=None):
        """Write it all to *file*, by default sys.stderr."""
        self._settle(self._open[:])
        file = sys.stderr if file is None else file
        if not self._metrics:
            print("\nasyncfast: the program has made no loop of asyncfast's", file=file)
            return
        print(f"\nasyncfast: {len(self._metrics)} loop(s)", file=file)
        for line in self._totals():
            print(f"  {line}", file=file)
        print(self._table(), file=file)

    def _sum(self, name):
        return sum(getattr(numbers, name) for numbers in self._metrics)

    def _totals(self):
        busy, idle, gil = (self._sum(name) for name in ("busy", "idle", "gil_wait"))
        return [
            f"busy {busy:.3f} s, idle {idle:.3f} s, "
            f"utilization {busy / ((busy + idle) or 1):.1%}, waited for the GIL {gil:.3f} s",
            f"{self._sum('callbacks'):,} callbacks in {self._sum('iterations'):,} "
            f"iterations, {self._sum('polls'):,} polls, "
            f"{self._sum('wakeups'):,} wake-ups by threads",
            f"{self._sum('reads'):,} reads of {self._sum('bytes_received'):,} bytes, "
            f"{self._sum('writes'):,} writes of {self._sum('bytes_sent'):,} bytes",
        ]

    def _table(self):
        rows = [_merged(*item) for item in self._stats.items()]
        rows.sort(key=lambda row: row[1], reverse=True)
        lines = ["     count  total s    mean us     max us  queued us  callback"]
        for count, total, longest, queued, name in rows[:TOP]:
            lines.append(
                f"{count:10,} {total:8.3f} {total / count * 1e6:10.1f} "
                f"{longest * 1e6:10.1f} {queued / count * 1e6:10.1f}  {name}"
            )
        if len(rows) > TOP:
            lines.append(f"{'':53}and {len(rows) - TOP} more")
        return "\n".join(lines)


def _merged(key, rows):
    name, where = key
    return (
        sum(row.count for row in rows),
        sum(row.total for row in rows),
        max(row.max for row in rows),
        sum(row.queued for row in rows),
        f"{name} ({where})" if where else name,
    )
