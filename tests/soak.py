"""A mixed load for many minutes, after which nothing may have been lost or left behind.

    python tests/soak.py [--minutes 20] [--only LOAD]... [--loop asyncio] [--seed N]

All loads of soak_loads.py run side by side on one loop, in laps of a few seconds.  After
each lap everything must come to rest: no task, no timer, no connection is left.  Then
memory, objects, descriptors and threads are counted.  The first laps warm up; from then
on the counts must stay flat.  The exit code is 1 if they don't, if a byte was wrong, if
a round took too long, or if the loop or Python reported what nobody expected.
"""

import argparse
import array
import asyncio
import contextlib
import ctypes
import faulthandler
import gc
import logging
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from pathlib import Path
from typing import NamedTuple

import soak_loads
from support import descriptors, new_loop

LAP = 5.0  # seconds
ROUND_LIMIT = 60.0  # seconds that one round may take
REST_LIMIT = 20.0  # seconds until everything has come to rest
MOST_FAILURES = 10
MIB = 1 << 20


class Sample(NamedTuple):
    """What is there when everything rests."""

    rss: int
    blocks: int
    objects: int
    descriptors: int
    threads: int


# How much the end may exceed the time after the warm-up. One object or a few bytes
# per round would be thousands; what is allowed is the caches of Python and malloc.
MARGINS = Sample(rss=3 * MIB, blocks=800, objects=150, descriptors=0, threads=0)


def give_back():
    """Let go of what is not in use, as far as Python and malloc know."""
    for _ in range(3):
        gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def resident():
    with contextlib.suppress(OSError), open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    return 0


def native_threads():
    with contextlib.suppress(OSError):
        return len(os.listdir("/proc/self/task"))
    return threading.active_count()


def take_sample():
    give_back()
    return Sample(
        resident(),
        sys.getallocatedblocks(),
        len(gc.get_objects()),
        len(descriptors()),
        native_threads(),
    )


def first_and_last(samples):
    """The medians of the first third of the samples, and of the last."""
    third = max(1, len(samples) // 3)
    return [
        Sample(*(int(statistics.median(column)) for column in zip(*part, strict=True)))
        for part in (samples[:third], samples[-third:])
    ]


def growth(samples):
    """How much the last third of the samples exceeds the first, by their medians."""
    first, last = first_and_last(samples)
    return Sample(*(after - before for before, after in zip(first, last, strict=True)))


def judge(samples, margins=MARGINS):
    """Complaints about what did not stay flat."""
    grown = growth(samples)
    for name, more, margin in zip(Sample._fields, grown, margins, strict=True):
        if more > margin:
            yield f"{name} grew by {more:,}, more than the margin of {margin:,}"


# -- Running -----------------------------------------------------------------------


class Failures:
    """What went wrong, each thing once."""

    def __init__(self):
        self.failures = []

    def fail(self, what):
        if what not in self.failures:
            self.failures.append(what)

    def report(self, loop, context):
        """A loop's exception handler: no load gives it anything to say."""
        exception = context.get("exception")
        trace = "".join(traceback.format_exception(exception)) if exception else ""
        self.fail(f"reported to the loop's exception handler: {context}\n{trace}")


class Soak(Failures):
    """The run: rounds, failures and samples."""

    def __init__(self, arguments, world):
        super().__init__()
        self.world = world
        self.seed = arguments.seed
        self.loads = [
            load
            for load in soak_loads.LOADS
            if not arguments.only or load.__name__ in arguments.only
        ]
        self.laps = max(6, round(arguments.minutes * 60 / LAP))
        self.warm_up = max(2, self.laps // 4)
        self.rounds = dict.fromkeys((load.__name__ for load in self.loads), 0)
        # Numbers in a row: what is kept of the samples must not show in them.
        self.counts = array.array("q")

    @property
    def samples(self):
        rows = zip(*[iter(self.counts)] * len(Sample._fields), strict=True)
        return [Sample(*row) for row in rows]

    async def run(self):
        asyncio.get_running_loop().set_exception_handler(self.report)
        await self.world.start()
        for lap in range(self.laps):
            faulthandler.dump_traceback_later(LAP + ROUND_LIMIT + 60, exit=True)
            await self.lap()
            await self.rest()
            sample = take_sample()
            if lap >= self.warm_up:
                self.counts.extend(sample)
            show_progress(self, lap, sample)
            if len(self.failures) >= MOST_FAILURES:
                break
        await self.world.stop()
        faulthandler.cancel_dump_traceback_later()

    async def lap(self):
        end = time.monotonic() + LAP
        await asyncio.gather(*(self.repeat(load, end) for load in self.loads))

    async def repeat(self, load, end):
        name = load.__name__
        while time.monotonic() < end and len(self.failures) < MOST_FAILURES:
            self.rounds[name] += 1
            seed = f"{self.seed}/{name}/{self.rounds[name]}"
            task = asyncio.ensure_future(load(self.world, random.Random(seed)))
            done, _ = await asyncio.wait([task], timeout=ROUND_LIMIT)
            if not done:
                self.fail(f"round {seed} took too long, at:\n{stack_of(task)}")
                task.cancel()
                await asyncio.wait([task], timeout=REST_LIMIT)
            elif task.exception() is not None:
                trace = "".join(traceback.format_exception(task.exception()))
                self.fail(f"round {seed} failed:\n{trace}")

    async def rest(self):
        """Wait until nothing is under way any more."""
        end = time.monotonic() + REST_LIMIT
        while left := self.left_over():
            if time.monotonic() > end:
                self.fail(f"left over after a lap: {left}")
                return
            await asyncio.sleep(0.01)

    def left_over(self):
        loop = asyncio.get_running_loop()
        found = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        found += [timer for timer in loop._scheduled if not timer.cancelled()]
        if soak_loads.Echo.open:
            found.append(f"{soak_loads.Echo.open} connections of the echo server")
        return found


def stack_of(task):
    frames = [traceback.format_stack(frame)[-1] for frame in task.get_stack()]
    return "".join(frames) or repr(task)


def show_progress(soak, lap, sample):
    line = (
        f"lap {lap + 1}/{soak.laps}{'*' if lap < soak.warm_up else ' '} "
        f"{sum(soak.rounds.values()):>7} rounds, {len(soak.failures)} failures; "
        f"{sample.rss / MIB:.1f} MiB, {sample.blocks} blocks, {sample.objects} objects, "
        f"{sample.descriptors} descriptors, {sample.threads} threads"
    )
    if sys.stdout.isatty():
        print(f"\r{line}\x1b[K", end="", flush=True)
    elif (lap + 1) % 6 == 0:
        print(line, flush=True)


class Complaints(logging.Handler):
    """What asyncio logs, and what Python could not raise, are failures too."""

    # Said of writes after a reset; the loads make some.
    EXPECTED = ("socket.send() raised exception.",)

    def __init__(self, soak):
        super().__init__(logging.WARNING)
        self.soak = soak

    def emit(self, record):
        if record.getMessage() not in self.EXPECTED:
            self.soak.fail(f"logged: {record.getMessage()}")

    def unraisable(self, info):
        trace = "".join(traceback.format_exception(info.exc_value))
        self.soak.fail(f"could not be raised, in {info.object!r}:\n{trace}")


@contextlib.contextmanager
def watching(soak):
    complaints = Complaints(soak)
    logger = logging.getLogger("asyncio")
    logger.addHandler(complaints)
    sys.unraisablehook = complaints.unraisable
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        yield
    gc.collect()
    sys.unraisablehook = sys.__unraisablehook__
    logger.removeHandler(complaints)


@contextlib.contextmanager
def peer_process():
    """The port of soak_loads.peer(), which runs on asyncio in a process of its own."""
    command = [sys.executable, __file__, "--peer"]
    with subprocess.Popen(command, stdin=-1, stdout=-1) as process:
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()


def print_report(soak, seconds):
    print(f"\n\n{sum(soak.rounds.values())} rounds in {seconds:.0f} s")
    for name, count in soak.rounds.items():
        print(f"  {name:<20} {count:>7}")
    if soak.samples:
        grown, last = growth(soak.samples), soak.samples[-1]
        print(f"{'':22} {'in the end':>12} {'grown by':>12} {'margin':>12}")
        for name, *row in zip(Sample._fields, last, grown, MARGINS, strict=True):
            print(f"  {name:<20} " + " ".join(f"{value:>12,}" for value in row))
    for number, failure in enumerate(soak.failures, 1):
        print(f"\nfailure {number}: {failure}")
    print("\nfailed" if soak.failures else "\nall well")


def run(arguments):
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, peer_process() as port:
        soak = Soak(arguments, soak_loads.World(Path(folder), port))
        loop = new_loop(arguments.loop)
        with watching(soak):
            try:
                loop.run_until_complete(soak.run())
                loop.run_until_complete(loop.shutdown_default_executor())
            finally:
                loop.close()
    for complaint in judge(soak.samples) if soak.samples else ["nothing was measured"]:
        soak.fail(complaint)
    print_report(soak, time.monotonic() - began)
    return 1 if soak.failures else 0


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--only", action="append", metavar="LOAD")
    parser.add_argument("--loop", default="asyncfast", choices=["asyncfast", "asyncio"])
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    options = parse()
    if options.peer:
        asyncio.run(soak_loads.peer())
    else:
        sys.exit(run(options))
