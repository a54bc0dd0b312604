"""System calls and allocations that fail: a few of each, of which run.py tries all.

Each scenario runs in a process of its own, with shim.c before the C library.  What has
to come of a fault is judged there, by inject.py.
"""

import pytest
import run
import shim
from support import missing

# A sanitizer has to be the first library of a process.
pytestmark = [pytest.mark.nosanitizer, pytest.mark.guard(300)]

MOST = {"calls": 1, "allocations": 6, "memory": 6, "first": None}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """(a folder with what scenarios need, the shim)."""
    if lacking := shim.lacks():
        missing(lacking)
    folder = tmp_path_factory.mktemp("faults")
    return folder, run.prepare(folder)


@pytest.mark.parametrize("unit", list(run.units()), ids=str)
def test_nothing_but_the_fault_is_noticed(unit, prepared):
    result = run.run_unit(unit, *prepared, MOST[unit.kind])
    assert result.faults
    assert not result.problems, "\n\n".join(result.problems)
