"""Count the instructions that one operation takes, under valgrind's callgrind.

python benchmarks/instructions.py                    # a table
python benchmarks/instructions.py --check            # against the baseline
python benchmarks/instructions.py --record           # make a new baseline

Counts repeat where times do not, on a busy machine too. docs/benchmarks.md says
what they leave out, and when two of them can be compared.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile

import loops
import native
import registry
import table
from child import environment

BASELINES = registry.HERE / "baselines"
SUBJECT = "asyncfast"
REFERENCE = "asyncio"
GROWTH = 0.05
# Where only ratios can be compared: another build of the interpreter alone moves
# them by up to this much.
GROWTH_ELSEWHERE = 0.25
STRETCH = 500
TOTAL = re.compile(r"^totals: (\d+)", re.MULTILINE)


class CountError(Exception):
    pass


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rows", default="", help="names, groups or patterns, by comma")
    add("--loops", default="", help="by comma, as run.py takes them")
    add("--python", default=sys.executable, help="the interpreter to count with")
    add("--check", action="store_true", help="fail when a row has grown by over 5 %%")
    add("--record", action="store_true", help="make these counts the baseline")
    add("--baseline", type=pathlib.Path, help="another file than the committed one")
    return parser.parse_args(arguments)


# Counting


def stretches(row):
    """Two lengths: what their difference took is free of beginning and end."""
    short = max(STRETCH // row.batch, 1) * row.batch
    return short, 3 * short


def count(row, loop):
    """The instructions of one operation."""
    with tempfile.TemporaryDirectory(prefix="count-") as scratch:
        out = os.path.join(scratch, "out")
        run_counted(row, loop, out)
        short, long = (total_of(f"{out}.{number}") for number in (1, 2))
    lengths = stretches(row)
    return (long - short) / (lengths[1] - lengths[0])


def run_counted(row, loop, out):
    job = {"row": row.name, "factory": loop.factory, "stretches": stretches(row)}
    job |= {"gc": False, "heap": "used", "library": native.tool("count.so")}
    valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no"]
    worker = [loop.python, loops.WORKER, "count", json.dumps(job)]
    done = subprocess.run(
        [*valgrind, f"--callgrind-out-file={out}", *worker],
        capture_output=True,
        text=True,
        timeout=300,
        # Objects hash by address and strings by chance: both must repeat.
        env={**environment(), "PYTHONHASHSEED": "0"},
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        words = [line for line in lines if not line.startswith("==")]
        reason = (words or ["no reason given"])[-1]
        raise CountError(f"{row.name} on {loop.name}: {reason}")


def total_of(path):
    with open(path) as lines:
        return int(TOTAL.search(lines.read())[1])


def count_all(rows, chosen):
    """{row: {loop: instructions}}; as many at a time as there are cores, for
    counts do not mind."""
    found = {row.name: {} for row in rows}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = {
            pool.submit(count, row, loop): (row, loop)
            for row in rows
            for loop in chosen
            if loop.serves(row)
        }
        for job in concurrent.futures.as_completed(jobs):
            row, loop = jobs[job]
            if (result := result_of(job, loop)) is not None:
                found[row.name][loop.name] = round(result, 1)
    return found


def result_of(job, loop):
    """The count, or None of a rival that cannot do the row."""
    try:
        return job.result()
    except CountError as error:
        if loop.name in (SUBJECT, REFERENCE):
            raise
        print(error, file=sys.stderr)
        return None


# Comparing


def build_of(loop):
    """What is counted beside the loop: counts compare where all of it is equal."""
    script = "import platform, sys; print(sys.version, *platform.libc_ver())"
    done = subprocess.run(
        [loop.python, "-c", script], capture_output=True, text=True, check=True
    )
    return {
        "python": " ".join(done.stdout.split()),
        "machine": platform.machine(),
        "valgrind": output_of("valgrind", "--version"),
    }


def output_of(*command):
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def baseline_path(options, loop):
    minor = ".".join(map(str, loop.python_version[:2]))
    return options.baseline or BASELINES / f"{minor}.json"


def growth(before, now, exact):
    """How much more the subject takes, as a share; where the builds differ, how
    much more of what the reference takes. None if it cannot be told."""
    needed = (SUBJECT,) if exact else (SUBJECT, REFERENCE)
    if not all(before.get(name) and now.get(name) for name in needed):
        return None
    change = now[SUBJECT] / before[SUBJECT]
    return change - 1 if exact else change * before[REFERENCE] / now[REFERENCE] - 1


def compare(baseline, build, found):
    """The lines to print about each row, and the rows that have grown too much."""
    exact = baseline["build"] == build
    allowed = GROWTH if exact else GROWTH_ELSEWHERE
    lines, grown = [["row", "before", "now", "change"]], []
    for name, now in found.items():
        before = baseline["rows"].get(name, {})
        change = growth(before, now, exact)
        lines.append(comparison_line(name, before, now, change))
        if change is not None and change > allowed:
            grown.append(name)
    return lines, grown, allowed


def comparison_line(name, before, now, change):
    figures = [digits(counts.get(SUBJECT)) for counts in (before, now)]
    return [name, *figures, "new" if change is None else f"{change:+.1%}"]


def digits(value):
    return "-" if value is None else f"{value:,.0f}"


def say_how_compared(baseline, build):
    if baseline["build"] == build:
        print("Same interpreter as the baseline's: instructions are compared.\n")
        return
    print("Not the interpreter that the baseline was made with: instructions do not")
    print(f"compare, so their ratio to {REFERENCE}'s does, with {GROWTH_ELSEWHERE:.0%}")
    print("allowed. The baseline's, then this one's:")
    for key in build:
        if build[key] != baseline["build"].get(key):
            print(f"  {baseline['build'].get(key)}\n  {build[key]}")
    print()


def check(baseline, build, found):
    """Print the comparison; the exit code."""
    say_how_compared(baseline, build)
    lines, grown, allowed = compare(baseline, build, found)
    print(table.aligned(lines))
    if grown:
        print(f"\nGrown by more than {allowed:.0%}: {', '.join(grown)}")
        print("If it has to be so: benchmarks/instructions.py --record, and say why.")
    return 1 if grown else 0


def kept_rows(path, build):
    """What a recording of some rows leaves as it is."""
    baseline = json.loads(path.read_text()) if path.exists() else {}
    return baseline["rows"] if baseline.get("build") == build else {}


def record(path, build, found):
    path.parent.mkdir(exist_ok=True)
    text = json.dumps({"build": build, "rows": found}, indent=1)
    path.write_text(text + "\n")
    print(f"Recorded in {path.name}.")
    return 0


# The table


def ratio(found, loop):
    """How many times the subject's instructions another loop takes."""
    both = found.get(SUBJECT) and found.get(loop)
    return f"{found[loop] / found[SUBJECT]:.2f}x" if both else "-"


def show(found, names):
    others = [name for name in names if name != SUBJECT]
    head = ["instructions per operation", *names]
    head += [f"{name} / {SUBJECT}" for name in others]
    lines = [head]
    for row, counts in found.items():
        figures = [digits(counts.get(name)) for name in names]
        lines.append([row, *figures, *(ratio(counts, name) for name in others)])
    print(table.aligned(lines))


# The command


def exact_rows(text):
    patterns = [part for part in text.split(",") if part]
    chosen = registry.select(patterns, quick=False)
    rows = [row for row in chosen if getattr(row, "exact", False)]
    if not rows:
        raise ValueError(f"no row of {text!r} can be counted; see --list of run.py")
    return rows


def contestants(options):
    if options.loops:
        names = options.loops.split(",")
        chosen = [loops.parse(name, options.python) for name in names]
    else:
        chosen, _ = loops.installed(options.python)
    return [loop for loop in chosen if not loop.is_limit]


def run_table(options, rows):
    chosen = contestants(options)
    show(count_all(rows, chosen), [loop.name for loop in chosen])
    return 0


def run_baseline(options, rows):
    subject, reference = (
        loops.parse(name, options.python) for name in (SUBJECT, REFERENCE)
    )
    path, build = baseline_path(options, subject), build_of(subject)
    if options.record:
        found = count_all(rows, [subject, reference])
        kept = kept_rows(path, build) if options.rows else {}
        return record(path, build, {**kept, **found})
    if not path.exists():
        print(f"No baseline for this Python, {path.name}: nothing to compare with.")
        return 0
    baseline = json.loads(path.read_text())
    same = baseline["build"] == build
    chosen = [subject] if same else [subject, reference]
    return check(baseline, build, count_all(rows, chosen))


def run(options):
    if not shutil.which("valgrind"):
        raise CountError("valgrind is not installed")
    rows = exact_rows(options.rows)
    if options.check or options.record:
        return run_baseline(options, rows)
    return run_table(options, rows)


def main(arguments=None):
    options = parse_arguments(arguments)
    try:
        return run(options)
    except (ValueError, loops.LoopError, native.BuildError, CountError) as error:
        sys.exit(f"instructions.py: {error}")


if __name__ == "__main__":
    sys.exit(main())
