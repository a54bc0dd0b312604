"""The event loops that can be compared, and which of them are installed."""

import json
import subprocess
from dataclasses import dataclass, replace

import services
from registry import HERE, Row, ServerRow

WORKER = str(HERE / "worker.py")

KNOWN = {
    "asyncio": "asyncio:SelectorEventLoop",
    "uvloop": "uvloop:new_event_loop",
    "rloop": "rloop:new_event_loop",
    "rsloop": "rsloop:new_event_loop",
    "zuvloop": "zuvloop:new_event_loop",
    "asyncfast": "asyncfast:new_event_loop",
}


class LoopError(Exception):
    pass


@dataclass(frozen=True)
class Loop:
    """A Python event loop: `factory` is "module:callable"."""

    name: str
    factory: str
    python: str
    version: str = ""
    python_version: tuple[int, ...] = ()
    modules: frozenset[str] = frozenset()
    is_limit = False

    def serves(self, row: Row) -> bool:
        return row.since <= self.python_version and not self.lacks(row)

    def lacks(self, row: Row) -> list[str]:
        """What the row needs and is not installed."""
        wanted = [name for name in row.needs if name not in self.modules]
        return wanted + services.lacking(row.service)


@dataclass(frozen=True)
class Limit:
    """A server in C: no event loop for Python can cost less."""

    name: str
    program: str
    transports: tuple[str, ...]
    is_limit = True

    def serves(self, row: Row) -> bool:
        fits = isinstance(row, ServerRow) and not row.tls and not row.talk
        return fits and row.transport in self.transports


LIMITS = {
    "c-epoll": Limit("c-epoll", "echo_epoll", ("tcp", "unix", "udp")),
    "c-libuv": Limit("c-libuv", "echo_libuv", ("tcp", "unix")),
}


def parse(text: str, python: str) -> Loop | Limit:
    """Read NAME, or NAME=MODULE:CALLABLE[@PYTHON] for any other loop or build."""
    name, _, rest = text.partition("=")
    if rest:
        factory, _, other = rest.partition("@")
        return _checked(Loop(name, factory, other or python))
    if name in LIMITS:
        return LIMITS[name]
    if name not in KNOWN:
        raise LoopError(f"unknown loop {name!r}; known: {', '.join(KNOWN)}")
    return _checked(Loop(name, KNOWN[name], python))


def installed(python: str) -> tuple[list[Loop | Limit], dict[str, str]]:
    """The C limits and every known loop that this interpreter can make; and for
    each other loop the reason why not."""
    found: list[Loop | Limit] = list(LIMITS.values())
    missing = {}
    for name in KNOWN:
        try:
            found.append(parse(name, python))
        except LoopError as error:
            missing[name] = str(error)
    return found, missing


def probe(loop: Loop) -> dict:
    """Make the loop in its interpreter and tell the versions."""
    command = [loop.python, WORKER, "probe", json.dumps({"factory": loop.factory})]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except OSError as error:
        raise LoopError(f"{loop.python}: {error.strerror}") from error
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise LoopError(f"{loop.name} cannot be used: {reason}")
    return json.loads(done.stdout)


def _checked(loop: Loop) -> Loop:
    facts = probe(loop)
    return replace(
        loop,
        version=facts["version"],
        python_version=tuple(facts["python_version"]),
        modules=frozenset(facts["modules"]),
    )
