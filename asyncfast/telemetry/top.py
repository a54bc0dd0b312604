"""``python -m asyncfast top PID``: what the loops of another process do, each second."""

import argparse
import os
import sys
import time

from ..options import seconds
from .counters import Metrics
from .server import ask, check_private, socket_path

__all__ = ["main"]

ROWS = 15
CLEAR = "\x1b[H\x1b[2J"


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m asyncfast top",
        description="Show what the loops of a process do, again and again. It has to "
        "be one of this user's, and to serve its numbers: started with "
        "`python -m asyncfast --top PROGRAM`, or by asyncfast.serve_metrics().",
    )
    parser.add_argument("pid", metavar="PID", type=int, help="the process's number")
    parser.add_argument(
        "--interval",
        metavar="SECONDS",
        type=seconds,
        default=1.0,
        help="between two looks, by default 1",
    )
    parser.add_argument(
        "--count",
        metavar="N",
        type=int,
        default=0,
        help="end after so many looks, by default never",
    )
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Run the command; ends with exit code 1 if the process can't be asked."""
    options = _parser().parse_args(arguments)
    path = socket_path(options.pid)
    try:
        # In a folder for all, somebody else could answer in its place.
        check_private(path.parent)
        question = ask(path)
    except OSError as exc:
        sys.exit(
            f"asyncfast top: {path}: {exc.strerror or exc}. Was the process started "
            "with `python -m asyncfast --top`, or does it call serve_metrics()?"
        )
    try:
        _watch(question, options.interval, options.count)
    except (EOFError, ConnectionError):
        print(f"asyncfast top: process {options.pid} has ended")
    except KeyboardInterrupt:
        pass
    except TimeoutError:
        sys.exit(f"asyncfast top: process {options.pid} doesn't answer")


def _watch(question, interval, count):
    before, looks = question(), 0
    while not count or looks < count:
        time.sleep(interval)
        now, looks = question(), looks + 1
        text = screen(before, now)
        if sys.stdout.isatty():
            text = CLEAR + _cut(text, os.get_terminal_size())
        print(text, flush=True)
        before = now


def _cut(text, size):
    return "\n".join(line[: size.columns] for line in text.splitlines()[: size.lines])


def screen(before, now):
    """The text that shows two answers of a server, one after the other."""
    known = {loop["id"]: loop for loop in before["loops"]}
    lines = [f"process {now['pid']}: {' '.join(now['command'])}"]
    for number, loop in enumerate(now["loops"], 1):
        lines += _loop(number, known.get(loop["id"], loop), loop)
    lines = lines if now["loops"] else [*lines, "no loop"]
    return "".join(f"{_printable(line)}\n" for line in lines)


def _printable(line):
    """What the terminal would take for a command, or can't show, as ``?``."""
    return "".join(char if char.isprintable() else "?" for char in line)


def _loop(number, before, now):
    delta = Metrics(**now["metrics"]) - Metrics(**before["metrics"])
    seconds = delta.time_ns / 1e9 or 1
    lines = [
        "",
        f"loop {number}: {delta.utilization:6.1%} busy, {delta.ready:,} ready, "
        f"{delta.timers:,} timers, {delta.descriptors:,} descriptors",
        f"  per second: {delta.callbacks / seconds:,.0f} callbacks, "
        f"{delta.iterations / seconds:,.0f} iterations, "
        f"{delta.wakeups / seconds:,.0f} wake-ups, "
        f"{delta.bytes_received / seconds:,.0f} bytes in, "
        f"{delta.bytes_sent / seconds:,.0f} bytes out",
    ]
    if now["turn"] is not None and now["turn"] == before["turn"]:
        lines.append("  BLOCKED since the look before, at:")
        lines += [f"  {line}" for line in now["stack"] or ()]
    return lines + _callbacks(before["callbacks"], now["callbacks"], seconds)


def _callbacks(before, now, seconds):
    """Those first that took most since the look before."""
    known = {(row["name"], row["where"]): row for row in before}
    rows = []
    for row in now:
        earlier = known.get((row["name"], row["where"]), {})
        total, count, queued = (
            row[field] - earlier.get(field, 0) for field in ("total", "count", "queued")
        )
        if count > 0:
            rows.append((total, count, queued, row))
    rows.sort(key=lambda row: row[0], reverse=True)
    lines = ["", "   busy   calls/s    mean us  queued us  callback"] if rows else []
    for total, count, queued, row in rows[:ROWS]:
        where = f" ({row['where']})" if row["where"] else ""
        lines.append(
            f"{total / seconds:7.1%} {count / seconds:9,.0f} "
            f"{total / count * 1e6:10.1f} {queued / count * 1e6:10.1f}  "
            f"{row['name']}{where}"
        )
    return lines
