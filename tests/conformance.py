"""A scoreboard: CPython's own asyncio tests on asyncfast and on other loops.

    python tests/conformance.py [--loops asyncfast,asyncio,uvloop] [--details] [GROUP...]

No test is left out or excused for any loop.
"""

import argparse
import importlib.util
import platform
import sys

from cpython_suite import GROUPS, LOOP_GROUPS, run_group

LOOPS = ("asyncfast", "asyncio", "uvloop")
OUTCOMES = ("passed", "failed", "hung", "skipped")


def counts(results):
    """Tests by outcome; a crash is told as a failure."""
    numbers = {outcome: results.count(outcome) for outcome in OUTCOMES}
    numbers["failed"] += results.count("crashed")
    return numbers


def cell(numbers):
    return " ".join(f"{numbers[outcome]:>7}" for outcome in OUTCOMES)


def share(numbers):
    """What of the tests that ran passed, rounded down."""
    ran = sum(numbers.values()) - numbers["skipped"]
    return f"{int(1000 * numbers['passed'] / ran) / 10 if ran else 0:.1f} %"


def title(loop):
    if loop == "asyncio":
        return f"asyncio {platform.python_version()}"
    return f"{loop} {importlib.import_module(loop).__version__}"


def is_installed(loop):
    if importlib.util.find_spec(loop):
        return True
    print(f"{loop} is not installed: left out", file=sys.stderr)
    return False


class Scoreboard:
    def __init__(self, loops):
        self.loops = loops
        self.totals = {loop: dict.fromkeys(OUTCOMES, 0) for loop in loops}
        self.unsuccessful = []

    def line(self, name, cells):
        print(" | ".join([f"{name:<25}", *cells]), flush=True)

    def head(self):
        self.line("", [f"{title(loop):<31}" for loop in self.loops])
        heading = " ".join(f"{outcome:>7}" for outcome in OUTCOMES)
        self.line("", [heading] * len(self.loops))

    def row(self, group):
        cells = []
        for loop in self.loops:
            results = run_group(group, loop)
            numbers = counts(results)
            cells.append(cell(numbers))
            for outcome in OUTCOMES:
                self.totals[loop][outcome] += numbers[outcome]
            for test in results.unsuccessful:
                found = results.outcomes[test], results.details[test]
                self.unsuccessful.append((loop, f"{group}: {test}", *found))
        self.line(group, cells)

    def foot(self):
        self.line("total", [cell(self.totals[loop]) for loop in self.loops])
        self.line(
            "passed, of those that ran",
            [f"{share(self.totals[loop]):>31}" for loop in self.loops],
        )

    def names(self, with_details):
        print()
        for loop, test, outcome, detail in self.unsuccessful:
            print(f"{outcome} on {loop}: {test}")
            if with_details:
                print(detail)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--loops", default=",".join(LOOPS))
    parser.add_argument("--details", action="store_true", help="show what failed how")
    options = parser.parse_args()
    for group in options.groups:
        if group not in GROUPS:
            parser.error(f"no such group: {group}")
    board = Scoreboard(
        [loop for loop in options.loops.split(",") if is_installed(loop)]
    )
    board.head()
    for group in options.groups or LOOP_GROUPS:
        board.row(group)
    board.foot()
    board.names(options.details)


if __name__ == "__main__":
    main()
