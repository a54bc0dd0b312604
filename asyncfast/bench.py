"""``python -m asyncfast bench``: asyncio, uvloop and asyncfast on this machine.

A comparison of half a minute, in CPU time per operation. Every loop has a process
of its own; they work in short turns, so that whatever else the machine does meets
all of them. The project's benchmarks/ measures far more, with clients in C.
"""

import argparse
import asyncio
import gc
import importlib
import importlib.util
import json
import os
import platform
import socket
import subprocess
import sys
import time

__all__ = ["main"]

_LOOPS = {
    "asyncio": "asyncio:SelectorEventLoop",
    "uvloop": "uvloop:new_event_loop",
    "asyncfast": "asyncfast:new_event_loop",
}
_TURNS = 20
_TURN_SECONDS = 0.05
_FIRST_COUNT = 500
_MESSAGE = b"x" * 1024


def _nothing():
    pass


async def _callbacks(loop, count):
    for _ in range(count // 100):
        for _ in range(100):
            loop.call_soon(_nothing)
        await asyncio.sleep(0)


async def _timers(loop, count):
    for _ in range(count):
        loop.call_later(3600, _nothing).cancel()


async def _sleeps(loop, count):
    for _ in range(count):
        await asyncio.sleep(0)


async def _one():
    return 1


async def _tasks(loop, count):
    for _ in range(count):
        await loop.create_task(_one())


async def _gathers(loop, count):
    for _ in range(count // 100):
        await asyncio.gather(*[_one() for _ in range(100)])


async def _jobs(loop, count):
    for _ in range(count):
        await loop.run_in_executor(None, _nothing)


class _Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class _Asker(_Echo):
    """Sends a message as soon as it has the last one back."""

    def begin(self, count, done):
        self.left, self.done, self.got = count, done, 0
        self.transport.write(_MESSAGE)

    def data_received(self, data):
        self.got += len(data)
        if self.got < len(_MESSAGE):
            return
        self.left -= 1
        self.got = 0
        if self.left:
            self.transport.write(_MESSAGE)
        else:
            self.done.set_result(None)


async def _echo(loop, count):
    left, right = socket.socketpair()
    for sock in (left, right):
        sock.setblocking(False)
    server, _ = await loop.connect_accepted_socket(_Echo, left)
    client, asker = await loop.connect_accepted_socket(_Asker, right)
    done = loop.create_future()
    asker.begin(count, done)
    await done
    client.close()
    server.close()


async def _streams(loop, count):
    left, right = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=left)
    echo_reader, echo_writer = await asyncio.open_connection(sock=right)

    async def answer():
        while data := await echo_reader.read(65536):
            echo_writer.write(data)
            await echo_writer.drain()

    answering = loop.create_task(answer())
    for _ in range(count):
        writer.write(_MESSAGE)
        await writer.drain()
        await reader.readexactly(len(_MESSAGE))
    writer.close()
    await answering
    echo_writer.close()


_ROWS = {
    "call_soon": _callbacks,
    "call_later, cancel": _timers,
    "sleep(0)": _sleeps,
    "create_task, await": _tasks,
    "gather of 100, per task": _gathers,
    "run_in_executor": _jobs,
    "protocol echo, 1 KiB, both ends": _echo,
    "streams echo, 1 KiB, both ends": _streams,
}


# The measured process


def _measure(loop, row, count):
    gc.collect()
    before = time.process_time()
    loop.run_until_complete(_ROWS[row](loop, count))
    return time.process_time() - before


def _serve(factory):
    """Answer each line, a row and a count, with how many CPU seconds that took."""
    module, _, name = factory.partition(":")
    loop = getattr(importlib.import_module(module), name)()
    asyncio.set_event_loop(loop)
    for line in sys.stdin:
        row, count = json.loads(line)
        print(_measure(loop, row, count), flush=True)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


# The comparison


class _Contestant:
    def __init__(self, name):
        self.name = name
        command = [sys.executable, "-m", __name__, _LOOPS[name]]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        environment = {**os.environ, "PYTHONASYNCIODEBUG": ""}
        self._child = subprocess.Popen(command, text=True, env=environment, **pipes)

    def take(self, row, count):
        """CPU seconds for so many operations."""
        self._child.stdin.write(json.dumps([row, count]) + "\n")
        self._child.stdin.flush()
        answer = self._child.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.name} failed at {row!r}")
        return float(answer)

    def count_for(self, row):
        """How many operations take about a turn; finding out is the warm-up."""
        count = _FIRST_COUNT
        while (took := self.take(row, count)) < _TURN_SECONDS / 4:
            count *= 4
        return max(int(count * _TURN_SECONDS / took) // 100, 1) * 100

    def close(self):
        self._child.stdin.close()
        self._child.wait()
        self._child.stdout.close()


def _compare(contestants, row):
    """CPU seconds per operation of each."""
    counts = {each: each.count_for(row) for each in contestants}
    spent = dict.fromkeys(contestants, 0.0)
    for turn in range(_TURNS):
        first = turn % len(contestants)
        for each in contestants[first:] + contestants[:first]:
            spent[each] += each.take(row, counts[each])
    return {each.name: spent[each] / counts[each] / _TURNS for each in contestants}


def _line(title, costs):
    others = [cost for name, cost in costs.items() if name != "asyncfast"]
    ratio = min(others) / costs["asyncfast"]
    figures = "".join(f"{cost * 1e6:>11.2f}" for cost in costs.values())
    return f"{title:32}{figures}{ratio:>9.2f}x"


def main(arguments: list[str] | None = None) -> None:
    """Run the comparison and print a table, a line as soon as it is known."""
    argparse.ArgumentParser(
        prog="python -m asyncfast bench",
        description="Compare asyncio, uvloop (where it's installed) and asyncfast on "
        "this machine, in CPU time per operation. Takes half a minute.",
    ).parse_args(arguments)
    names = [name for name in _LOOPS if importlib.util.find_spec(name)]
    print(f"{platform.python_implementation()} {platform.python_version()};", end=" ")
    print("microseconds of CPU per operation; best other / asyncfast\n")
    print(f"{'':32}" + "".join(f"{name:>11}" for name in names))
    contestants = [_Contestant(name) for name in names]
    try:
        for row in _ROWS:
            print(_line(row, _compare(contestants, row)), flush=True)
    finally:
        for each in contestants:
            each.close()


if __name__ == "__main__":
    _serve(sys.argv[1])
