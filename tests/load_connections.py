"""Thousands of connections between two processes, for load.py.

The clients are here, the server is a process of its own (`serve`), on the same kind of
loop. Most clients talk all the time, and compare the echo by the place of each byte;
others come and go, end by a reset, read slowly or never.
"""

import asyncio
import contextlib
import json
import socket
import struct
import sys
from typing import NamedTuple

from load_bytes import Check, Flow, known
from soak_loads import Mismatch

PORTS = 4  # of the server: one alone would run out of addresses of clients
MIB = 1 << 20
TALK = 4.0  # seconds between two messages of a connection, at most
PATIENCE = 10.0  # seconds for which one that never reads keeps its connection, at most
MESSAGE = 5000  # bytes, at most
SLOW = 1 << 19  # bytes that a slow reader sends before it begins to read

# What a connection of the server may hold of what its client doesn't read: asyncio's
# high-water mark, and what a single read brings on top of that.
MOST_BUFFERED = (64 + 256) * 1024
# What all buffers on the way, those of the system too, may swallow of it.
MOST_SWALLOWED = 8 * MIB

# Of the server's sockets, in bytes. Much less, and Linux loses its way: with both
# sides' windows shut it drops what either sends again, for minutes.
RECEIVE_BUFFER, SEND_BUFFER = 1 << 19, 1 << 18

END_LIMIT = 120.0  # seconds in which all must have ended who are told to go

RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # for SO_LINGER


# -- The server --------------------------------------------------------------------


class Served(asyncio.Protocol):
    """Sends back what it gets, and reads no faster than it can send."""

    open = set()
    accepted = most_buffered = 0

    def connection_made(self, transport):
        self.transport = transport
        Served.open.add(self)
        Served.accepted += 1

    def data_received(self, data):
        self.transport.write(data)
        size = self.transport.get_write_buffer_size()
        Served.most_buffered = max(Served.most_buffered, size)

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()

    def connection_lost(self, exception):
        Served.open.discard(self)


def listener():
    """A listening socket; its connections have buffers that do not grow."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    sock.bind(("127.0.0.1", 0))
    return sock


async def serve(failures, take_sample):
    """Serve; answer each line of standard input with the numbers, until it ends."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(failures.report)
    servers = [
        await loop.create_server(Served, sock=listener(), backlog=4096)
        for _ in range(PORTS)
    ]
    print(json.dumps([s.sockets[0].getsockname()[1] for s in servers]), flush=True)
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.connect_read_pipe(lambda: protocol, sys.stdin.buffer)
    while await reader.readline():
        numbers = {
            "sample": take_sample(),
            "open": len(Served.open),
            "accepted": Served.accepted,
            "most_buffered": Served.most_buffered,
            "failures": failures.failures,
        }
        print(json.dumps(numbers), flush=True)
    transport.close()
    for server in servers:
        server.close()
        await server.wait_closed()


class Server(NamedTuple):
    """The other process, as the clients see it."""

    process: asyncio.subprocess.Process
    ports: list

    async def numbers(self):
        self.process.stdin.write(b"\n")
        return json.loads(await self.process.stdout.readline())


@contextlib.asynccontextmanager
async def server(command):
    process = await asyncio.create_subprocess_exec(*command, stdin=-1, stdout=-1)
    try:
        yield Server(process, json.loads(await process.stdout.readline()))
    finally:
        process.stdin.close()
        await process.wait()


# -- The clients -------------------------------------------------------------------


class Client(Flow, asyncio.Protocol):
    """Compares the echo."""

    def __init__(self):
        super().__init__()
        self.check = Check()
        self.sent = 0
        self.arrived = asyncio.Event()

    def data_received(self, data):
        self.check.add(data)
        self.arrived.set()

    def connection_lost(self, exception):
        super().connection_lost(exception)
        self.arrived.set()

    def send(self, size):
        self.transport.write(known(self.sent, size))
        self.sent += size

    async def echoed(self):
        """Wait until all that was sent has come back."""
        while self.check.count < self.sent:
            if self.lost.done():
                raise Mismatch(f"the connection ended: {self.lost.result()!r}")
            self.arrived.clear()
            await self.arrived.wait()


class Crowd:
    """`count` clients, who come, stay for about that time, and are told to go."""

    def __init__(self, ports, count, seconds, rng, failures):
        self.ports, self.count, self.rng = ports, count, rng
        self.seconds, self.failures = seconds, failures
        self.over = False
        self.opened = self.echoed = self.reset = self.most_swallowed = 0
        self.tasks = []

    def begin(self):
        """Let them come, one by one, in the first fifth of the time."""
        kinds = [self.talk] * 12 + [self.come_and_go] * 5
        kinds += [self.read_slowly] * 2 + [self.never_read]
        for number in range(self.count):
            delay = 0.2 * self.seconds * self.rng.random()
            life = self.live(kinds[number % len(kinds)], delay)
            self.tasks.append(asyncio.ensure_future(life))

    async def end(self):
        self.over = True
        _, hanging = await asyncio.wait(self.tasks, timeout=END_LIMIT)
        if hanging:
            self.failures.fail(f"{len(hanging)} clients hang, like {hanging.pop()!r}")
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks.clear()

    async def live(self, kind, delay):
        await asyncio.sleep(delay)
        while not self.over:
            client = await self.connect()
            try:
                await kind(client)
            except Exception as error:
                self.failures.fail(f"{kind.__name__}: {error!r}")
                self.over = True
            finally:
                client.transport.abort()
                self.echoed += client.check.count
            await self.pause(1.0)

    async def pause(self, most):
        """For as many seconds at most, or a tenth of the time where that is less."""
        await asyncio.sleep(self.rng.random() * min(most, self.seconds / 10))

    async def connect(self):
        loop = asyncio.get_running_loop()
        port = self.rng.choice(self.ports)
        _, client = await loop.create_connection(Client, "127.0.0.1", port)
        self.opened += 1
        return client

    def size(self):
        return int(MESSAGE * self.rng.random() ** 3) + 1

    async def talk(self, client):
        while not self.over:
            client.send(self.size())
            await client.echoed()
            await self.pause(TALK)
        await self.close(client)

    async def come_and_go(self, client):
        for _ in range(self.rng.randrange(1, 4)):
            client.send(self.size())
            await client.echoed()
        end = self.rng.choice([self.close, self.end_writing, self.reset_it])
        await end(client)

    async def close(self, client):
        client.transport.close()
        self.check_end(await client.lost)

    async def end_writing(self, client):
        """The server closes, once it has sent back what comes before the end."""
        client.send(self.size())
        client.transport.write_eof()
        self.check_end(await client.lost)
        client.check.end(client.sent)

    def check_end(self, exception):
        if exception is not None:
            raise exception

    async def reset_it(self, client):
        """Something is under way when the connection is reset."""
        client.send(self.size())
        sock = client.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
        client.transport.abort()
        await client.lost
        self.reset += 1

    async def read_slowly(self, client):
        """Sends as much as it may, and reads bit by bit after that."""
        client.transport.pause_reading()
        while client.sent < SLOW and client.writable.is_set():
            client.send(self.size())
            await asyncio.sleep(0)
        while client.check.count < client.sent and not client.lost.done():
            client.transport.resume_reading()
            client.arrived.clear()
            await client.arrived.wait()
            client.transport.pause_reading()
            await self.pause(0.1)
        client.check.end(client.sent)
        client.transport.resume_reading()
        await self.close(client)

    async def never_read(self, client):
        """Sends as long as anybody takes it: the server must stop at its mark."""
        client.transport.pause_reading()
        patience = asyncio.ensure_future(self.pause(PATIENCE))
        while client.writable.is_set() and not patience.done():
            client.send(10 * MESSAGE)
            await asyncio.sleep(0.01)
        await patience
        if client.lost.done():
            raise Mismatch(f"the connection ended: {client.lost.result()!r}")
        swallowed = client.sent - client.transport.get_write_buffer_size()
        self.most_swallowed = max(self.most_swallowed, swallowed)
        client.transport.abort()
        await client.lost


# -- A run -------------------------------------------------------------------------


class Course(NamedTuple):
    """What a run has shown: samples of both sides, the full crowd's and at rest."""

    crowd: Crowd
    numbers: dict  # the server's last
    full: list  # [(client's sample, server's sample)]
    before: tuple
    after: tuple


async def at_rest(served, take_sample):
    """Both sides' samples when no connection is left."""
    while (await served.numbers())["open"]:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0)
    return take_sample(), (await served.numbers())["sample"]


async def run(command, count, seconds, rng, failures, take_sample):
    """A Course; `command` starts serve() in another process."""
    asyncio.get_running_loop().set_exception_handler(failures.report)
    async with server(command) as served:
        await stay(Crowd(served.ports, min(count, 1000), 2.0, rng, failures))
        before = await at_rest(served, take_sample)
        crowd = Crowd(served.ports, count, seconds, rng, failures)
        full = await stay(crowd, served, take_sample)
        after = await at_rest(served, take_sample)
        numbers = await served.numbers()
    for failure in numbers["failures"]:
        failures.fail(f"of the server: {failure}")
    return Course(crowd, numbers, full, before, after)


async def stay(crowd, served=None, take_sample=None):
    """Let a crowd come, stay and go; samples while it was complete."""
    loop, full = asyncio.get_running_loop(), []
    end = loop.time() + crowd.seconds
    crowd.begin()
    await asyncio.sleep(0.3 * crowd.seconds)
    while not crowd.over and loop.time() < end:
        if served is not None:
            full.append((take_sample(), (await served.numbers())["sample"]))
        await asyncio.sleep(min(2.0, crowd.seconds / 20))
    await crowd.end()
    return full
