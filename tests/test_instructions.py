"""Counting instructions: growth is told from none, on this interpreter and others."""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest
from support import missing

BENCHMARKS = pathlib.Path(__file__).parent.parent / "benchmarks"
ROW = "call_soon_batch"
BUILD = {"python": "3", "machine": "m", "valgrind": "v"}
OTHER_BUILD = {**BUILD, "python": "another"}

pytestmark = [
    pytest.mark.guard(100),
    pytest.mark.nosanitizer,  # valgrind cannot run its runtime
]


@pytest.fixture
def instructions(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return pytest.importorskip("instructions")


@pytest.mark.parametrize(
    ("build", "asyncio", "asyncfast", "grown"),
    [
        (BUILD, 1000, 104, False),
        (BUILD, 1000, 106, True),
        (BUILD, 1000, 50, False),
        # The same share of asyncio's count is no growth, whatever the interpreter.
        (OTHER_BUILD, 2000, 200, False),
        (OTHER_BUILD, 2000, 240, False),
        (OTHER_BUILD, 2000, 260, True),
        (OTHER_BUILD, 500, 100, True),
    ],
)
def test_growth_is_told(instructions, build, asyncio, asyncfast, grown):
    baseline = {"build": BUILD, "rows": {ROW: {"asyncio": 1000, "asyncfast": 100}}}
    found = {ROW: {"asyncio": asyncio, "asyncfast": asyncfast}}
    assert instructions.compare(baseline, build, found)[1] == [ROW] * grown


@pytest.mark.parametrize("build", [BUILD, OTHER_BUILD])
def test_a_new_row_has_not_grown(instructions, build):
    baseline = {"build": BUILD, "rows": {}}
    found = {ROW: {"asyncio": 1000, "asyncfast": 100}}
    lines, grown, _ = instructions.compare(baseline, build, found)
    assert grown == []
    assert lines[1][-1] == "new"


HEAVY_LOOP = """
import asyncio

class HeavyLoop(asyncio.SelectorEventLoop):
    def call_soon(self, *args, **kwargs):
        sum(range(100))
        return super().call_soon(*args, **kwargs)
"""


def run(*arguments):
    if not shutil.which("valgrind"):
        missing("valgrind")
    command = [sys.executable, str(BENCHMARKS / "instructions.py"), "--rows", ROW]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=90
    )


def test_a_loop_made_heavier_takes_more(tmp_path, monkeypatch):
    (tmp_path / "heavy_loops.py").write_text(HEAVY_LOOP)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = run("--loops", "asyncio,heavy=heavy_loops:HeavyLoop")
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith(ROW))
    light, heavy = (int(cell.replace(",", "")) for cell in line.split("|")[1:3])
    assert heavy > light + 1000


def test_a_baseline_that_was_lower_fails_the_check(tmp_path):
    path = tmp_path / "baseline.json"
    assert run("--record", "--baseline", path).returncode == 0
    baseline = json.loads(path.read_text())
    baseline["rows"][ROW]["asyncfast"] *= 0.9
    path.write_text(json.dumps(baseline))
    done = run("--check", "--baseline", path)
    assert done.returncode == 1
    assert f"Grown by more than 5%: {ROW}" in done.stdout


def test_the_share_of_the_loops_own():
    command = [sys.executable, str(BENCHMARKS / "shares.py"), "--rows", ROW]
    if not shutil.which("valgrind"):
        missing("valgrind")
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith(ROW))
    total, own = (int(cell.replace(",", "")) for cell in line.split("|")[1:3])
    assert 0 < own < total / 2


def test_without_a_baseline_nothing_fails(tmp_path):
    done = run("--check", "--baseline", tmp_path / "none.json")
    assert done.returncode == 0
    assert "nothing to compare with" in done.stdout
