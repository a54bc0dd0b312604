"""What a loop bears: thousands of connections, gigabytes, a million timers or tasks.

    python tests/load.py connections [--count 10000] [--minutes 10]
    python tests/load.py gigabyte [--bytes 1g] [--only WAY]...
    python tests/load.py timers [--count 1000000]
    python tests/load.py tasks [--count 1000000] [--only KIND]...

Each prints a table of what was done, in what time, and what was there before and after
it: memory, descriptors, threads.  The exit code is 1 if any of these grew, if a byte,
a timer or a task was lost or came in the wrong order, or if the loop or Python reported
what nobody expected.  --loop asyncio does the same on asyncio's loop, --seed N again
what was done before.
"""

import argparse
import functools
import random
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import load_bytes
import load_connections
import load_counts
from soak import (
    MARGINS,
    MIB,
    Failures,
    Sample,
    first_and_last,
    judge,
    take_sample,
    watching,
)
from support import new_loop

UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
ANY = sys.maxsize

# While connections come and go, their number and what is under way are never the
# same: memory and threads are what can be held flat.
CROWD_MARGINS = Sample(16 * MIB, ANY, ANY, ANY, 0)
# What malloc and Python keep of the memory of a great many objects, in pieces; and the
# loop a thousand dead objects of each of five types. The blocks tell of a leak.
AFTER_MANY = MARGINS._replace(rss=64 * MIB, blocks=6000)


class Row(NamedTuple):
    """A line of the table."""

    what: str
    how_many: str
    seconds: float
    before: Sample
    after: Sample
    complaints: list


# -- One load on a loop of its own -------------------------------------------------


def on_new_loop(name, failures, main):
    """The result of `await main()`; None if it failed."""
    loop = new_loop(name)
    loop.set_exception_handler(failures.report)
    try:
        with watching(failures):
            return loop.run_until_complete(main())
    except Exception as error:
        failures.fail(repr(error))
        return None
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def measure(name, what, amount, load, seed, warm_up, margins=MARGINS):
    """A Row for `await load(amount, rng)`, after as much as `warm_up` of it."""
    failures = Failures()
    rng = random.Random(f"{seed}/{what}")
    on_new_loop(name, failures, lambda: load(warm_up, rng))
    before, began = take_sample(), time.monotonic()
    done = on_new_loop(name, failures, lambda: load(amount, rng))
    seconds, after = time.monotonic() - began, take_sample()
    complaints = failures.failures + list(judge([before, after], margins))
    return Row(what, done or "-", seconds, before, after, complaints)


# -- The four programs -------------------------------------------------------------


async def transfer(way, place, total, rng):
    await way(place, total, rng)
    return f"{total / MIB:,.1f} MiB"


def gigabyte(options):
    with tempfile.TemporaryDirectory() as folder:
        place = load_bytes.Place(Path(folder))
        for what in chosen(options, load_bytes.WAYS):
            load = functools.partial(transfer, load_bytes.WAYS[what], place)
            warm_up = max(5000, options.bytes // 64)
            yield measure(
                options.loop, what, options.bytes, load, options.seed, warm_up
            )


# A great many objects that end in random order leave memory in pieces, which the next
# as many use again: these do it twice, and the second time must need no more.


def measure_many(options, what, load):
    count = options.count or 1_000_000
    return measure(options.loop, what, count, load, options.seed, count, AFTER_MANY)


def timers(options):
    yield measure_many(options, "timers", load_counts.timers)


def tasks(options):
    for what in chosen(options, load_counts.TASKS):
        yield measure_many(options, what, load_counts.TASKS[what])


def connections(options):
    """Rows of both processes: amid the full crowd, and at rest."""
    allow_descriptors()
    failures, began = Failures(), time.monotonic()
    command = [sys.executable, __file__, "serve", "--loop", options.loop]
    course = on_new_loop(
        options.loop,
        failures,
        lambda: load_connections.run(
            command,
            options.count or 10_000,
            options.minutes * 60,
            random.Random(options.seed),
            failures,
            take_sample,
        ),
    )
    seconds = time.monotonic() - began
    if course is None or not course.full:
        nothing = Sample(0, 0, 0, 0, 0)
        complaints = failures.failures or ["nothing was measured"]
        yield Row("connections", "-", seconds, nothing, nothing, complaints)
        return
    yield from rows_of_crowd(course, seconds)
    yield from rows_at_rest(course, seconds)
    yield summary(course, seconds, failures)


def rows_of_crowd(course, seconds):
    for what, samples in zip(
        ("clients", "server"), zip(*course.full, strict=True), strict=True
    ):
        samples = [Sample(*sample) for sample in samples]
        complaints = list(judge(samples, CROWD_MARGINS))
        count = f"{course.crowd.count:,} at a time"
        yield Row(what, count, seconds, *first_and_last(samples), complaints)


def rows_at_rest(course, seconds):
    sides = zip(("clients", "server"), course.before, course.after, strict=True)
    for what, before, after in sides:
        before, after = Sample(*before), Sample(*after)
        complaints = list(judge([before, after], AFTER_MANY))
        yield Row(f"{what}, at rest", "none left", seconds, before, after, complaints)


def summary(course, seconds, failures):
    """All connections together, and what the server held for those that don't read."""
    crowd, numbers = course.crowd, course.numbers
    complaints = failures.failures
    most = load_connections.MOST_BUFFERED
    if numbers["most_buffered"] > most:
        complaints.append(f"{numbers['most_buffered']:,} bytes in one buffer")
    if crowd.most_swallowed > load_connections.MOST_SWALLOWED:
        complaints.append(f"{crowd.most_swallowed:,} bytes for one that never reads")
    done = (
        f"{crowd.opened:,} in all, {crowd.reset:,} reset, "
        f"{crowd.echoed / MIB:,.0f} MiB echoed; "
        f"at most {numbers['most_buffered'] / 1024:,.0f} KiB in a buffer of the server"
    )
    first, last = course.before[0], course.after[0]
    return Row("connections", done, seconds, first, last, complaints)


def allow_descriptors():
    """As many as this process may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def serve(options):
    """The other process of `connections`."""
    allow_descriptors()
    failures = Failures()
    on_new_loop(
        options.loop, failures, lambda: load_connections.serve(failures, take_sample)
    )


def chosen(options, kinds):
    if unknown := set(options.only or ()) - set(kinds):
        raise SystemExit(f"--only takes one of: {', '.join(kinds)}; not {unknown}")
    return [kind for kind in kinds if not options.only or kind in options.only]


# -- The table ---------------------------------------------------------------------

HEAD = ("what", "seconds", "MiB", "descriptors", "threads", "verdict", "how many")
LINE = "{:<18} {:>8} {:>17} {:>14} {:>10}  {:<7}  {}"


def from_to(before, after, form="{:,}"):
    return f"{form.format(before)} > {form.format(after)}"


def print_row(row):
    verdict = "FAILED" if row.complaints else "ok"
    cells = (
        row.what,
        f"{row.seconds:,.1f}",
        from_to(row.before.rss / MIB, row.after.rss / MIB, "{:,.1f}"),
        from_to(row.before.descriptors, row.after.descriptors),
        from_to(row.before.threads, row.after.threads),
        verdict,
        row.how_many,
    )
    print(LINE.format(*cells), flush=True)
    for complaint in row.complaints:
        print(f"    {complaint}", flush=True)


def main(options):
    if options.load is serve:
        return serve(options)
    print(f"{options.load.__name__} on {options.loop}, --seed {options.seed}")
    print(LINE.format(*HEAD), flush=True)
    failed = False
    for row in options.load(options):
        print_row(row)
        failed = failed or bool(row.complaints)
    return 1 if failed else 0


def size(text):
    """Bytes, of a text like 64m."""
    unit = UNITS.get(text[-1:].lower())
    return int(text[:-1]) * unit if unit else int(text)


def positive(kind):
    def convert(text):
        if not (value := kind(text)) > 0:
            raise ValueError(text)
        return value

    return convert


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    programs = parser.add_subparsers(required=True, metavar="LOAD")
    for load in (connections, gigabyte, timers, tasks, serve):
        program = programs.add_parser(load.__name__)
        program.set_defaults(load=load)
        program.add_argument(
            "--loop", default="asyncfast", choices=["asyncfast", "asyncio"]
        )
        program.add_argument("--seed", type=int, default=random.randrange(1 << 30))
        if load in (connections, timers, tasks):
            program.add_argument("--count", type=positive(int))
        if load in (gigabyte, tasks):
            program.add_argument("--only", action="append")
        if load is gigabyte:
            program.add_argument("--bytes", type=positive(size), default="1g")
        if load is connections:
            program.add_argument("--minutes", type=positive(float), default=10)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(parse()))
