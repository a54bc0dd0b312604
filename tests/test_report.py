"""The report of a benchmark run: a table that says what was found, and charts."""

import importlib.util
import json
import pathlib
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from support import missing

BENCHMARKS = pathlib.Path(__file__).parent.parent / "benchmarks"
LATENCY = {"p50": 50.0, "p99": 99.0, "p99.9": 999.0, "max": 1000.0, "mean": 60.0}
COSTS = {"asyncfast": 4e-6, "asyncio": 9e-6, "uvloop": 6e-6, "c-epoll": 2e-6}
CHARTS = {"ratios", "ratios-all", "latency", "connections", "sizes", "scale"}

pytestmark = [
    pytest.mark.guard(100),
    pytest.mark.nosanitizer,  # its runtime slows the charts' libraries
]


def samples_of(loop, cost, **more):
    """Three samples around this cost; asyncfast was slow when the others were fast."""
    shares = (1.1, 1.0, 0.9) if loop == "asyncfast" else (0.9, 1.0, 1.1)
    return [
        {"round": turn, "operations": 100, "cpu": share * cost * 100, "wall": 0.1}
        | more
        for turn, share in enumerate(shares)
    ]


def row(name, costs, count=None, load=None, **more):
    return {
        "name": name,
        "title": name,
        "group": "network" if load else "tasks",
        "unit": "message" if load else "operation",
        "quick": True,
        "samples": {
            loop: samples_of(loop, cost, **more) for loop, cost in costs.items()
        },
        **({"load": load} if load else {}),
        **({"count": count} if count else {}),
    }


def served(size, connections):
    return row(
        f"echo/{size}B/{connections}",
        COSTS,
        load={"size": size, "connections": connections, "depth": 1},
        latency_us=LATENCY,
        lost=0,
        client_busy=0.5,
    )


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """A small run, in which asyncfast is behind on one row."""
    loops = {loop: cost for loop, cost in COSTS.items() if loop != "c-epoll"}
    rows = [row("sleep_zero", loops), row("slow", {**loops, "asyncfast": 12e-6})]
    rows += [served(64, count) for count in (1, 10, 100)]
    rows += [served(size, 100) for size in (1024, 10240)]
    rows += [row(f"tasks/{count}", loops, count) for count in (1000, 10_000, 10**5)]
    record = {
        "started": "2026-01-02T03:04:05Z",
        "python": "CPython 3",
        "gc": {"enabled": True},
        "heap": "used",
        "machine": {"processor": "P", "cores": 2, "system": "S"},
        "loops": dict.fromkeys(COSTS, "1.0"),
        "limits": ["c-epoll"],
        "subject": "asyncfast",
        "rows": rows,
        "failures": [{"row": "slow", "loop": "broken", "reason": "it broke"}],
    }
    path = tmp_path_factory.mktemp("report") / "result.json"
    path.write_text(json.dumps(record))
    return path


def command(program, *arguments):
    words = [sys.executable, str(BENCHMARKS / program), *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=90)


def report(*arguments):
    return command("report.py", *arguments)


@pytest.fixture(scope="module")
def text(result):
    done = report(result, "--out", result.parent / "text", "--no-charts")
    assert done.returncode == 0, done.stderr
    return (result.parent / "text" / "report.md").read_text()


def cells(text, name):
    line = next(line for line in text.splitlines() if line.startswith(f"| `{name}`"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_has_its_medians_and_the_ratio_to_the_best_other(text):
    name, *costs, best, ratio = cells(text, "sleep_zero")
    assert costs[:3] == ["4.00 us ±5%", "9.00 us ±5%", "6.00 us ±5%"]
    assert best == "uvloop"
    assert ratio.startswith("1.50x (1.")


def test_a_limit_in_c_is_shown_and_is_nobodys_rival(text):
    name, *costs, best, ratio = cells(text, "echo/64B/10")
    assert "2.00 us ±5%" in costs
    assert best == "uvloop"


def test_what_is_not_ahead_is_listed(text):
    listed = text.split("## Where asyncfast is not ahead")[1].split("##")[0]
    assert [line for line in listed.splitlines() if "slow" in line] == [
        "| `slow` | uvloop | 0.50x (0.45-0.56) |"
    ]
    assert "sleep_zero" not in listed


def test_what_stays_below_its_target_is_listed(text):
    listed = text.split("## Below their target")[1].split("##")[0]
    rows = [line for line in listed.splitlines() if line.startswith("| `")]
    assert [row.split("|")[3].strip() for row in rows] == ["2.50x"]
    assert rows[0].startswith("| `sleep_zero` | 1.50x")
    assert "asyncfast's" in rows[0]


def test_latencies_circumstances_and_failures_are_told(text):
    assert "/s 50.0us/99.0us/999us" in text
    assert "collector on, used heap, 3 to 3 samples" in text
    assert "slow on broken: it broke" in text


def test_charts_are_drawn_as_svg_and_png(result):
    if importlib.util.find_spec("matplotlib") is None:
        missing("matplotlib")
    out = result.parent / "charts"
    done = report(result, "--out", out)
    assert done.returncode == 0, done.stderr
    assert {path.stem for path in out.glob("*.png")} == CHARTS
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in out.glob("*.png"))
    pictures = {path.stem: ElementTree.parse(path) for path in out.glob("*.svg")}
    assert pictures.keys() == CHARTS
    words = set(pictures["ratios"].getroot().itertext())
    assert {"sleep_zero", "1.50x  uvloop", "0.50x  uvloop"} <= words


def test_a_file_that_is_no_result_is_named(tmp_path):
    done = report(tmp_path / "none.json")
    assert done.returncode == 1
    assert "none.json" in done.stderr
    assert "Traceback" not in done.stderr


def test_runs_stand_beside_each_other(result, tmp_path):
    record = json.loads(result.read_text())
    record["python"] = "CPython 4"
    record["rows"] = [row for row in record["rows"] if row["name"] == "sleep_zero"]
    other = tmp_path / "other.json"
    other.write_text(json.dumps(record))
    done = command("beside.py", result, other)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "| CPython 3 | CPython 4 | target |" in lines[2]
    [line] = [line for line in lines if "sleep_zero" in line]
    assert line == "| `sleep_zero` | 1.50x uvloop | 1.50x uvloop | 2.50x |"
    assert len(lines) > 5


def test_a_run_agrees_with_itself(result):
    done = command("agree.py", result, result)
    assert done.returncode == 0, done.stdout
    assert "within 0.0%" in done.stdout


def test_runs_that_differ_by_over_a_tenth_are_told_apart(result, tmp_path):
    record = json.loads(result.read_text())
    row = next(row for row in record["rows"] if row["name"] == "sleep_zero")
    for sample in row["samples"]["uvloop"]:
        sample["cpu"] *= 1.2
    for sample in row["samples"]["asyncio"]:
        sample["cpu"] *= 1.05
    other = tmp_path / "other.json"
    other.write_text(json.dumps(record))
    done = command("agree.py", result, other)
    assert done.returncode == 1
    told = [line for line in done.stdout.splitlines() if "sleep_zero" in line]
    assert len(told) == 1
    assert "uvloop (the best other)" in told[0]
    assert told[0].endswith("20%")
