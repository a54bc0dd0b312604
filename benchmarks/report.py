"""Make a Markdown table and charts out of what run.py wrote with --json.

python benchmarks/report.py result.json --out build/report

Charts need matplotlib; without it the table alone is made.
"""

import argparse
import importlib.util
import json
import pathlib
import sys

import results
import table
import targets
from results import Results

OUT = pathlib.Path("build") / "report"


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("result", type=pathlib.Path, help="what run.py --json has written")
    add("--out", type=pathlib.Path, default=OUT, help=f"a folder ({OUT})")
    add("--subject", help="the loop whose ratios are shown (the run's)")
    add("--no-charts", action="store_true", help="the table alone")
    return parser.parse_args(arguments)


class Report:
    """A run, read back."""

    def __init__(self, record, subject=None):
        self.record = record
        self.rows = record["rows"]
        limits = frozenset(record["limits"])
        self.found = Results(subject or record["subject"], limits)
        for row in self.rows:
            for loop, samples in row["samples"].items():
                self.found.samples[row["name"], loop] = samples
        for failure in record["failures"]:
            at = failure["row"], failure["loop"]
            self.found.failures[at] = failure["reason"]
        self.loops = [
            loop
            for loop in record["loops"]
            if any(self.found.tried(row["name"], loop) for row in self.rows)
        ]

    @property
    def subject(self):
        return self.found.subject

    def figure(self, row, loop, value=results.cost):
        return self.found.figure(row["name"], loop, value)

    def best_other(self, row):
        """(loop, ratio) of the best of the others, or None."""
        best = self.found.best_other(row["name"], self.loops)
        ratio = self.found.ratio(row["name"], best) if best else None
        return (best, ratio) if ratio else None

    def groups(self):
        """{group: its rows}, in the order of the run."""
        found = {}
        for row in self.rows:
            found.setdefault(row["group"], []).append(row)
        return found


# Markdown


def markdown(report):
    parts = [circumstances(report)]
    for group, rows in report.groups().items():
        lines = [cost_line(report, row) for row in rows]
        head = ["row", *report.loops, "best other", f"best / {report.subject}"]
        parts.append(f"## {group}\n\n{as_table([head, *lines])}")
    parts.append(f"## Rates and latencies\n\n{rate_table(report)}")
    parts.append(f"## Where {report.subject} is not ahead\n\n{behind(report)}")
    parts.append(f"## Below their target\n\n{below_target(report)}")
    if report.found.failures:
        parts.append(f"## Failed\n\n{table.failure_list(report.found)}")
    return "\n\n".join(parts) + "\n"


def circumstances(report):
    record, where = report.record, report.record["machine"]
    loops = [f"{name} {version}" for name, version in record["loops"].items()]
    collector = "on" if record["gc"]["enabled"] else "off"
    samples = [len(found) for found in report.found.samples.values()]
    return "\n".join(
        [
            f"# {record['python']}, {record['started'][:10]}\n",
            f"* {', '.join(loops).replace(' ,', ',')}",
            f"* {where['processor']}, {where['cores']} cores, {where['system']}",
            f"* collector {collector}, {record['heap']} heap, "
            f"{min(samples, default=0)} to {max(samples, default=0)} samples each",
            "\nCPU time (user and system) per operation, or bytes where it says so: "
            "the median, and half the distance between the quartiles. Ratios above "
            f"1 are in favour of {report.subject}: the median of those of the single "
            "rounds, in brackets their quartiles.",
        ]
    )


def cost_line(report, row):
    figures = {loop: report.figure(row, loop) for loop in report.loops}
    unit = table.cost_unit(row["unit"], figures.values())
    costs = [table.cost(figure, unit, "") for figure in figures.values()]
    best = report.best_other(row)
    name, ratio = best if best else ("", None)
    return [f"`{row['name']}`", *costs, name, table.ratio_text(ratio)]


def rate_table(report):
    head = ["row", *report.loops]
    rows = [row for row in report.rows if row["unit"] != "byte"]
    lines = [
        [f"`{row['name']}`", *(rate(report, row, loop) for loop in report.loops)]
        for row in rows
    ]
    return as_table([head, *lines])


def rate(report, row, loop):
    samples = report.found.of(row["name"], loop)
    return table.rate_text(report.found, row["name"], loop) if samples else ""


def behind(report):
    """The rows on which another loop costs less, the worst first."""
    ratios = [(row, *best) for row in report.rows if (best := report.best_other(row))]
    lines = [
        [f"`{row['name']}`", other, table.ratio_text(ratio)]
        for row, other, ratio in sorted(ratios, key=lambda item: item[2].middle)
        if ratio.middle < 1
    ]
    if not lines:
        return "Nowhere in this run."
    return as_table([["row", "better", f"its cost / {report.subject}'s"], *lines])


def below_target(report):
    """The rows that don't reach what targets.py asks of them, and why."""
    lines = []
    for row in report.rows:
        target, best = targets.target_of(row["name"]), report.best_other(row)
        if target and best and best[1].middle < target.ratio:
            ratio = table.ratio_text(best[1])
            line = [f"`{row['name']}`", ratio, f"{target.ratio:.2f}x", target.why_not]
            lines.append(line)
    if not lines:
        return "None in this run."
    return as_table([["row", "reached", "target", "why"], *lines])


def as_table(lines):
    head, *rest = lines
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *rest])


# The command


def write(report, options):
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "report.md"
    path.write_text(markdown(report))
    print(path)
    if options.no_charts:
        return 0
    if importlib.util.find_spec("matplotlib") is None:
        sys.exit("report.py: no charts: matplotlib is not installed")
    import charts

    for path in charts.draw_all(report, options.out):
        print(path)
    return 0


def main(arguments=None):
    options = parse_arguments(arguments)
    try:
        record = json.loads(options.result.read_text())
    except (OSError, ValueError) as error:
        sys.exit(f"report.py: {options.result}: {error}")
    return write(Report(record, options.subject), options)


if __name__ == "__main__":
    sys.exit(main())
