"""Makes system calls and allocations fail, one at a time, and looks what comes of it.

    python tests/faults/run.py [--scenario NAME]... [--kind KIND]... [--most N]
                               [--loop asyncio] [--verbose]

Each scenario is done again and again, with a fault at the first, second, ... call of a
kind, for each error that this call may have.  It must go on, where the error means no
more than "again"; otherwise there must be an exception, or a report to the loop's
exception handler, and everything else on the loop must be as before.  Said is how many
faults were made, and every one after which that was not so; the exit code is 1 then.

Kinds: calls (of the system), allocations (of Python), memory (malloc, in the libraries),
first (what a process needs for its first name lookup).
"""

import argparse
import collections
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent
sys.path += [str(FOLDER), str(FOLDER.parent)]

import plans  # noqa: E402
import scenarios  # noqa: E402
import shim  # noqa: E402
from support import tls_files  # noqa: E402

# Other ways to do the same, chosen by the environment.
WAYS = {
    "tls": ["", "ASYNCFAST_TLS=ssl", "ASYNCFAST_TLS=stock"],
    "start_tls": ["", "ASYNCFAST_TLS=stock"],
    "streams": ["", "ASYNCFAST_STREAMS=stock"],
    "scheduling": ["", "ASYNCFAST_TASKS=stock"],
}

# Where a kind of fault can be at all.
PLACES = {"memory": ["tls"], "first": ["lookups"]}

MOST_CRASHES = 20


class Unit(NamedTuple):
    """What one process tries."""

    scenario: str
    kind: str
    way: str = ""
    loop: str = "asyncfast"

    def __str__(self):
        return " ".join(filter(None, [self.scenario, self.kind, self.way]))


def units(names=None, kinds=None, loop="asyncfast"):
    """All, or those of some scenarios and kinds."""
    for kind in kinds or plans.KINDS:
        for name in PLACES.get(kind, scenarios.SCENARIOS):
            ways = WAYS.get(name, [""]) if loop == "asyncfast" else [""]
            if not names or name in names:
                yield from (Unit(name, kind, way, loop) for way in ways)


class Result:
    """What came of the faults of one unit."""

    def __init__(self, unit):
        self.unit = unit
        self.faults = collections.Counter()  # by call
        self.outcomes = collections.Counter()
        self.problems = []

    def take(self, begun, line):
        if not line["fired"]:
            return
        where = f"{self.unit}: {begun['fault']}, call {begun['nth']}"
        self.faults[line["call"]] += 1
        self.outcomes[line["how"]] += 1
        self.outcomes["forgiven"] += bool(line.get("forgiven"))
        self.problems += [f"{where}: {problem}" for problem in line["problems"]]


def command(unit, folder, most, after):
    words = [sys.executable, str(FOLDER / "inject.py"), unit.scenario]
    words += ["--kind", unit.kind, "--loop", unit.loop, "--folder", str(folder)]
    if most:
        words += ["--most", str(most)]
    return words + ["--after", json.dumps(after)]


def attempt(result, folder, library, most, after):
    """One process; where it crashed, or None if it came to its end."""
    env = dict(os.environ, LD_PRELOAD=library, PYTHONMALLOC="pymalloc")
    name, _, value = result.unit.way.partition("=")
    if name:
        env[name] = value
    begun = None
    with (
        open(folder / "errors", "w+") as errors,
        subprocess.Popen(
            command(result.unit, folder, most, after),
            stdout=subprocess.PIPE,
            stderr=errors,
            env=env,
            text=True,
        ) as process,
    ):
        for text in process.stdout:
            line = json.loads(text)
            if "begin" in line:
                begun = line
            else:
                result.take(begun, line)
                begun = None
        code = process.wait()
        errors.seek(0)
        words = errors.read()[-6000:]
    if code == 0:
        return None
    where = f"{begun['fault']}, call {begun['nth']}" if begun else "between faults"
    site = crash_site(words)
    if begun and (result.unit.kind, site) in plans.CRASHES:
        result.faults[begun["fault"].split()[0]] += 1
        result.outcomes[f"crashed in {site}"] += 1
    else:
        result.outcomes["crashed"] += 1
        result.problems.append(
            f"{result.unit}: {where}: it ended with {code}:\n{words}"
        )
    return begun and begun["begin"]


def crash_site(words):
    """The library in which a process crashed, by the frames that the shim prints;
    "python" if it was the interpreter, and nobody between it and Python code."""
    site = ""
    for path, function in re.findall(r"^(/\S+?)\(([^()]*)\)\[0x", words, re.MULTILINE):
        name = Path(path).name.split(".")[0].removeprefix("lib")
        if name.startswith("python"):
            site = "python"
            if "_PyEval_EvalFrame" in function:
                break
        elif name not in ("faults", "c"):
            site = name
            break
    return site


def run_unit(unit, folder, library, most=None):
    """Try it all, past every crash; a Result."""
    result = Result(unit)
    after = [-1, -1]
    for _ in range(MOST_CRASHES):
        after = attempt(result, folder, library, most, after)
        if after is None:
            break
    return result


def prepare(folder):
    """What the scenarios need in a folder; the path of the shim."""
    tls_files(folder)
    (folder / "file").write_bytes(random.Random(1).randbytes(20_000))
    return shim.build(folder)


# -- The program -------------------------------------------------------------------


def show(result, seconds):
    told = ", ".join(f"{count} {how}" for how, count in result.outcomes.items())
    count = sum(result.faults.values())
    print(f"{str(result.unit):<44} {count:>6} faults, {seconds:5.1f} s: {told}", end="")
    print(f"  {len(result.problems)} PROBLEMS" if result.problems else "", flush=True)


def show_totals(results):
    by_call = collections.Counter()
    outcomes = collections.Counter()
    for result in results:
        by_call += result.faults
        outcomes += result.outcomes
    print("\nBy call:")
    for call, count in sorted(by_call.items()):
        print(f"  {call:<16} {count:>7}")
    print(f"  {'all':<16} {sum(by_call.values()):>7}")
    print("Outcomes: " + ", ".join(f"{n} {how}" for how, n in outcomes.items()))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenario", action="append", choices=scenarios.SCENARIOS)
    parser.add_argument("--kind", action="append", choices=plans.KINDS)
    parser.add_argument("--loop", default="asyncfast", choices=["asyncfast", "asyncio"])
    parser.add_argument("--most", type=int, help="calls to try of each kind and error")
    parser.add_argument("--verbose", action="store_true", help="whole problems at once")
    return parser.parse_args()


def main():
    arguments = parse()
    if lacking := shim.lacks():
        sys.exit(f"needs {lacking}")
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = prepare(folder)
        for unit in units(arguments.scenario, arguments.kind, arguments.loop):
            began = time.monotonic()
            results.append(run_unit(unit, folder, library, arguments.most))
            show(results[-1], time.monotonic() - began)
            if arguments.verbose:
                print(*results[-1].problems, sep="\n", flush=True)
    problems = [problem for result in results for problem in result.problems]
    show_totals(results)
    for number, problem in enumerate(problems, 1):
        print(f"\nproblem {number}: {problem}")
    print(f"\n{len(problems)} problems" if problems else "\nall well")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
