"""The rows of the benchmark: what is measured, and under which load.

Every file named rows_*.py beside this one is a group; every function in it that
carries @timed or @served is a row, or one row for each of its loads.
"""

import fnmatch
import importlib
import pathlib
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

HERE = pathlib.Path(__file__).parent

# From here on a sample takes seconds, and the first stretch warms nothing up.
LARGE_COUNT = 100_000
LARGE_ROUNDS = 2

_rows: dict[str, "Row"] = {}


@dataclass(frozen=True)
class Load:
    """What the load client does to a server; a size of 0 where a talk has its own."""

    size: int = 1024
    connections: int = 100
    depth: int = 1
    quick: bool = False

    @property
    def label(self) -> str:
        deep = f"/x{self.depth}" if self.depth > 1 else ""
        size = f"{size_label(self.size)}/" if self.size else ""
        return f"{size}{self.connections}{deep}"


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    run: Callable
    unit: str = "operation"
    quick: bool = False
    since: tuple[int, int] = (3, 10)
    needs: tuple[str, ...] = ()
    service: str = ""
    rounds: int | None = None
    count: int | None = None

    @property
    def group(self) -> str:
        return self.run.__module__.removeprefix("rows_")

    def matches(self, pattern: str) -> bool:
        wanted = (self.name, self.name.split("/")[0], self.group)
        return any(fnmatch.fnmatch(name, pattern) for name in wanted)


@dataclass(frozen=True)
class TimedRow(Row):
    """Work that the measured process does by itself, `operations` times."""

    batch: int = 1
    limit: int = 10_000_000
    exact: bool = False
    makes_loops: bool = False
    memory: bool = False
    once: bool = False
    longer: int = 1


@dataclass(frozen=True)
class ServerRow(Row):
    """A server in the measured process, under load from the C client."""

    transport: str = "tcp"
    tls: bool = False
    short_lived: bool = False
    steady: bool = False
    talk: Callable | None = None
    load: Load = Load()


def timed(title: str, **options) -> Callable:
    """Make a row of `run(loop, operations)`; see README.md for the three forms.

    batch: operations come in multiples of this.  limit: never more at once.
    exact: what it does depends on no clock, so its instructions can be counted.
    makes_loops: the row gets a function that makes loops in place of a loop.
    longer: its samples take this many times as long, for most of it is waiting.
    needs: modules.  service: the row gets the address of this one; see services.py.
    """

    def register(run: Callable) -> Callable:
        _add(TimedRow(run.__name__, title, run, **options))
        return run

    return register


def sized(title: str, count: int, **options) -> Callable:
    """Make a row of the memory that `count` of something take, between the two
    points where the generator `run(loop, count)` yields."""
    fixed = {"batch": count, "limit": count, "once": True, "memory": True}
    return timed(title, unit="byte", **fixed, **options)


def scaled(title: str, counts: Iterable[int], **options) -> Callable:
    """Make a row for each of these counts of `run(loop, operations, count)`: how an
    operation's cost grows with how many there are of something."""

    def register(run: Callable) -> Callable:
        for count in counts:
            fixed = {"batch": count, "count": count, **options}
            if count >= LARGE_COUNT:
                fixed |= {"limit": count, "once": True, "rounds": LARGE_ROUNDS}
            _add(TimedRow(f"{run.__name__}/{count}", title, run, **fixed))
        return run

    return register


def served(title: str, loads: Iterable[Load], **options) -> Callable:
    """Make a row for each load of `async run(loop, sock)`, which starts a server.

    talk: what is said to it, as talks.py has it; by default the message is echoed.
    steady: judged by its latency under a load that every loop can bear.
    """

    def register(run: Callable) -> Callable:
        unit = "p99" if options.get("steady") else "message"
        base = ServerRow(run.__name__, title, run, unit=unit, **options)
        for load in loads:
            name = f"{base.name}/{load.label}"
            _add(replace(base, name=name, load=load, quick=load.quick))
        return run

    return register


def size_label(size: int) -> str:
    return f"{size // 1024}KiB" if size >= 1024 else f"{size}B"


def rows() -> dict[str, Row]:
    """Every row, by name, in the order of the files."""
    if str(HERE) not in sys.path:
        sys.path.insert(0, str(HERE))
    for path in sorted(HERE.glob("rows_*.py")):
        importlib.import_module(path.stem)
    return _rows


def select(patterns: Iterable[str], quick: bool) -> list[Row]:
    """The rows that match; without patterns all of them, or the quick ones."""
    every = list(rows().values())
    patterns = list(patterns)
    for pattern in patterns:
        if not any(row.matches(pattern) for row in every):
            raise ValueError(f"no row matches {pattern!r}; see --list")
    if not patterns:
        return [row for row in every if row.quick or not quick]
    return [row for row in every if any(map(row.matches, patterns))]


def _add(row: Row) -> None:
    if row.name in _rows:
        raise ValueError(f"two rows are named {row.name!r}")
    _rows[row.name] = row
