"""telemetry of a whole program: python -m asyncfast --slow, --stats, --watchdog."""

import pytest
from support import python

PROGRAM = """
import asyncio, threading, time

async def hold():
    time.sleep(0.1)

async def main():
    for _ in range(3):
        await asyncio.sleep(0.001)
    await asyncio.create_task(hold())

asyncio.run(main())
print("done")
"""


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def run_program(*args):
    done = python("-W", "ignore", "-m", "asyncfast", *map(str, args))
    assert done.stdout.endswith("done\n")
    return done.stderr


def test_nothing_is_said_unless_asked_for(program):
    assert run_program(program) == ""


def test_slow_callbacks_of_a_program(program):
    text = run_program("--slow", "0.05", program)
    assert "Executing <Task finished " in text and " coro=<hold() done" in text
    assert run_program("--slow", "30", program) == ""


def test_blocks_of_a_program(program):
    text = run_program("--watchdog", "0.02", program)
    assert text.startswith("Event loop blocked for 0.")
    assert "time.sleep(0.1)" in text


def test_the_numbers_of_a_program(program):
    text = run_program("--stats", program)
    assert text.startswith("\nasyncfast: 1 loop(s)\n  busy ")
    assert float(text.split()[4]) >= 0.1
    assert "callbacks in " in text and "reads of " in text
    rows = text.partition("callback\n")[2].splitlines()
    assert "hold (" in rows[0] and rows[0].split()[0] == "1"
    assert float(rows[0].split()[1]) >= 0.1


def test_the_numbers_of_many_loops(tmp_path):
    path = tmp_path / "many.py"
    path.write_text(
        "import asyncio, gc\n"
        "for _ in range(50):\n"
        "    asyncio.run(asyncio.sleep(0))\n"
        "gc.collect()\n"
        "left = [o for o in gc.get_objects() if isinstance(o, asyncio.AbstractEventLoop)]\n"
        "assert len(left) < 5, left\n"
        "print('done')\n"
    )
    assert "asyncfast: 50 loop(s)" in run_program("--stats", path)


def test_the_numbers_of_no_loop(tmp_path):
    path = tmp_path / "other.py"
    path.write_text(
        "import asyncio\nasyncio.SelectorEventLoop().close()\nprint('done')\n"
    )
    text = run_program("--stats", path)
    assert text == "\nasyncfast: the program has made no loop of asyncfast's\n"


@pytest.mark.parametrize("option", ["--slow", "--watchdog"])
@pytest.mark.parametrize("value", ["0", "-1", "soon", "inf", "nan"])
def test_bad_options(program, option, value):
    done = python("-m", "asyncfast", f"{option}={value}", str(program), check=False)
    assert done.returncode == 2
    assert f"argument {option}: '{value}' is not a number of seconds" in done.stderr


def test_help():
    text = python("-m", "asyncfast", "--help").stdout
    for option in ("--slow SECONDS", "--watchdog SECONDS", "--stats"):
        assert option in text
