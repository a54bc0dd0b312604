"""Show the ratios of several runs beside each other, as a table in Markdown.

python benchmarks/beside.py 3.11.json 3.13.json > docs/benchmarks/ratios.md

A cell is the best other loop's cost divided by the subject's, and which loop that is.
"""

import argparse
import json
import pathlib
import sys

import targets
from report import Report, as_table


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    help_ = "written by run.py --json"
    parser.add_argument("results", nargs="+", type=pathlib.Path, help=help_)
    return parser.parse_args(arguments)


def cell(report, name):
    row = next((row for row in report.rows if row["name"] == name), None)
    best = report.best_other(row) if row else None
    return f"{best[1].middle:.2f}x {best[0]}" if best else ""


def beside(reports):
    names = dict.fromkeys(row["name"] for report in reports for row in report.rows)
    lines = [
        [f"`{name}`", *(cell(report, name) for report in reports), wanted(name)]
        for name in names
    ]
    head = ["best other / asyncfast", *(r.record["python"] for r in reports), "target"]
    return as_table([head, *lines])


def wanted(name):
    target = targets.target_of(name)
    return f"{target.ratio:.2f}x" if target else ""


def main(arguments=None):
    options = parse_arguments(arguments)
    try:
        records = [json.loads(path.read_text()) for path in options.results]
    except (OSError, ValueError) as error:
        sys.exit(f"beside.py: {error}")
    reports = [Report(record) for record in records]
    print(f"# Ratios beside each other\n\n{beside(reports)}")


if __name__ == "__main__":
    main()
