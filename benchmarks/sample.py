"""Takes one sample of one row on each of several loops, in fresh processes.

The processes of a row live side by side and do their work in short stretches, in
turns: what else the machine does meets them all alike. A sample is the sum of one
loop's stretches.
"""

import contextlib
import json
import os
import sys
from dataclasses import dataclass
from statistics import median

import native
import talks
from child import Child, ChildError
from loops import WORKER, Limit, Loop
from registry import HERE, Row, ServerRow, TimedRow
from services import ServiceError, Services
from usage import difference

PYTHON_CLIENT = str(HERE / "load" / "python_client.py")
SETUP_SECONDS = 30
# A row of a million tasks is one stretch of whatever length.
ONCE_SECONDS = 300
STRETCHES = 8
LEVELS = ("max_rss_kib", "latency_us", "load_rate")
# A steady load: this share of what the slowest loop can do, as these stretches show.
STEADY_SHARE = 0.7
TRIAL_STRETCHES = 2
STEADY_STRETCHES = 20


class SampleError(Exception):
    pass


ERRORS = (ChildError, ServiceError, native.BuildError, talks.TalkError, SampleError)


@dataclass(frozen=True)
class Plan:
    """How long, and where: the same for every sample of a run."""

    scratch: str
    seconds: float = 0.4
    load_seconds: float = 0.8
    warmup: float = 0.25
    server_cpu: int | None = None
    client_cpu: int | None = None
    gc: bool = True
    heap: str = "used"
    services: Services | None = None


def take(row: Row, loops: list[Loop | Limit], plan: Plan) -> dict:
    """The sample of each loop's name, or the SampleError instead."""
    if isinstance(row, TimedRow) and row.once:
        # There are no turns to take, and the memory is better had alone.
        return {loop.name: _take_turns(row, [loop], plan)[loop.name] for loop in loops}
    return _take_turns(row, loops, plan)


def _take_turns(row: Row, loops: list[Loop | Limit], plan: Plan) -> dict:
    found = {loop.name: [] for loop in loops}
    failed = {}
    with contextlib.ExitStack() as stack:
        waiting = {}
        for loop in loops:
            with _noted(loop.name, failed):
                waiting[loop.name] = _start(row, loop, plan, stack)
        if isinstance(row, ServerRow) and row.steady:
            _steady(waiting, failed)
        for turn in range(STRETCHES):
            for name in in_turn(list(waiting), turn):
                if name not in failed and turn < waiting[name].stretches:
                    with _noted(name, failed):
                        found[name].append(waiting[name].stretch())
    return {name: failed.get(name) or _add_up(found[name]) for name in found}


def in_turn(things: list, turn: int) -> list:
    """All of them, each turn another one first."""
    first = turn % max(len(things), 1)
    return things[first:] + things[:first]


def _steady(servers: dict, failed: dict):
    """Have all of them loaded at one rate, which the slowest can bear."""
    rates = {}
    for _ in range(TRIAL_STRETCHES):
        for name, server in servers.items():
            if name in failed:
                continue
            with _noted(name, failed):
                trial = server.stretch()
                rate = trial["operations"] / trial["wall"]
                rates[name] = max(rate, rates.get(name, 0))
    for server in servers.values():
        server.rate = STEADY_SHARE * min(rates.values(), default=0)


@contextlib.contextmanager
def _noted(name: str, failed: dict):
    try:
        yield
    except ERRORS as error:
        failed[name] = SampleError(str(error))


def _start(row: Row, loop: Loop | Limit, plan: Plan, stack: contextlib.ExitStack):
    if isinstance(row, TimedRow):
        return _Timed(row, loop, plan, stack)
    return _Served(row, loop, plan, stack)


def _add_up(stretches: list[dict]) -> dict:
    """Levels are as they were in the end."""
    last = stretches[-1]
    fixed = [name for name in last if name in LEVELS or isinstance(last[name], str)]
    total = {
        name: sum(stretch[name] for stretch in stretches)
        for name in last
        if name not in fixed
    }
    total |= {name: last[name] for name in fixed}
    if "load_rate" in total:
        total["latency_us"] = _middle([stretch["latency_us"] for stretch in stretches])
    if "client_cpu" in total:
        total["client_busy"] = total.pop("client_cpu") / total["wall"]
    return total


def _middle(latencies: list[dict]) -> dict:
    """The median of each figure: a pause of the machine is in one stretch or two."""
    return {name: median(one[name] for one in latencies) for name in latencies[0]}


def _worker(task: str, row: Row, loop: Loop, plan: Plan, **more) -> list[str]:
    job = {"row": row.name, "factory": loop.factory, **more}
    job |= {"gc": plan.gc, "heap": plan.heap}
    return [loop.python, WORKER, task, json.dumps(job)]


class _Timed:
    """The process of one loop that does a timed row, warmed up."""

    def __init__(self, row, loop, plan, stack):
        more = {"address": plan.services.address(row.service)} if row.service else {}
        seconds = plan.seconds * row.longer
        more |= {"seconds": seconds, "stretches": 1 if row.once else STRETCHES}
        command = _worker("time", row, loop, plan, **more)
        self._longest = ONCE_SECONDS if row.once else 20 * seconds
        self._child = stack.enter_context(Child(command, plan.server_cpu))
        self.stretches = self._child.answer(SETUP_SECONDS + self._longest)["stretches"]

    def stretch(self) -> dict:
        return self._child.ask(SETUP_SECONDS + self._longest)


class _Served:
    """A server, and a client that has warmed it up."""

    rate = 0.0

    def __init__(self, row, loop, plan, stack):
        self.stretches = STEADY_STRETCHES if row.steady else STRETCHES
        path = os.path.join(plan.scratch, f"socket-{loop.name}")
        if os.path.exists(path):
            os.unlink(path)
        server = Child(_server(row, loop, plan, path), plan.server_cpu)
        self._server = stack.enter_context(server)
        port = server.answer(SETUP_SECONDS)["port"]
        self._kind, command = _client(row, port, path, plan)
        if row.talk:
            command += talks.options(row.talk(row.load), port, plan.scratch)
        self._load = stack.enter_context(Child(command, plan.client_cpu))
        self._load.answer(SETUP_SECONDS + plan.warmup)
        self._longest = SETUP_SECONDS + plan.load_seconds

    def stretch(self) -> dict:
        """Read the server's clock while nothing is in flight."""
        before = self._server.ask()
        words = f"{self.rate:.1f}" if self.rate else ""
        result = self._load.ask(self._longest, words)
        after = self._server.ask()
        if not result["messages"]:
            raise SampleError("not one message was answered")
        steady = {"load_rate": self.rate} if self.rate else {}
        return {
            **steady,
            "operations": result["messages"],
            **difference(before, after),
            "wall": result["seconds"],
            "latency_us": result["latency_us"],
            "lost": result["lost"],
            "client": self._kind,
            "client_cpu": result["client_cpu_seconds"],
        }


def _server(row: ServerRow, loop: Loop | Limit, plan: Plan, path: str) -> list[str]:
    if isinstance(loop, Limit):
        local = [path] if row.transport == "unix" else []
        return [native.tool(loop.program), row.transport, *local]
    more = {"transport": row.transport, "path": path}
    if row.tls:
        more["certificate"], more["key"] = native.certificate(plan.scratch)
    return _worker("serve", row, loop, plan, **more)


def _client(row: ServerRow, port: int, path: str, plan: Plan) -> tuple[str, list[str]]:
    """Which client it is, and its command."""
    where = path if row.transport == "unix" else str(port)
    options = [f"--{row.transport}", where]
    options += ["--connections", str(row.load.connections)]
    options += ["--depth", str(row.load.depth)]
    if row.load.size:
        options += ["--size", str(row.load.size)]
    options += ["--warmup", str(plan.warmup)]
    options += ["--seconds", str(plan.load_seconds / STRETCHES)]
    if row.short_lived:
        options.append("--connect")
    if not row.tls:
        return "c", [native.tool("load"), *options]
    if native.available("load-tls"):
        return "c", [native.tool("load-tls"), "--tls", *options]
    return "python", [sys.executable, PYTHON_CLIENT, "--tls", *options]
