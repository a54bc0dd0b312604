"""Takes one sample of one row on one loop, in fresh processes."""

import json
import os
import sys
from dataclasses import dataclass

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


class SampleError(Exception):
    pass


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


def take(row: Row, loop: Loop | Limit, plan: Plan) -> dict:
    try:
        if isinstance(row, TimedRow):
            return _take_timed(row, loop, plan)
        return _take_served(row, loop, plan)
    except (ChildError, ServiceError, native.BuildError, talks.TalkError) as error:
        raise SampleError(str(error)) from error


def _worker(task: str, row: Row, loop: Loop, plan: Plan, **more) -> list[str]:
    job = {"row": row.name, "factory": loop.factory, **more}
    job |= {"gc": plan.gc, "heap": plan.heap}
    return [loop.python, WORKER, task, json.dumps(job)]


def _take_timed(row: TimedRow, loop: Loop, plan: Plan) -> dict:
    more = {"address": plan.services.address(row.service)} if row.service else {}
    command = _worker("time", row, loop, plan, seconds=plan.seconds, **more)
    cpu = None if row.spread else plan.server_cpu
    longest = ONCE_SECONDS if row.once else 20 * plan.seconds
    with Child(command, cpu) as child:
        return child.answer(SETUP_SECONDS + longest)


def _take_served(row: ServerRow, loop: Loop | Limit, plan: Plan) -> dict:
    path = os.path.join(plan.scratch, "socket")
    if os.path.exists(path):
        os.unlink(path)
    with Child(_server(row, loop, plan, path), plan.server_cpu) as server:
        port = server.answer(SETUP_SECONDS)["port"]
        client, command = _client(row, port, path, plan)
        if row.talk:
            command += talks.options(row.talk(row.load), port, plan.scratch)
        with Child(command, plan.client_cpu) as load:
            spent, result = _measure(server, load, plan)
    return {
        "operations": result["messages"],
        **spent,
        "wall": result["seconds"],
        "latency_us": result["latency_us"],
        "lost": result["lost"],
        "client": client,
        "client_busy": result["client_cpu_seconds"] / result["seconds"],
    }


def _measure(server: Child, load: Child, plan: Plan) -> tuple[dict, dict]:
    """Read the server's clock while nothing is in flight: after the warm-up, and
    again when the last reply has arrived."""
    load.answer(SETUP_SECONDS + plan.warmup)
    before = server.ask()
    result = load.ask(SETUP_SECONDS + plan.load_seconds)
    after = server.ask()
    if not result["messages"]:
        raise SampleError("not one message was answered")
    return difference(before, after), result


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
    options += ["--warmup", str(plan.warmup), "--seconds", str(plan.load_seconds)]
    if row.short_lived:
        options.append("--connect")
    if not row.tls:
        return "c", [native.tool("load"), *options]
    if native.available("load-tls"):
        return "c", [native.tool("load-tls"), "--tls", *options]
    return "python", [sys.executable, PYTHON_CLIENT, "--tls", *options]
