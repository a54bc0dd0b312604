"""The inputs that fuzzing begins with, and those that once found something.

`make fuzz` goes on from there; tests/fuzz/run.py says how.
"""

import logging
import sys
import warnings
from pathlib import Path

import pytest
from support import PY, python

FUZZ = Path(__file__).parent / "fuzz"
INPUTS = sorted((FUZZ / "corpus").glob("*/*"))


@pytest.fixture
def targets(monkeypatch):
    """Targets by name; what they switch off is on again afterwards."""
    monkeypatch.syspath_prepend(str(FUZZ))
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        import once

        yield once.load
    logging.disable(before)


@pytest.mark.guard(60)
@pytest.mark.parametrize(
    "file", INPUTS, ids=lambda file: f"{file.parent.name}-{file.name}"
)
def test_an_input_does_as_on_asyncio(targets, file, _warm):
    target = file.parent.name
    if target == "buffers" and PY >= (3, 12):
        pytest.skip("asyncio counts the items of a buffer for bytes")
    targets(target)(file.read_bytes())


def test_each_target_has_inputs_to_begin_with():
    targets = {file.stem.removeprefix("target_") for file in FUZZ.glob("target_*.py")}
    assert {file.parent.name for file in INPUTS} == targets


def test_the_program_refuses_what_makes_no_sense():
    for arguments in ["--seconds", "0"], ["--target", "none"], ["--input", "x"]:
        done = python(str(FUZZ / "run.py"), *arguments, check=False)
        assert done.returncode == 2 and "usage" in done.stderr
