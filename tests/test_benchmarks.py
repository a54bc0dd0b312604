"""The benchmark harness: the shape of its output, and that slower shows as slower."""

import json
import pathlib
import shutil
import socket
import subprocess
import sys
import threading

import pytest
from support import missing

BENCHMARKS = pathlib.Path(__file__).parent.parent / "benchmarks"
NETWORK_ROW = "protocol_echo/64B/10"
STEADY_ROW = "latency_protocol/1KiB/100"
ROWS = ["sleep_zero", NETWORK_ROW, STEADY_ROW]
TURN_COST = 500e-6

pytestmark = pytest.mark.guard(100)

needs_load = pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("cc"),
    reason="the load client needs Linux and a C compiler",
)

SLOW_LOOP = f"""
import asyncio, time

class SlowLoop(asyncio.SelectorEventLoop):
    def _run_once(self):
        until = time.perf_counter() + {TURN_COST}
        while time.perf_counter() < until:
            pass
        super()._run_once()

class BrokenLoop(asyncio.SelectorEventLoop):
    def run_forever(self):
        raise SystemExit("this loop is broken")
"""


def run(*arguments, cwd=None):
    command = [sys.executable, str(BENCHMARKS / "run.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, cwd=cwd)


@pytest.fixture(scope="module")
def loops_path(tmp_path_factory):
    """A folder with loops to measure that must not come out well."""
    path = tmp_path_factory.mktemp("loops")
    (path / "bad_loops.py").write_text(SLOW_LOOP)
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", str(path))
    yield path
    patch.undo()


@pytest.fixture(scope="module")
def comparison(loops_path):
    """One run of two rows on asyncio and on a loop made slower: output and JSON."""
    out = loops_path / "out.json"
    loops = "c-epoll,asyncio,slow=bad_loops:SlowLoop"
    done = run(
        *("--rows", ",".join(ROWS), "--loops", loops, "--subject", "asyncio"),
        *("--rounds", 2, "--again", 0, "--seconds", 0.05, "--json", out),
    )
    assert done.returncode == 0, done.stderr
    return done, json.loads(out.read_text())


def cost(record, row, loop):
    samples = next(item for item in record["rows"] if item["name"] == row)["samples"]
    return min(sample["cpu"] / sample["operations"] for sample in samples[loop])


@needs_load
def test_table_has_a_line_for_each_row_and_a_column_for_each_loop(comparison):
    done, _ = comparison
    costs, rates = (part.splitlines() for part in done.stdout.split("\n\n")[1:3])
    head = [cell.strip() for cell in costs[0].split("|")]
    assert head[1:] == ["c-epoll", "asyncio", "slow", "best other", "best / asyncio"]
    for table, columns in ((costs, 6), (rates, 4)):
        lines = [line.split("|") for line in table if "|" in line][2:]
        assert sorted(line[0].strip() for line in lines) == sorted(ROWS)
        assert {len(line) for line in lines} == {columns}


@needs_load
def test_progress_and_time_left_go_to_standard_error(comparison):
    done, _ = comparison
    assert "left" in done.stderr
    assert "16 samples" in done.stderr


@needs_load
def test_json_keeps_every_sample_and_the_circumstances(comparison):
    _, record = comparison
    assert record["subject"] == "asyncio"
    assert record["limits"] == ["c-epoll"]
    assert record["failures"] == []
    assert {"python", "machine", "gc", "heap", "loops", "started"} <= record.keys()
    for row in record["rows"]:
        for samples in row["samples"].values():
            assert [sample["round"] for sample in samples] == [0, 1]
            assert all(sample["operations"] > 0 for sample in samples)
            assert all(sample["cpu"] > 0 for sample in samples)


@needs_load
def test_latency_percentiles_are_ordered(comparison):
    _, record = comparison
    row = next(row for row in record["rows"] if row["name"] == NETWORK_ROW)
    assert row["load"]["connections"] == 10
    for samples in row["samples"].values():
        for sample in samples:
            latency = sample["latency_us"]
            ordered = [latency[share] for share in ("p50", "p99", "p99.9", "max")]
            assert ordered == sorted(ordered)
            assert ordered[0] > 0
            assert sample["client"] == "c"
            assert sample["lost"] == 0


@pytest.mark.nosanitizer  # its runtime drowns what is measured
@needs_load
@pytest.mark.parametrize("row", ROWS[:2])
def test_a_loop_made_slower_shows_as_slower(comparison, row):
    _, record = comparison
    entry = next(item for item in record["rows"] if item["name"] == row)
    assert entry["best_other"] == "slow"
    assert entry["ratio"]["middle"] > 1.3
    assert cost(record, row, "slow") > 1.3 * cost(record, row, "asyncio")


@needs_load
def test_a_steady_load_is_the_same_for_all_and_bearable(comparison):
    _, record = comparison
    row = next(row for row in record["rows"] if row["name"] == STEADY_ROW)
    assert row["unit"] == "p99"
    asked = {
        sample["load_rate"] for samples in row["samples"].values() for sample in samples
    }
    assert len(asked) == 2  # one for each round
    for samples in row["samples"].values():
        for sample in samples:
            assert sample["operations"] <= sample["load_rate"] * sample["wall"] * 1.01
            assert sample["lost"] == 0


def test_a_steady_row_is_judged_by_its_rarest_latencies(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    results = pytest.importorskip("results")
    found = results.Results("ours")
    for loop, p99, cpu in (("ours", 100, 9), ("theirs", 300, 1)):
        sample = {"round": 0, "operations": 1, "cpu": cpu, "load_rate": 1000}
        found.add("row", loop, {**sample, "latency_us": {"p99": p99}})
    assert found.ratio("row", "theirs").middle == pytest.approx(3)


def test_what_differs_from_round_to_round_is_measured_again(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    found = pytest.importorskip("results").Results("ours", {"limit"})

    def add(row, **costs):
        number = len(found.of(row, "ours"))
        for loop, cpu in costs.items():
            found.add(row, loop, {"round": number, "operations": 1, "cpu": cpu})

    add("once", ours=1, theirs=2)
    assert found.is_unsure("once")
    for cpu in (2, 2.01, 1.99):
        add("even", ours=1, theirs=cpu, limit=cpu**9)
    assert not found.is_unsure("even")
    for cpu in (2, 2.5, 1.5):
        add("uneven", ours=1, theirs=cpu)
    assert found.is_unsure("uneven")
    for _ in range(6):
        add("uneven", ours=1, theirs=2)
    assert not found.is_unsure("uneven")


def test_a_pause_in_one_stretch_is_not_the_loops(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    sample = pytest.importorskip("sample")
    stretches = [
        {"operations": 5, "load_rate": 10, "latency_us": {"p99": p99}}
        for p99 in (100, 4000, 102, 101, 99)
    ]
    added = sample._add_up(stretches)
    assert added == {"operations": 25, "load_rate": 10, "latency_us": {"p99": 101}}


@needs_load
def test_bare_epoll_costs_less_than_any_loop(comparison):
    _, record = comparison
    assert cost(record, NETWORK_ROW, "c-epoll") < cost(record, NETWORK_ROW, "asyncio")


def test_a_broken_loop_does_not_stop_the_others(loops_path):
    loops = "asyncio,broken=bad_loops:BrokenLoop"
    done = run(
        *("--rows", "call_soon_chain", "--loops", loops, "--subject", "asyncio"),
        *("--rounds", 2, "--seconds", 0.02),
    )
    assert done.returncode == 0, done.stderr
    assert "call_soon_chain on broken" in done.stdout
    assert "this loop is broken" in done.stdout
    lines = done.stdout.splitlines()
    line = next(line for line in lines if line.startswith("call_soon_chain"))
    assert line.split("|")[2].strip() == "failed"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--rows", "no_such_row"], "no row matches 'no_such_row'"),
        (["--rounds", "0"], "--rounds must be at least 1"),
        (["--loops", "nosuch"], "unknown loop 'nosuch'"),
        (["--loops", "x=nowhere:loop"], "x cannot be used: ModuleNotFoundError"),
        (["--loops", "asyncio", "--subject", "other"], "the subject 'other'"),
        (["--loops", "c-epoll"], "no event loop to run"),
    ],
)
def test_a_wrong_argument_is_explained_in_one_line(arguments, complaint):
    done = run("--rows", "sleep_zero", *arguments)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_rows_are_selected_by_name_family_group_and_pattern():
    def selected(*arguments):
        done = run("--list", *arguments)
        assert done.returncode == 0, done.stderr
        return [
            line.lstrip("* ").split()[0]
            for line in done.stdout.split("\n\n")[0].splitlines()
        ]

    every = selected()
    assert len(every) == len(set(every)) > 50
    assert selected("--rows", "sleep_zero") == ["sleep_zero"]
    assert len(selected("--rows", "protocol_echo")) >= 16
    assert set(selected("--rows", "tasks")) >= {"sleep_zero", "gather_1000"}
    assert selected("--rows", "udp_echo/64B/*") == ["udp_echo/64B/100"]
    assert 0 < len(selected("--quick")) < len(every) / 2


@needs_load
def test_memory_and_counts_are_measured_as_what_they_are(tmp_path):
    out = tmp_path / "out.json"
    rows = "memory_timer,scale_timers/1000"
    done = run(
        *("--rows", rows, "--loops", "asyncio", "--rounds", 1),
        *("--seconds", 0.02, "--json", out),
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    timer, scale = record["rows"]
    assert timer["unit"] == "byte"
    (sample,) = timer["samples"]["asyncio"]
    assert 100 < sample["bytes"] / sample["operations"] < 1000
    assert scale["count"] == 1000
    line = next(line for line in done.stdout.splitlines() if "memory_timer" in line)
    assert " B " in line


TALKS = ["aiohttp_server/100", "websockets_echo/64B/100"]


@needs_load
@pytest.mark.parametrize("row", TALKS)
def test_a_server_that_does_not_echo_is_talked_to(row, tmp_path):
    out = tmp_path / "out.json"
    done = run(
        *("--rows", row, "--loops", "asyncio", "--rounds", 1),
        *("--seconds", 0.05, "--json", out),
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    if "needs" in done.stderr:
        missing(done.stderr)
    assert record["failures"] == []
    (sample,) = record["rows"][0]["samples"]["asyncio"]
    assert sample["operations"] >= 100
    assert sample["latency_us"]["p50"] > 0


def test_what_a_row_lacks_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    services = pytest.importorskip("services")
    monkeypatch.setattr(services, "POSTGRES_PLACES", "/nowhere/*")
    assert services.lacking("postgres") == ["initdb", "postgres"]
    assert services.lacking("") == []


@needs_load
def test_load_client_refuses_a_reply_that_differs(comparison):
    """`comparison` has built the client."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        peer, _ = listener.accept()
        with peer:
            while data := peer.recv(4096):
                peer.sendall(data[::-1])

    with listener:
        threading.Thread(target=serve).start()
        port = str(listener.getsockname()[1])
        done = subprocess.run(
            [str(BENCHMARKS / "build" / "load"), "--tcp", port, "--seconds", "0.1"],
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert done.returncode == 1
    assert "the reply differs from the message" in done.stderr


@needs_load
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_c_sources_compile_without_a_warning(compiler):
    if not shutil.which(compiler):
        missing(compiler)
    flags = "-std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -fsyntax-only".split()
    sources = sorted(map(str, (BENCHMARKS / "load").glob("*.c")))
    # For what the machine may lack, both ways: with the header and without.
    for header, source in (("uv.h", "libuv"), ("valgrind/callgrind.h", "count.c")):
        if not pathlib.Path("/usr/include", header).exists():
            sources = [name for name in sources if source not in name]
    if pathlib.Path("/usr/include/openssl/ssl.h").exists():
        compile_cleanly(compiler, *flags, "-DLOAD_TLS", *sources)
    compile_cleanly(compiler, *flags, *sources)


def compile_cleanly(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
