"""Run every event loop on the same work and compare what it costs.

python benchmarks/run.py --quick
python benchmarks/run.py --rows 'protocol_echo/*/100,tasks' --loops uvloop,asyncfast
"""

import argparse
import dataclasses
import json
import sys
import tempfile
import time

import loops
import machine
import registry
import sample
import table
from progress import Progress
from results import Results
from services import Services

FORMAT = 1
INTERRUPTED = 130
ROUNDS = 3
AGAIN = 6


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rows", default="", help="names, groups or patterns, by comma")
    add("--loops", default="", help="by comma; also NAME=MODULE:CALLABLE[@PYTHON]")
    add("--subject", help="the loop whose ratios are shown (asyncfast)")
    add("--rounds", type=int, default=ROUNDS, help="samples of each row and loop (3)")
    add(
        "--again",
        type=int,
        default=AGAIN,
        help="more samples, at most, of rows whose ratios differ from round to round "
        "(6, quick 0)",
    )
    add("--seconds", type=float, help="length of a timed sample (0.4, quick 0.15)")
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument(
        "--quick", action="store_true", help="the main rows, in about two minutes"
    )
    extent.add_argument(
        "--full",
        action="store_true",
        help="every row, in about forty minutes: as without",
    )
    add("--no-gc", action="store_true", help="measure without garbage collection")
    add("--heap", choices=("used", "fresh"), default="used", help="see README.md")
    add("--cpus", help="SERVER,CLIENT: the cores to use (the first and the last)")
    add("--python", default=sys.executable, help="the interpreter to measure with")
    add("--json", metavar="OUT", help="write every sample to this file")
    add("--list", action="store_true", help="list the rows and stop")
    return parser.parse_args(arguments)


def cores_of(options):
    return map(int, options.cpus.split(",")) if options.cpus else machine.cores()


def plan_for(options, scratch, services):
    server, client = cores_of(options)
    seconds = options.seconds or (0.15 if options.quick else 0.4)
    return sample.Plan(
        scratch=scratch,
        seconds=seconds,
        load_seconds=2 * seconds,
        warmup=min(0.25, seconds),
        server_cpu=server,
        client_cpu=client,
        gc=not options.no_gc,
        heap=options.heap,
        services=services,
    )


def contestants(options):
    """The loops to run, and the reasons why others are not there."""
    if not options.loops:
        return loops.installed(options.python)
    names = options.loops.split(",")
    return [loops.parse(name, options.python) for name in names], {}


def subject_of(options, chosen):
    names = [loop.name for loop in chosen if not loop.is_limit]
    if not names:
        raise loops.LoopError("no event loop to run")
    wanted = options.subject or "asyncfast"
    if options.subject and wanted not in names:
        raise loops.LoopError(f"the subject {wanted!r} is not among the loops")
    return wanted if wanted in names else names[-1]


def say_what_is_lacking(rows, chosen):
    """A row for which something is not installed is left out, and named."""
    for row in rows:
        lacking = {
            name for loop in chosen if not loop.is_limit for name in loop.lacks(row)
        }
        if lacking:
            print(f"{row.name} needs {', '.join(sorted(lacking))}", file=sys.stderr)


def schedule(rows, chosen, rounds):
    """Every round of every row, with the loops that take part."""
    for turn in range(rounds):
        shown = [row for row in rows if not row.rounds or turn < row.rounds]
        yield from one_round(shown, chosen, turn)


def one_round(rows, chosen, turn):
    """The rows, with the loops that take part, in each round another one first."""
    order = sample.in_turn(chosen, turn)
    for row in rows:
        if serving := [loop for loop in order if loop.serves(row)]:
            yield turn, row, serving


def measure(rows, chosen, options, plan, results):
    """Take every sample; return whether they were all taken."""
    again = 0 if options.quick else options.again
    try:
        take_all(list(schedule(rows, chosen, options.rounds)), plan, results)
        for turn in range(options.rounds, options.rounds + again):
            unsure = [row for row in rows if results.is_unsure(row.name)]
            if unsure:
                take_all(list(one_round(unsure, chosen, turn)), plan, results)
    except KeyboardInterrupt:
        print("\nstopped; what was measured until then:", file=sys.stderr)
        return False
    return True


def take_all(steps, plan, results):
    progress = Progress(sum(len(chosen) for _, _, chosen in steps))
    for turn, row, chosen in steps:
        progress.show(row.name)
        # What failed once is not tried again: a crash may take a long timeout.
        sound = [
            loop for loop in chosen if (row.name, loop.name) not in results.failures
        ]
        take_round(turn, row, sound, plan, results)
        progress.advance(len(chosen))
    progress.finish()


def take_round(turn, row, chosen, plan, results):
    for name, taken in sample.take(row, chosen, plan).items():
        if isinstance(taken, sample.SampleError):
            results.failures[row.name, name] = str(taken)
        else:
            results.add(row.name, name, {"round": turn, **taken})


def header(chosen, plan, facts):
    versions = [f"{loop.name} {loop.version}" for loop in chosen if not loop.is_limit]
    state = f"collector {'on' if plan.gc else 'off'}, {plan.heap} heap"
    where = facts["machine"]
    return (
        f"{facts['python']}, {', '.join(versions)}; {state}\n"
        f"{where['processor']}, {where['cores']} cores, {where['system']}; "
        f"server on core {plan.server_cpu}, client on core {plan.client_cpu}\n"
    )


def facts_of(chosen, plan):
    first = next(loop for loop in chosen if not loop.is_limit)
    probed = loops.probe(first)
    return {
        "format": FORMAT,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": probed["python"],
        "openssl": probed["openssl"],
        "gc": {**probed["gc"], "enabled": plan.gc},
        "heap": plan.heap,
        "machine": machine.describe(),
        "loops": {loop.name: getattr(loop, "version", "") for loop in chosen},
    }


def row_record(row, chosen, results):
    record = {"name": row.name, "title": row.title, "group": row.group}
    record["quick"] = row.quick
    if row.count:
        record["count"] = row.count
    if isinstance(row, registry.ServerRow):
        record["load"] = dataclasses.asdict(row.load)
    best = results.best_other(row.name, [loop.name for loop in chosen])
    ratio = results.ratio(row.name, best) if best else None
    return {
        **record,
        "unit": row.unit,
        "best_other": best,
        "ratio": dataclasses.asdict(ratio) if ratio else None,
        "samples": {
            loop.name: found
            for loop in chosen
            if (found := results.of(row.name, loop.name))
        },
    }


def write_json(path, facts, rows, chosen, results):
    failures = [
        {"row": row, "loop": loop, "reason": reason}
        for (row, loop), reason in results.failures.items()
    ]
    record = {
        **facts,
        "subject": results.subject,
        "limits": sorted(results.limits),
        "rows": [row_record(row, chosen, results) for row in rows],
        "failures": failures,
    }
    with open(path, "w") as out:
        json.dump(record, out, indent=1)
        out.write("\n")


def list_rows(rows):
    width = max(len(row.name) for row in rows)
    for row in rows:
        mark = "*" if row.quick else " "
        print(f"{mark} {row.name:{width}}  {row.group:10}  {row.title}")
    print("\n* also with --quick")


def run(options, rows, scratch):
    if options.rounds < 1 or options.again < 0:
        raise ValueError("--rounds must be at least 1, --again at least 0")
    chosen, missing = contestants(options)
    for reason in missing.values():
        print(reason, file=sys.stderr)
    limits = frozenset(loop.name for loop in chosen if loop.is_limit)
    results = Results(subject_of(options, chosen), limits)
    say_what_is_lacking(rows, chosen)
    with Services(list(cores_of(options))[1]) as services:
        plan = plan_for(options, scratch, services)
        facts = facts_of(chosen, plan)
        complete = measure(rows, chosen, options, plan, results)
    print(header(chosen, plan, facts))
    print(table.render(results, rows, [loop.name for loop in chosen]))
    if options.json:
        write_json(options.json, facts, rows, chosen, results)
    return 0 if complete else INTERRUPTED


def main(arguments=None):
    options = parse_arguments(arguments)
    try:
        patterns = [part for part in options.rows.split(",") if part]
        rows = registry.select(patterns, options.quick)
        if options.list:
            return list_rows(rows)
        with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
            return run(options, rows, scratch)
    except (ValueError, loops.LoopError) as error:
        sys.exit(f"run.py: {error}")


if __name__ == "__main__":
    sys.exit(main())
