"""telemetry: serve_metrics() and python -m asyncfast top."""

import asyncio
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading

import pytest
from support import new_loop, once, python

import asyncfast
from asyncfast.telemetry import server, top


@pytest.fixture
def loop_name():
    return "asyncfast"


@pytest.fixture(autouse=True)
def runtime(monkeypatch):
    """A folder of a short name, for the sockets."""
    folder = tempfile.mkdtemp(prefix="af", dir="/tmp")
    monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


# -- The server --------------------------------------------------------------------


def test_an_answer_has_all_numbers(loop):
    asyncfast.enable_callback_stats(loop)
    loop.run_until_complete(asyncio.sleep(0.01))
    with asyncfast.serve_metrics(loop) as served:
        question = server.ask(served.path)
        for _ in range(2):
            answer = question()
    assert answer["pid"] == os.getpid() and answer["command"] == sys.argv
    [one] = answer["loops"]
    assert one["turn"] is one["stack"] is None
    numbers = asyncfast.Metrics(**one["metrics"])
    assert numbers.callbacks == asyncfast.metrics(loop).callbacks
    assert "sleep" in [row["name"] for row in one["callbacks"]]


def test_nobody_else_may_open_the_socket(loop, runtime):
    with asyncfast.serve_metrics(loop) as served:
        assert str(served.path) == f"{runtime}/asyncfast/{os.getpid()}.sock"
        assert stat.S_IMODE(served.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(served.path.parent.stat().st_mode) == 0o700
    assert not served.path.exists()
    served.stop()


def test_nobody_may_open_a_socket_that_is_being_made(loop, runtime, monkeypatch):
    modes = []
    activate = server._Server.server_activate

    def look_and_activate(self):
        modes.append(stat.S_IMODE(os.stat(self.server_address).st_mode))
        activate(self)

    monkeypatch.setattr(server._Server, "server_activate", look_and_activate)
    with asyncfast.serve_metrics(loop, f"{runtime}/mine"):
        assert modes == [0o600]


def test_a_folder_that_others_may_open(loop, runtime):
    os.mkdir(f"{runtime}/asyncfast", 0o755)
    with pytest.raises(PermissionError, match="is not a folder of this user alone"):
        asyncfast.serve_metrics(loop)


def test_without_a_runtime_folder(monkeypatch, runtime):
    monkeypatch.setenv("XDG_RUNTIME_DIR", f"{runtime}/missing")
    monkeypatch.setattr(tempfile, "tempdir", runtime)
    expected = f"{runtime}/asyncfast-{os.getuid()}/7.sock"
    assert str(server.socket_path(7)) == expected


def test_a_path_of_ones_own(loop, runtime):
    with asyncfast.serve_metrics(loop, f"{runtime}/mine") as served:
        assert server.ask(f"{runtime}/mine")()["loops"]
        with pytest.raises(OSError):
            asyncfast.serve_metrics(loop, served.path)
    with pytest.raises(OSError):
        asyncfast.serve_metrics(loop, f"{runtime}/missing/mine")


def test_a_socket_that_was_left_behind(loop, runtime):
    path = server.socket_path(os.getpid())
    path.parent.mkdir(0o700)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with asyncfast.serve_metrics(loop) as served:
        assert server.ask(served.path)()["loops"]


def test_numbers_are_served_once(loop):
    """The loop of a second part of the program is added to the server of the first."""
    with asyncfast.serve_metrics(loop) as served:
        with pytest.raises(OSError, match="served already"):
            asyncfast.serve_metrics(loop)
        assert server.ask(served.path)()["pid"] == os.getpid()
    with asyncfast.serve_metrics(loop) as served:
        assert served.path.exists()


def test_loops_come_and_go(loop, new):
    with asyncfast.serve_metrics(loop) as served:
        question = server.ask(served.path)
        other = new()
        served.add(other)
        assert len(question()["loops"]) == 2
        other.close()
        assert len(question()["loops"]) == 1
        del other
        assert len(question()["loops"]) == 1
        foreign = new_loop("asyncio")
        with pytest.raises(TypeError, match="an asyncfast loop is needed"):
            served.add(foreign)
        foreign.close()


def test_a_blocked_loop_answers(loop):
    found = []
    asked = threading.Event()

    def hold():
        assert asked.wait(20)

    def look():
        while not found or found[-1]["turn"] is None:
            found.append(question()["loops"][0])
        found.append(question()["loops"][0])
        asked.set()

    with asyncfast.serve_metrics(loop) as served:
        question = server.ask(served.path)
        thread = threading.Thread(target=look)
        thread.start()
        loop.call_soon(hold)
        once(loop)
        thread.join()
    assert "hold" in "".join(found[-1]["stack"])
    assert found[-1]["turn"] == found[-2]["turn"]


def test_whoever_asks_for_nothing_is_left_alone(loop):
    with asyncfast.serve_metrics(loop) as served:
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(str(served.path))
            stranger.sendall(b"GET / HTTP/1.0\n")
            assert stranger.recv(100) == b""
        assert server.ask(served.path)()["loops"]


# -- What is shown -----------------------------------------------------------------


def answer(seconds, **changes):
    numbers = dict.fromkeys(asyncfast.Metrics.__slots__, 0)
    numbers |= {"time_ns": int(seconds * 1e9), **changes.pop("metrics", {})}
    loop = {"id": 1, "metrics": numbers, "callbacks": [], "turn": None, "stack": None}
    return {"pid": 7, "command": ["program.py", "-x"], "loops": [{**loop, **changes}]}


def row(name, count, total, queued):
    return {
        "name": name,
        "where": "file.py:3",
        "count": count,
        "total": total,
        "queued": queued,
    }


def test_numbers_are_those_since_the_look_before():
    text = top.screen(
        answer(
            10,
            metrics={"callbacks": 1000, "busy_ns": 5, "idle_ns": 5},
            callbacks=[row("old", 10, 9.0, 9.0)],
        ),
        answer(
            12,
            metrics={
                "callbacks": 3000,
                "bytes_received": 2_000_000,
                "timers": 7,
                "busy_ns": 5 + 10**9,
                "idle_ns": 5 + 10**9,
            },
            callbacks=[row("old", 12, 9.02, 9.04), row("new", 1, 1.0, 0.5)],
        ),
    )
    assert text.startswith(
        "process 7: program.py -x\n\nloop 1:  50.0% busy, 0 ready, 7 "
    )
    assert "per second: 1,000 callbacks, " in text and "1,000,000 bytes in" in text
    new, old = text.splitlines()[-2:]
    assert new.split() == ["50.0%", "0", "1000000.0", "500000.0", "new", "(file.py:3)"]
    assert old.split() == ["1.0%", "1", "10000.0", "20000.0", "old", "(file.py:3)"]


def test_a_block_is_shown():
    before = answer(1, turn=5, stack=["one"])
    assert "BLOCKED" not in top.screen(before, answer(2, turn=6, stack=["two"]))
    assert "BLOCKED" not in top.screen(answer(1), answer(2))
    text = top.screen(before, answer(2, turn=5, stack=["two"]))
    assert text.endswith("  BLOCKED since the look before, at:\n  two\n")


def test_a_process_without_a_loop():
    assert top.screen(answer(1), {**answer(2), "loops": []}).endswith("\nno loop\n")


# -- The command -------------------------------------------------------------------

PROGRAM = """
import asyncio, sys

async def echo():
    loop = asyncio.get_running_loop()
    print("ready", flush=True)
    ticking = asyncio.create_task(tick())
    await loop.run_in_executor(None, sys.stdin.readline)
    ticking.cancel()

async def tick():
    while True:
        await asyncio.sleep(0.001)

asyncio.run(echo())
"""


@pytest.fixture
def program(tmp_path):
    """A process that serves its numbers until it is written to."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "asyncfast", "--top", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.stdin.close()
            process.wait(20)


def top_of(pid, *options):
    return python("-m", "asyncfast", "top", str(pid), *options, check=False)


def test_top(program, runtime):
    done = top_of(program.pid, "--count", "2", "--interval", "0.05")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"process {program.pid}: ") == 2
    assert "tick (" in done.stdout
    program.communicate("end\n")
    assert os.listdir(f"{runtime}/asyncfast") == []


def test_top_ends_with_the_process(program):
    command = [sys.executable, "-m", "asyncfast", "top", str(program.pid)]
    with subprocess.Popen(
        [*command, "--interval", "0.01"], stdout=subprocess.PIPE, text=True
    ) as shown:
        assert shown.stdout.readline().startswith("process ")
        program.communicate("end\n")
        assert shown.communicate(timeout=20)[0].endswith(" has ended\n")
    assert shown.returncode == 0


def test_top_of_a_process_that_does_not_serve(runtime):
    done = top_of(os.getpid())
    assert done.returncode == 1
    assert done.stderr.startswith(f"asyncfast top: {runtime}/asyncfast/")
    assert "python -m asyncfast --top" in done.stderr


def test_commands_for_the_terminal_are_not_passed_on():
    now = {"pid": 7, "command": ["a\x1b[2Jb\nc", "\udcff", "ä"], "loops": []}
    assert top.screen(now, now) == "process 7: a?[2Jb?c ? ä\nno loop\n"


def test_top_asks_nobody_in_a_folder_for_all(loop, runtime):
    os.mkdir(f"{runtime}/asyncfast", 0o755)
    with (
        asyncfast.serve_metrics(loop, f"{runtime}/asyncfast/7.sock"),
        pytest.raises(SystemExit, match="is not a folder of this user alone"),
    ):
        top.main(["7", "--count=1", "--interval=0.01"])


@pytest.mark.parametrize(
    "arguments", [["soon"], [], ["1", "--interval=0"], ["1", "--interval=x"]]
)
def test_bad_arguments(arguments):
    done = python("-m", "asyncfast", "top", *arguments, check=False)
    assert done.returncode == 2
    assert "usage: python -m asyncfast top" in done.stderr


def test_help():
    assert "--interval SECONDS" in top_of("--help").stdout
    assert "--top" in python("-m", "asyncfast", "--help").stdout
