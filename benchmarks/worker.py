"""The measured process: makes one loop, does one row, reports in JSON.

worker.py probe JSON    make the loop and tell the versions
worker.py time JSON     warm a timed row up; do a stretch of it for each line on
                        standard input, and tell what that used
worker.py count JSON    the same under callgrind, whose files tell what it took
worker.py serve JSON    run a row's server; answer each line on standard input
                        with what has been used so far, and end with the input
"""

import asyncio
import ctypes
import functools
import gc
import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import os
import platform
import socket
import ssl
import sys
import threading
import warnings

import registry
import usage

BACKLOG = 1024
DATAGRAM_BUFFER = 4 << 20
LARGE_BLOCK = 1 << 20


def factory(text):
    module, _, attribute = text.partition(":")
    return getattr(importlib.import_module(module), attribute)


def version_of(module):
    if module in sys.stdlib_module_names:
        return platform.python_version()
    try:
        return importlib.metadata.version(module)
    except importlib.metadata.PackageNotFoundError:
        return getattr(importlib.import_module(module), "__version__", "")


def needed():
    """The modules that some row needs."""
    return sorted({name for row in registry.rows().values() for name in row.needs})


def probe(job):
    factory(job["factory"])().close()
    return {
        "version": version_of(job["factory"].partition(":")[0]),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "python_version": sys.version_info[:3],
        "openssl": ssl.OPENSSL_VERSION,
        "modules": [name for name in needed() if importlib.util.find_spec(name)],
        "gc": {"enabled": gc.isenabled(), "threshold": gc.get_threshold()},
    }


class Clock:
    """Measures by the clocks of the process."""

    def begin(self):
        self._before = usage.snapshot()

    def end(self):
        return usage.difference(self._before, usage.snapshot())


class Memory:
    """Measures by how much the resident size grows."""

    def begin(self):
        gc.collect()
        self._clock = Clock()
        self._clock.begin()
        self._before = usage.resident_bytes()

    def end(self):
        grown = usage.resident_bytes() - self._before
        return {**self._clock.end(), "bytes": max(grown, 0)}


class Counter:
    """Has callgrind write a file with what happened in between."""

    def __init__(self, library):
        self._library = ctypes.CDLL(library)

    def begin(self):
        self._library.count_begin()

    def end(self):
        self._library.count_end()


def measured(run, loop, operations, meter):
    """Run the row; return what the meter found in its measured part."""
    if inspect.isgeneratorfunction(run):
        return measured_steps(run(operations), meter)
    meter.begin()
    if inspect.iscoroutinefunction(run):
        loop.run_until_complete(run(operations))
    else:
        run(operations)
    return meter.end()


def measured_steps(steps, meter):
    """A generator row yields twice: where the measured part begins and ends."""
    next(steps)
    meter.begin()
    next(steps)
    found = meter.end()
    next(steps, None)
    return found


def operations_for(row, run, loop, seconds):
    """How many operations take about this long; finding out is the warm-up."""
    if row.once:
        return row.limit
    operations = row.batch
    measured(run, loop, operations, Clock())
    while True:
        # Without what goes before and after, as it is when it counts.
        took = measured(run, loop, operations, Clock())["wall"]
        if took >= seconds / 8 or operations * 4 > row.limit:
            break
        operations *= 4
    wanted = min(operations * seconds / took, row.limit)
    return max(int(wanted // row.batch), 1) * row.batch


def give_up(loop, context):
    """A row whose callback failed would wait for ever, or measure something else."""
    print(f"{context['message']}: {context.get('exception')!r}", file=sys.stderr)
    sys.stderr.flush()
    os._exit(1)


def prepared(row, job):
    """The row's function, but for the number of operations, and its loop."""
    new_loop = factory(job["factory"])
    loop = new_loop()
    loop.set_exception_handler(give_up)
    asyncio.set_event_loop(loop)
    more = {"count": row.count} if row.count else {}
    if row.service:
        more["address"] = job["address"]
    target = new_loop if row.makes_loops else loop
    return functools.partial(row.run, target, **more), loop


def time_row(job):
    row = registry.rows()[job["row"]]
    run, loop = prepared(row, job)
    operations = operations_for(row, run, loop, job["seconds"])
    each = max(operations // job["stretches"] // row.batch, 1) * row.batch
    gc.collect()
    meter = Memory() if row.memory else Clock()
    say({"stretches": operations // each})
    while os.read(0, 16):
        say({"operations": each, **measured(run, loop, each, meter)})
    loop.close()
    return {}


def count_row(job):
    """The first stretch is the warm-up; instructions.py reads the others' files."""
    row = registry.rows()[job["row"]]
    run, loop = prepared(row, job)
    measured(run, loop, job["stretches"][0], Clock())
    gc.collect()
    for operations in job["stretches"]:
        measured(run, loop, operations, Counter(job["library"]))
    loop.close()
    return {}


def bound_socket(job):
    """The same socket for every loop, so that none gains by its options."""
    transport = job["transport"]
    family = socket.AF_UNIX if transport == "unix" else socket.AF_INET
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    sock = socket.socket(family, kind)
    sock.setblocking(False)
    sock.bind(job["path"] if transport == "unix" else ("127.0.0.1", 0))
    if transport == "udp":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, DATAGRAM_BUFFER)
    else:
        sock.listen(BACKLOG)
    return sock


def server_context(job):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(job["certificate"], job["key"])
    return context


def say(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def answer_control():
    """Answer the harness from a thread of its own: any loop can be asked this way,
    and a thread that waits for input costs the loop nothing."""
    while os.read(0, 16):
        say(usage.snapshot())
    os._exit(0)


def serve_row(job):
    row = registry.rows()[job["row"]]
    usage.raise_descriptor_limit()
    loop = factory(job["factory"])()
    asyncio.set_event_loop(loop)
    sock = bound_socket(job)
    port = 0 if job["transport"] == "unix" else sock.getsockname()[1]
    extra = [server_context(job)] if row.tls else []
    # Held for as long as the loop runs: a server that nobody holds may be collected.
    server = loop.run_until_complete(row.run(loop, sock, *extra))
    gc.collect()
    threading.Thread(target=answer_control, daemon=True).start()
    say({"port": port})
    loop.run_forever()
    return {"stopped": repr(server)}


TASKS = {"probe": probe, "time": time_row, "count": count_row, "serve": serve_row}


def prepare(job):
    # A warning printed in the measured part would be measured.
    warnings.simplefilter("ignore")
    if not job.get("gc", True):
        gc.disable()
    if job.get("heap") == "used":
        # glibc maps and unmaps every large block until the first one is freed, and
        # asyncio asks for 256 KiB at each read: see README.md.
        bytes(LARGE_BLOCK)


def main(task, text):
    job = json.loads(text)
    prepare(job)
    say(TASKS[task](job))


if __name__ == "__main__":
    main(*sys.argv[1:])
