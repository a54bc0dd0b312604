"""What each row should reach against the best other loop, and why some don't.

A ratio is the best other loop's cost by asyncfast's. The report lists the rows that
stay below, and why that is so: found by shares.py, or by the servers in C.
"""

import fnmatch
from dataclasses import dataclass

KERNEL = "a server in C, which does nothing else, takes 70 to 95 % as much"
CONNECTING = "a server in C takes four fifths as much"
RECORDS = "a server in C, without Python, takes 89 % of the instructions"
LIBRARY = "most is the library's own Python"
LOCK = "two threads that hand over the interpreter's lock"
PROCESS = "the child's start and end, and Python of subprocess.Popen"
PAUSES = "the rarest latencies are the machine's own pauses: see the servers in C"


def own(share: int) -> str:
    """The reason of a row whose instructions shares.py has counted."""
    return f"{share} % of the instructions are asyncfast's, the rest is the interpreter"


@dataclass(frozen=True)
class Target:
    rows: str
    ratio: float
    why_not: str


TARGETS = [
    Target("call_soon_chain", 3.0, own(30)),
    Target("call_soon_batch", 2.2, own(33)),
    Target("call_later_create", 4.0, own(27)),
    Target("call_later_cancel", 8.0, own(39)),
    Target("call_later_fire", 3.5, own(29)),
    Target("reader_*", 1.5, own(35)),
    Target("sleep_zero", 2.5, own(10)),
    Target("create_task_await", 3.5, own(23)),
    Target("gather_1000", 2.2, own(6)),
    Target("future_ping_pong", 3.0, own(33)),
    Target("queue_ping_pong", 1.6, own(6)),
    Target("event_ping_pong", 1.7, own(13)),
    Target("lock_contended", 1.6, own(7)),
    Target("timeout_context", 1.8, own(4)),
    Target("wait_for", 1.8, own(15)),
    Target("protocol_echo/*/x16", 1.15, KERNEL),
    Target("protocol_echo/64B/10*", 1.12, KERNEL),
    Target("protocol_echo/1KiB/10*", 1.12, KERNEL),
    Target("protocol_echo/10*KiB/*", 1.10, KERNEL),
    Target("buffered_echo/10KiB/*", 1.3, KERNEL),
    Target("streams_echo/*", 1.35, own(10)),
    Target("sock_echo/*", 1.9, own(18)),
    Target("unix_echo/1KiB/*", 1.15, KERNEL),
    Target("unix_echo/100KiB/*", 1.08, KERNEL),
    Target("udp_echo/*/100", 1.3, KERNEL),
    Target("tls_echo/64B/*", 1.3, RECORDS),
    Target("tls_echo/1KiB/*", 1.3, RECORDS),
    Target("tls_echo/10KiB/*", 1.3, RECORDS),
    Target("connect_close/*", 1.3, CONNECTING),
    Target("executor_sequential", 4.0, LOCK),
    Target("executor_1000", 10.0, LOCK),
    Target("to_thread", 2.5, LOCK),
    Target("threadsafe_flood", 1.5, LOCK),
    Target("threadsafe_ping_pong", 1.3, LOCK),
    Target("subprocess_true", 1.2, PROCESS),
    Target("subprocess_pipes", 1.2, PROCESS),
    Target("loop_create_close", 1.5, "the system calls and asyncio's constructor"),
    Target("run_noop", 1.5, "asyncio's Python around the loop is most of it"),
    Target("aiohttp_server/*", 1.10, LIBRARY),
    Target("uvicorn_fastapi/*", 1.10, LIBRARY),
    Target("websockets_echo/*", 1.10, LIBRARY),
    Target("memory_connection", 1.0, "a connection keeps what asyncio's does"),
    Target("memory_timer", 1.0, "a timer keeps what asyncio's does, and its place"),
    Target("latency_*", 1.0, PAUSES),
]


def target_of(row: str) -> Target | None:
    """The target of the row of this name, if it has one."""
    return next((t for t in TARGETS if fnmatch.fnmatch(row, t.rows)), None)
