"""Every program in examples/ runs, says what it should, and leaves nothing behind."""

from __future__ import annotations

import ast
import importlib.util
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import asyncfast

ROOT = Path(__file__).resolve().parent.parent
NAMES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))
NEEDS = {
    "sqlite_tickets": "aiosqlite",
    "web_scraper": "aiohttp",
    "websocket_broadcast": "websockets",
}
# Generous: an example takes less than a second, but not under a sanitizer on a busy
# machine.
TIMEOUT = 60

# Where asyncfast is asyncio, the expectations hold it to what asyncio itself does.
STAND_IN = "import asyncio\n\nrun = asyncio.run\n"

EXPECTED = {
    "as_completed": """\
1 of 4: Rue des Livres asks 14.00, best so far: Rue des Livres
2 of 4: Harbour Books asks 12.50, best so far: Harbour Books
3 of 4: Marlowe & Sons asks 11.20, best so far: Marlowe & Sons
4 of 4: Second Chapter asks 12.90, best so far: Marlowe & Sons
""",
    "async_context_managers": """\
  committed
after 300: {'savings': 200, 'rent': 300}
  rolled back
cannot transfer 400: {'savings': 200, 'rent': 300}
  primary connected
  replica-1 connected
  replica-2 connected
3 open, the last is the connection to replica-2
  replica-2 disconnected
  replica-1 disconnected
  primary disconnected
""",
    "async_generators": """\
two readings above 7:
  page 0 fetched
  page 1 fetched
  connection given back
[8, 12], and the rest was never fetched
frost:
  page 0 fetched
  page 1 fetched
  page 2 fetched
  page 3 fetched
  page 4 fetched
  connection given back
[-3, -1]
""",
    "echo_server": """\
Alba: good morning | Alba: is this thing on?
Bruno: ahoy
Chiara: one | Chiara: two | Chiara: three
server still open: False
""",
    "gather": """\
all of them answer:
  Nairobi answers
  Lima answers
  Oslo answers
Oslo: 4.5 degrees
Nairobi: 23.0 degrees
Lima: 18.5 degrees
one of them fails:
  Lima answers
  Oslo answers
Oslo: 4.5 degrees
Atlantis: unknown (no weather station in Atlantis)
Lima: 18.5 degrees
""",
    "graceful_shutdown": """\
tea: begun
soup: begun
roast: begun
tea: served
SIGTERM received, closing
coffee: refused, the kitchen is closing
soup: served
roast: not done in time, kept for tomorrow
closed in good order
""",
    "process_pool": """\
     0 to  5,000: 669 primes
 5,000 to 10,000: 560 primes
10,000 to 15,000: 525 primes
15,000 to 20,000: 508 primes
2262 in all
counted in this process: False
""",
    "queue_workers": """\
4001: packed 1 x kettle
4002: packed 2 x tea, 1 kg
4003: packed 6 x cup
4005: packed 1 x tray
4006: packed 1 x kettle
4007: packed 2 x tea, 1 kg
4008: packed 6 x cup
4010: packed 1 x tray
4004: refused, spoon: nothing to pack
4009: refused, spoon: nothing to pack
at most 4 orders were waiting
""",
    "retry_backoff": """\
account 4711:
  attempt 1: connection refused; again in 15 ms
  attempt 2: connection refused; again in 35 ms
  balance 1250
account 4712:
  attempt 1: connection refused; again in 13 ms
  attempt 2: connection refused; again in 38 ms
  attempt 3: connection refused; again in 56 ms
  given up: connection refused
account 12-34:
  given up: '12-34' is no account number
""",
    "semaphore": """\
no limit: 12 photos up to holiday-12-small.jpg, at most 12 at once
limit of 3: 12 photos up to holiday-12-small.jpg, at most 3 at once
""",
    "sqlite_tickets": """\
Fado night: sold to Rosa, Tomas
String quartet: not enough seats for Uma, Viktor, Wanda
Fado night: 2 sold, 1 left
String quartet: 0 sold, 2 left
""",
    "task_group": """\
  Hotel Alfama: booked
  flight TP941: booked
Lisbon: flight TP941 confirmed, Hotel Alfama confirmed
  flight TP1945: reservation released
Porto: off, because Hotel Ribeira is fully booked
""",
    "thread_pool": """\
contract.pdf: 1354f8c3a921
minutes.pdf: cfc3ae98ec66
scan.tiff: 9eb42310eb97
lost.txt: FileNotFoundError
1,214,000 bytes read, progress reported 20 times
""",
    "timeout": """\
corner shop: 19.90
  mail order: request cancelled, connection closed
mail order: 21.50, as of yesterday
payment: no answer yet, cancelled: False
payment: paid, receipt 2024-117
""",
    "to_thread": """\
ines: welcome
jonas: refused, wrong password
mallory: refused, nobody is called mallory
request 1: checking the password of ines
request 2: checking the password of jonas
request 3: checking the password of mallory
""",
    "token_bucket": """\
20 messages sent, in order: True
never more than 10 in 0.1 s: True
not done in less than 0.3 s: True
""",
    "wait": """\
race: archive from Frankfurt, 2 slower ones stopped
migration: customers moved, then invoices: row 118 has no customer
migration: payments not moved
survey: Ana and Chidi replied, 1 did not
""",
    "websocket_broadcast": """\
Dora heard: * Dora is here | * Emil is here | Emil: hello, is somebody in? \
| Dora: I am | * Emil has left
Emil heard: * Emil is here | Emil: hello, is somebody in? | Dora: I am
""",
}

if sys.version_info < (3, 11):
    VERSION = ".".join(map(str, sys.version_info[:3]))
    EXPECTED["task_group"] = f"TaskGroup needs Python 3.11; this is {VERSION}.\n"

# The scraper says how fast it was, which no text can foretell: see its own tests.
SIMPLE = [name for name in NAMES if name != "web_scraper"]

SCRAPED = re.compile(
    r"""60\ pages,\ 10\ at\ a\ time;\ median\ of\ 2\ rounds\ on\ each\ loop;
        \ Python\ \d+\.\d+\.\d+\S*,\ \d+\ CPUs\n
        \n
        loop\ +pages/s\ +slowest\ +fastest\n
        asyncio(\ +[\d,]+){3}\n
        asyncfast(\ +[\d,]+){3}\ +\d+\.\d\d\ times\ asyncio\n
        \n
        found\ in\ a\ round:\ 60\ books,\ 119\ links,\ \$1,287\.70\ for\ all\ books\n
        tried\ again\ after\ a\ busy\ server:\ 2\n
        the\ same\ books\ in\ every\ round:\ yes\n""",
    re.VERBOSE,
)


def require(name: str) -> None:
    """Skip an example whose library is missing; where all must run, fail."""
    library = NEEDS.get(name)
    if library is None or importlib.util.find_spec(library) is not None:
        return
    reason = f"examples/{name}.py needs {library}, which is not installed"
    if os.environ.get("ASYNCFAST_CI") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def command(name: str, *options: str) -> list[str]:
    # A forgotten socket or transport must show, and it shows on stderr.
    strict = ["-W", "always::ResourceWarning"]
    return [sys.executable, *strict, str(ROOT / "examples" / f"{name}.py"), *options]


def environment(first: Path | None = None) -> dict[str, str]:
    """The environment in which an example imports the asyncfast tested here."""
    tested = Path(asyncfast.__file__).resolve().parent.parent
    paths = [str(path) for path in (first, tested) if path is not None]
    inherited = os.environ.get("PYTHONPATH")
    if inherited:
        paths.append(inherited)
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONIOENCODING": "utf-8",
    }


def run(
    name: str, *options: str, first: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(name, *options),
        env=environment(first),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT,
    )


def text_of(name: str) -> str:
    return (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")


def test_each_example_has_an_expectation() -> None:
    assert set(SIMPLE) == set(EXPECTED)


@pytest.mark.parametrize("name", SIMPLE)
def test_prints_on_asyncfast(name: str) -> None:
    require(name)
    result = run(name)
    assert (result.stdout, result.stderr) == (EXPECTED[name], "")
    assert result.returncode == 0


@pytest.mark.parametrize("name", SIMPLE)
def test_prints_the_same_on_asyncio(name: str, tmp_path: Path) -> None:
    require(name)
    (tmp_path / "asyncfast.py").write_text(STAND_IN)
    result = run(name, first=tmp_path)
    assert (result.stdout, result.stderr) == (EXPECTED[name], "")
    assert result.returncode == 0


@pytest.mark.parametrize("name", NAMES)
def test_is_explained_and_listed(name: str) -> None:
    doc = ast.get_docstring(ast.parse(text_of(name))) or ""
    assert "\nTeaches " in doc
    assert "\nPrints " in doc
    assert f"    python examples/{name}.py" in doc
    page = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    assert f"examples/{name}.py" in page


@pytest.mark.parametrize("name", SIMPLE)
def test_one_line_chooses_the_loop(name: str) -> None:
    text = text_of(name)
    assert text.endswith('\n\nif __name__ == "__main__":\n    asyncfast.run(main())\n')
    assert text.count("asyncfast.run") == 1
    assert "asyncio.run" not in text


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_says_which_library_is_missing(name: str, tmp_path: Path) -> None:
    library = NEEDS[name]
    (tmp_path / f"{library}.py").write_text("raise ImportError('not here')\n")
    result = run(name, first=tmp_path)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"{name}.py needs {library}")
    assert f": python -m pip install {library} (" in result.stderr
    assert "Traceback" not in result.stderr


def test_scraper_compares_the_loops() -> None:
    require("web_scraper")
    result = run("web_scraper", "--pages=60", "--concurrency=10", "--rounds=2")
    assert result.stderr == ""
    assert SCRAPED.fullmatch(result.stdout), result.stdout
    assert result.returncode == 0


def test_scraper_measures_one_loop_alone() -> None:
    require("web_scraper")
    result = run("web_scraper", "--pages=7", "--rounds=1", "--loops=asyncfast")
    assert result.stderr == ""
    assert "found in a round: 7 books, 13 links," in result.stdout
    assert "times" not in result.stdout
    assert result.returncode == 0


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("--loops=asyncio,turbo", "no loop 'turbo', only asyncio and asyncfast"),
        ("--pages=0", "must be 1 or more"),
        ("--rounds=few", "invalid positive value: 'few'"),
    ],
)
def test_scraper_refuses_bad_options(option: str, complaint: str) -> None:
    require("web_scraper")
    result = run("web_scraper", option)
    assert result.returncode == 2
    assert complaint in result.stderr


def test_scraper_never_measures_under_a_false_name(tmp_path: Path) -> None:
    require("web_scraper")
    (tmp_path / "asyncfast.py").write_text(STAND_IN)
    result = run("web_scraper", "--pages=7", "--rounds=1", first=tmp_path)
    assert result.returncode == 1
    complaint = "asyncfast cannot be measured: its run() starts a loop of asyncio"
    assert complaint in result.stderr


def test_scraper_draws_its_bar_on_a_terminal() -> None:
    require("web_scraper")
    terminal, stderr = pty.openpty()
    try:
        subprocess.run(
            command("web_scraper", "--pages=20", "--rounds=1", "--loops=asyncfast"),
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            timeout=TIMEOUT,
            check=True,
        )
        drawn = os.read(terminal, 65536).decode()
    finally:
        os.close(terminal)
        os.close(stderr)
    assert f"[{'-' * 40}] 0/20 pages, round 1 of 1 on asyncfast" in drawn
    assert f"[{'#' * 20}{'-' * 20}] 10/20 pages" in drawn
    assert f"[{'#' * 40}] 20/20 pages" in drawn
    assert drawn.endswith("\r\x1b[K")


def read_terminal(terminal: int, until: str | None) -> str:
    """What is drawn up to that text, or else up to the end."""
    drawn = ""
    while until is None or until not in drawn:
        try:
            new = os.read(terminal, 65536)
        except OSError:
            # Linux's way to say that nobody has the other side open any more.
            new = b""
        if not new:
            assert until is None, drawn
            break
        drawn += new.decode()
    return drawn


def test_scraper_leaves_no_server_after_ctrl_c() -> None:
    require("web_scraper")
    terminal, stderr = pty.openpty()
    with subprocess.Popen(
        command("web_scraper", "--pages=100", "--rounds=1000"),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=stderr,
    ) as scraper:
        os.close(stderr)
        try:
            drawn = read_terminal(terminal, until="round 2 of")
            scraper.send_signal(signal.SIGINT)
            # The servers share this terminal: it ends when the last of them has.
            drawn += read_terminal(terminal, until=None)
        finally:
            scraper.kill()
            os.close(terminal)
    assert "Traceback" not in drawn
    assert scraper.returncode == -signal.SIGINT
