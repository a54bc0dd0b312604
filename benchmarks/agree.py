"""Tell whether two runs say the same: their ratios to the subject, row by row.

python benchmarks/agree.py first.json second.json

Ends with status 1 where a ratio of CPU time, or of bytes, differs by over a tenth.
"""

import argparse
import json
import pathlib
import sys
from statistics import median

import table
from report import Report

TOLERANCE = 0.10


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("first", "second"):
        parser.add_argument(name, type=pathlib.Path, help="written by run.py --json")
    return parser.parse_args(arguments)


def ratios(report):
    """{(row, other loop): its cost by the subject's}; a limit is no rival, and a
    latency depends on what else the machine does."""
    return {
        (row["name"], loop): ratio.middle
        for row in report.rows
        if row["unit"] != "p99"
        for loop in report.loops
        if loop != report.subject and loop not in report.found.limits
        if (ratio := report.found.ratio(row["name"], loop))
    }


def compared(first, second):
    """(how far apart, row, loop, both ratios), the farthest first."""
    ours, theirs = ratios(first), ratios(second)
    found = []
    for row, loop in ours.keys() & theirs.keys():
        pair = ours[row, loop], theirs[row, loop]
        found.append((max(pair) / min(pair) - 1, row, loop, *pair))
    return sorted(found, reverse=True)


def told(found, best):
    apart = [entry for entry in found if entry[0] > TOLERANCE]
    lines = [["row", "other loop", "first", "second", "apart"]]
    for distance, row, loop, *pair in apart:
        mark = " (the best other)" if (row, loop) in best else ""
        pair = [f"{ratio:.2f}x" for ratio in pair]
        lines.append([row, loop + mark, *pair, f"{distance:.0%}"])
    middle = median(entry[0] for entry in found)
    summary = (
        f"{len(found) - len(apart)} of {len(found)} ratios are within "
        f"{TOLERANCE:.0%} of each other; half of them within {middle:.1%}."
    )
    return "\n".join([summary, *([table.aligned(lines)] if apart else [])])


def main(arguments=None):
    options = parse_arguments(arguments)
    try:
        runs = [
            Report(json.loads(path.read_text()))
            for path in (options.first, options.second)
        ]
    except (OSError, ValueError) as error:
        sys.exit(f"agree.py: {error}")
    found = compared(*runs)
    if not found:
        sys.exit("agree.py: the runs have no ratio in common")
    best = {
        (row["name"], other[0])
        for row in runs[0].rows
        if (other := runs[0].best_other(row))
    }
    print(told(found, best))
    return 1 if found[0][0] > TOLERANCE else 0


if __name__ == "__main__":
    sys.exit(main())
