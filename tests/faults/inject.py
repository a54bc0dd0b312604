"""Makes faults in one scenario, one after the other; run.py starts it with the shim.

What it is about to do and what came of it is written as lines of JSON, so that whoever
reads them knows what a crash was the answer to.
"""

import argparse
import asyncio
import faulthandler
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).parents[1]))

import plans
import scenarios
from shim import Shim
from support import (
    client_context,
    descriptors,
    new_loop,
    server_context,
    settled_descriptors,
)
from world import BYSTANDER, Bystander, Listener, World

# Seconds that a scenario may take; most take milliseconds.
LIMITS = {"calls": 8, "allocations": 2, "memory": 8, "first": 8}
OWN = (
    "asyncfast",
    "asyncio",
    "_asyncio",
    "ssl",
    "_ssl",
    "socket",
    "scenarios",
    "world",
)


class Hang(BaseException):
    """It took too long."""


def expire(signum, frame):
    raise Hang("at:\n" + "".join(traceback.format_stack(frame, 8)))


class Settings(NamedTuple):
    """What does not change from fault to fault."""

    loop: str
    folder: Path
    file: Path
    tls: dict


class Outcome:
    """What came of one fault."""

    def __init__(self):
        self.how = "ok"
        self.what = ""
        self.fired = None
        self.said = []
        self.problems = []
        self.forgiven = []

    def raised(self, error):
        self.how, self.what = "raised", f"{type(error).__name__}: {error}"[:200]
        # What was told of may be followed by anything.
        wrong = isinstance(error, Hang | AssertionError)
        if wrong or not (self.said or expected(error)):
            self.problems.append(f"{self.what}\n{last_lines(error)}")


def last_lines(error):
    return "".join(traceback.format_exception(error)[-6:])


def expected(error):
    """Is this how a fault may come out?"""
    if isinstance(error, RuntimeError):
        # The second is add_signal_handler()'s way to tell of an OSError, the last
        # asyncio.run()'s, of one that came when all was done.
        words = ("can't start new thread", "[Errno ", "Event loop stopped")
        return any(text in str(error) for text in words)
    if isinstance(error, SystemError):
        # Some functions of CPython's forget to say that there is no memory.
        return "asyncfast" not in str(error)
    kinds = (OSError, EOFError, MemoryError, asyncio.TimeoutError)
    return isinstance(error, (*kinds, asyncio.CancelledError))


class Injector:
    """One scenario, and what is left over after each run of it."""

    def __init__(self, name, settings, kind):
        self.scenario = scenarios.SCENARIOS[name]
        self.settings = settings
        # It would have to go without memory as well.
        self.busy = kind == "calls"
        # libuv keeps what it needs for the first lookup.
        self.keeps = kind == "first"
        self.limit = LIMITS[kind]
        self.shim = Shim()
        self.listener = Listener()

    def run(self, fault=None, nth=1):
        """Do it once, with a fault at the nth call; an Outcome."""
        outcome = Outcome()
        before = descriptors()
        signal.setitimer(signal.ITIMER_REAL, self.limit, 1)
        faulthandler.dump_traceback_later(self.limit + 20, exit=True)
        try:
            if asyncio.iscoroutinefunction(self.scenario):
                self._on_a_loop(outcome, fault, nth)
            else:
                self._armed(outcome, fault, nth, self.scenario, self.settings)
        except Hang as hang:
            outcome.raised(hang)
        except BaseException as error:
            outcome.problems.append(f"cleaning up: {last_lines(error)}")
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        outcome.said += self.listener.take()
        self._look_for_leaks(outcome, before)
        if fault is not None:
            judge(outcome, self.scenario.__name__, fault)
            own = fault.times == 1 and self.shim.made_by("/_core.")
            if fault.allocates and not own:
                forgive(outcome)
        return outcome

    def _armed(self, outcome, fault, nth, function, *args):
        shim = self.shim
        shim.take_from(fault.library if fault else None)
        raised = None
        try:
            if fault is None:
                shim.arm()
            else:
                shim.arm(fault.call, fault.code, nth, fault.times, fault.everywhere)
            function(*args)
        except BaseException as error:
            raised = error
        while outcome.fired is None:
            try:
                outcome.fired = shim.disarm()
            except MemoryError:
                pass  # by the faults that are left
        if asyncio._get_running_loop() is not None:
            asyncio._set_running_loop(None)
            outcome.problems.append("the loop goes on running")
        if raised is not None:
            outcome.raised(raised)
            # Its frames hold what is about to be looked for.
            traceback.clear_frames(raised.__traceback__)

    def _on_a_loop(self, outcome, fault, nth):
        loop = new_loop(self.settings.loop)
        world = World(loop, self.settings)
        outcome.said = world.said
        bystander = Bystander(world, self.shim, self.busy)
        try:
            bystander.start()
            self._armed(outcome, fault, nth, world.run, self.scenario)
            world.close()
            if problem := bystander.finish():
                outcome.problems.append(problem)
        except BaseException:
            bystander.give_up()
            raise
        finally:
            world.end()

    def _look_for_leaks(self, outcome, before):
        for _ in range(200):
            if threading.active_count() == 1:
                break
            time.sleep(0.01)
        else:
            outcome.problems.append(f"threads left: {threading.enumerate()}")
        gc.collect()
        reap()
        there = settled_descriptors(
            lambda there: self.keeps or there.keys() <= before.keys(),
            self.settings.loop,
        )
        left = {fd: name for fd, name in there.items() if fd not in before}
        if left and not (self.keeps and outcome.how == "ok"):
            outcome.problems.append(f"descriptors left: {left}")
        objects = [
            type(thing).__name__
            for thing in gc.get_objects()
            if type(thing).__module__.split(".")[0] in OWN
        ]
        if objects:
            outcome.problems.append(f"objects left: {objects[:20]}")
            gc.freeze()  # not again with the next


def judge(outcome, scenario, fault):
    """Hold what came of a fault against what may come of it."""
    if not outcome.fired:
        return
    spoken = outcome.how != "ok" or outcome.said
    if fault.survives and spoken:
        outcome.problems.append(
            f"it should have gone on: {outcome.what} {outcome.said}"
        )
    names = {fault.call, f"{scenario} {fault.call}"}
    excused = fault.allocates or fault.survives or names & plans.EXCUSED.keys()
    if not spoken and not excused:
        outcome.problems.append("nobody was told")
    if outcome.how == "ok" and outcome.said:
        outcome.how = "reported"


def reap():
    """Popen keeps what was forgotten, with its pipes, until the child has ended."""
    for _ in range(200):
        subprocess._cleanup()
        if not subprocess._active:
            break
        time.sleep(0.01)


def forgive(outcome):
    """The memory was missing in the interpreter, or for code in Python, asyncio's for
    the most part: it is theirs what comes of that, but for the bystander."""
    for problem in outcome.problems[:]:
        if BYSTANDER not in problem:
            outcome.problems.remove(problem)
            outcome.forgiven.append(problem)


# -- The plan ----------------------------------------------------------------------


def picks(count, most):
    """So many of the numbers from 1 on, evenly spread."""
    if most is None or count <= most:
        return range(1, count + 1)
    steps = max(1, most - 1)
    return sorted({1 + i * (count - 1) // steps for i in range(most)})


def in_child(call, *args):
    """(Its exit code, what it found) of a forked child."""
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        os.write(writer, json.dumps(call(*args)).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        text = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, json.loads(text or "0")


class Plan:
    """All faults of one kind, one after the other."""

    def __init__(self, injector, arguments):
        self.injector = injector
        self.fresh = arguments.kind == "first"
        self.most = arguments.most
        self.after = arguments.after
        self.nth = arguments.nth
        self.counts = {}
        self.faults = [
            fault
            for fault in plans.KINDS[arguments.kind]
            if arguments.call in (None, fault.call)
            and f"{arguments.scenario} {fault.call}" not in plans.SKIPPED
        ]

    def run(self, fault, nth):
        def run():
            return vars(self.injector.run(fault, nth))

        if not self.fresh:
            return run()
        code, found = in_child(run)
        if code == 0:
            return found
        return {"how": "crashed", "fired": 1, "problems": [f"it ended with {code}"]}

    def _count(self, fault):
        """How many such calls there are: the fault is too late for any."""

        def count():
            outcome = self.injector.run(fault, 1 << 40)
            if outcome.how != "ok" or outcome.problems:
                raise SystemExit(f"fails without a fault: {vars(outcome)}")
            return self.injector.shim.count(fault.call)

        key = (fault.call, fault.everywhere, fault.library)
        if key not in self.counts:
            self.counts[key] = in_child(count)[1] if self.fresh else count()
        return min(self.counts[key], fault.most or self.counts[key])

    def follow(self, tell):
        for number, fault in enumerate(self.faults):
            for nth in self.nth or picks(self._count(fault), self.most):
                if [number, nth] <= self.after:
                    continue
                tell({"begin": [number, nth], "fault": fault.name, "nth": nth})
                tell({"end": [number, nth], "call": fault.call, **self.run(fault, nth)})


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario")
    parser.add_argument("--kind", choices=plans.KINDS, default="calls")
    parser.add_argument("--call", help="only this one")
    parser.add_argument("--loop", default="asyncfast")
    parser.add_argument("--nth", type=int, action="append")
    parser.add_argument("--most", type=int)
    parser.add_argument("--after", type=json.loads, default=[-1, -1])
    parser.add_argument("--folder", type=Path)
    return parser.parse_args()


def prepare(arguments):
    warnings.simplefilter("ignore", ResourceWarning)
    signal.signal(signal.SIGALRM, expire)
    # asyncio waits for a second before it accepts again.
    asyncio.constants.ACCEPT_RETRY_DELAY = 0.01
    asyncio.constants.SSL_SHUTDOWN_TIMEOUT = 2
    folder = arguments.folder
    certificate = str(folder / "cert.pem"), str(folder / "key.pem")
    contexts = {
        "server": server_context(certificate),
        "client": client_context(certificate),
    }
    return Settings(arguments.loop, folder, folder / "file", contexts)


def main():
    arguments = parse()
    with os.fdopen(os.dup(1), "w", buffering=1) as lines:

        def tell(line):
            print(json.dumps(line), file=lines, flush=True)

        injector = Injector(arguments.scenario, prepare(arguments), arguments.kind)
        injector.shim.trace_crashes()
        faulthandler.enable()
        if arguments.kind == "allocations":
            injector.shim.hook_python()
        for _ in range(0 if arguments.kind == "first" else 2):  # what is made once
            injector.run()
        gc.collect()
        gc.freeze()
        Plan(injector, arguments).follow(tell)


if __name__ == "__main__":
    main()
