"""Both ends of a socket pair on one loop: what a message costs, without a client.

A message is on its way at a time, so each hop takes one turn of the loop, and its
instructions repeat. What a server under load costs is for rows_network.py.
"""

import asyncio
import contextlib
import socket

from registry import timed

# Small enough for Python's own allocator: what malloc does depends on all that was
# done before, and would move the counts.
MESSAGE = b"x" * 256
CHUNK = 65536


class Rally:
    """Sends back what it gets, until it has got enough messages."""

    def __init__(self, left, done):
        self.left = left
        self.done = done

    def connection_made(self, transport):
        self.transport = transport

    def take(self, data):
        self.left -= 1
        if self.left:
            self.transport.write(data)
        else:
            self.done.set_result(None)


class PingPong(Rally, asyncio.Protocol):
    data_received = Rally.take


class BufferedPingPong(Rally, asyncio.BufferedProtocol):
    def connection_made(self, transport):
        self.transport = transport
        self.buffer = memoryview(bytearray(CHUNK))

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, count):
        self.take(bytes(self.buffer[:count]))


@contextlib.contextmanager
def socket_pair():
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    with left, right:
        yield left, right


def play(loop, operations, protocol):
    """Two of these protocols send one another this many messages."""
    done = loop.create_future()
    half = operations // 2
    with socket_pair() as (left, right):
        server, _ = loop.run_until_complete(
            loop.connect_accepted_socket(lambda: protocol(-1, done), left)
        )
        client, _ = loop.run_until_complete(
            loop.connect_accepted_socket(lambda: protocol(half, done), right)
        )
        yield
        client.write(MESSAGE)
        loop.run_until_complete(done)
        yield
        client.abort()
        server.abort()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(asyncio.sleep(0))


@timed("protocol, per hop over a socket pair", batch=2, exact=True)
def protocol_pair(loop, operations):
    yield from play(loop, operations, PingPong)


@timed("BufferedProtocol, per hop over a socket pair", batch=2, exact=True)
def buffered_pair(loop, operations):
    yield from play(loop, operations, BufferedPingPong)


async def stream_ends(left, right):
    return [await asyncio.open_connection(sock=sock) for sock in (left, right)]


async def stream_hops(turns, reader, writer):
    for _ in range(turns):
        data = await reader.readexactly(len(MESSAGE))
        writer.write(data)
        await writer.drain()


@timed("streams, per hop over a socket pair", batch=2, exact=True)
def streams_pair(loop, operations):
    async def hops(one, two):
        two[1].write(MESSAGE)
        turns = operations // 2
        await asyncio.gather(stream_hops(turns, *one), stream_hops(turns, *two))
        await one[0].readexactly(len(MESSAGE))

    async def close(writers):
        for writer in writers:
            writer.close()
            await writer.wait_closed()

    with socket_pair() as pair:
        one, two = loop.run_until_complete(stream_ends(*pair))
        yield
        loop.run_until_complete(hops(one, two))
        yield
        loop.run_until_complete(close([one[1], two[1]]))


@timed("sock_recv and sock_sendall, per hop over a socket pair", batch=2, exact=True)
def sock_pair(loop, operations):
    async def hops(sock, turns):
        for _ in range(turns):
            await loop.sock_sendall(sock, await loop.sock_recv(sock, CHUNK))

    async def both(left, right):
        await loop.sock_sendall(left, MESSAGE)
        turns = operations // 2
        await asyncio.gather(hops(right, turns), hops(left, turns))
        await loop.sock_recv(right, CHUNK)

    with socket_pair() as pair:
        yield
        loop.run_until_complete(both(*pair))
        yield
