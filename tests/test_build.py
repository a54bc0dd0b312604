"""The extension as it was built, and builds that are refused."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import missing, python

import asyncfast
from asyncfast import _core

ROOT = Path(__file__).parent.parent
FLAGS = asyncfast.build_info()["flags"].split()

released = pytest.mark.skipif(
    sys.platform != "linux" or "-DNDEBUG" not in FLAGS,
    reason="for release builds on Linux",
)


def readelf(*options):
    if not shutil.which("readelf"):
        missing("readelf")
    command = ["readelf", "--wide", *options, _core.__file__]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@released
def test_addresses_are_fixed_before_the_first_call():
    assert "GNU_RELRO" in readelf("--segments")
    assert "BIND_NOW" in readelf("--dynamic")


@released
def test_no_stack_is_executable():
    [stack] = [line for line in readelf("--segments").splitlines() if "STACK" in line]
    assert " RW " in stack


@released
def test_stacks_are_guarded():
    assert "__stack_chk_fail" in readelf("--dyn-syms")


@released
def test_copies_are_checked_where_the_compiler_knows_a_size():
    assert "-D_FORTIFY_SOURCE=2" in FLAGS


@released
def test_only_the_module_is_exported():
    lines = readelf("--dyn-syms").splitlines()
    ours = [
        line.split()[-1] for line in lines if "GLOBAL" in line and "UND" not in line
    ]
    assert ours == ["PyInit__core"]


def test_free_threaded_python_is_refused():
    """Not built rather than wrong: the core relies on the GIL."""
    done = python(
        "-c",
        "import runpy, sys, sysconfig\n"
        "sysconfig.get_config_vars()['Py_GIL_DISABLED'] = 1\n"
        "sys.argv = ['setup.py', '--quiet', 'build_ext']\n"
        "runpy.run_path('setup.py', run_name='__main__')\n",
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 1
    assert "free-threaded CPython is not supported yet" in done.stderr
    assert "Traceback" not in done.stderr
