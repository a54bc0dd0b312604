"""tests/load.py in small: its loads pass, and it sees what is lost or stays."""

import asyncio
import os
import random

import load
import pytest
from load_bytes import PERIOD, Check, known
from load_counts import Timers, Wrong
from soak import Failures
from soak_loads import Mismatch
from support import once, python

PROGRAM = os.path.join(os.path.dirname(__file__), "load.py")

LOADS = [
    "connections --count 60 --minutes 0.03",
    "gigabyte --bytes 3m",
    "timers --count 10000",
    "tasks --count 5000",
]


@pytest.mark.nosanitizer  # its memory is not flat
@pytest.mark.parametrize("arguments", LOADS)
def test_nothing_is_lost_and_nothing_stays(arguments):
    done = python(PROGRAM, *arguments.split(), check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_bytes_that_are_lost_doubled_or_moved_are_seen():
    first, second = known(0, 1000), known(1000, 1000)
    good = Check()
    good.add(first)
    good.add(second)
    good.end(2000)
    with pytest.raises(Mismatch):
        good.end(2001)
    for pieces in ([second], [first, first], [first, second[1:]], [first, b"x"]):
        check = Check()
        with pytest.raises(Mismatch):
            for piece in pieces:
                check.add(piece)


def test_the_stream_goes_on_after_its_period():
    at_end, whole = known(PERIOD - 5, 10), known(0, 5)
    assert at_end == known(PERIOD - 5, 5) + whole


def leak_descriptors(kept):
    async def leak(amount, rng):
        kept.append(os.open("/dev/null", os.O_RDONLY))

    return leak


def test_what_stays_is_complained_of():
    kept = []
    row = load.measure("asyncio", "leak", 1, leak_descriptors(kept), 1, 1)
    for descriptor in kept:
        os.close(descriptor)
    assert [line for line in row.complaints if line.startswith("descriptors grew by 1")]


def test_what_fails_or_is_reported_is_complained_of():
    async def fail(amount, rng):
        asyncio.get_running_loop().call_soon(int, "no number")
        await asyncio.sleep(0)
        raise Mismatch("lost")

    row = load.measure("asyncio", "fail", 1, fail, 1, 1)
    first, second, *_ = row.complaints
    assert "no number" in first and second == "Mismatch('lost')"


def test_a_timer_that_fires_twice_or_too_early_is_seen(loop):
    async def begin():
        return Timers(0, random.Random(1))

    timers = loop.run_until_complete(begin())
    timers.waiting[1] = timers.waiting[2] = True
    with pytest.raises(Wrong, match="too early"):
        timers.check(5, 1, loop.time() + 1000)
    with pytest.raises(Wrong, match="twice"):
        timers.check(5, 1, 0)
    timers.check(5, 2, 0)
    timers.waiting[3] = True
    with pytest.raises(Wrong, match="after"):
        timers.check(4, 3, 0)


def test_failures_are_kept_once(loop):
    failures = Failures()
    loop.set_exception_handler(failures.report)
    for _ in range(2):
        failures.fail("something")
    loop.call_soon(int, "no number")
    once(loop)
    assert len(failures.failures) == 2
