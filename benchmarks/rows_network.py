"""Servers that echo, by every way asyncio offers, and connections that come and go."""

import asyncio
import socket

from registry import Load, served

BACKLOG = 1024
CHUNK = 65536

KIB = 1024
SIZES = (64, KIB, 10 * KIB, 100 * KIB)
CONNECTIONS = (1, 10, 100, 1000)
MOST = Load(KIB, 10_000)


def grid(sizes, connections):
    """Every combination; 1 KiB at 100 connections is what a quick run shows."""
    return [
        Load(size, count, quick=(size, count) == (KIB, 100))
        for size in sizes
        for count in connections
    ]


def at_100(*sizes):
    return grid(sizes, (100,))


PROTOCOL_LOADS = [
    *grid(SIZES, CONNECTIONS),
    MOST,
    Load(64, 100, depth=16),
    Load(KIB, 1, depth=16),
    Load(KIB, 100, depth=16, quick=True),
]


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class PiecewiseEcho(Echo):
    pieces = 2

    def data_received(self, data):
        size = -(-len(data) // self.pieces)
        for begin in range(0, len(data), size):
            self.transport.write(data[begin : begin + size])


class ManyPiecesEcho(PiecewiseEcho):
    pieces = 16


class BufferedEcho(asyncio.BufferedProtocol):
    def connection_made(self, transport):
        self.transport = transport
        self.buffer = memoryview(bytearray(CHUNK))

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, count):
        # A copy: what the transport cannot send at once must not change under it.
        self.transport.write(bytes(self.buffer[:count]))


class DatagramEcho(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data, address)


@served("protocol echo", PROTOCOL_LOADS)
async def protocol_echo(loop, sock):
    return await loop.create_server(Echo, sock=sock, backlog=BACKLOG)


@served("protocol echo in 2 pieces", at_100(KIB))
async def two_pieces_echo(loop, sock):
    return await loop.create_server(PiecewiseEcho, sock=sock, backlog=BACKLOG)


@served("protocol echo in 16 pieces", at_100(KIB))
async def many_pieces_echo(loop, sock):
    return await loop.create_server(ManyPiecesEcho, sock=sock, backlog=BACKLOG)


@served("BufferedProtocol echo", at_100(KIB, 10 * KIB, 100 * KIB))
async def buffered_echo(loop, sock):
    return await loop.create_server(BufferedEcho, sock=sock, backlog=BACKLOG)


@served("streams echo", [*at_100(64, KIB, 10 * KIB), *grid([KIB], (1, 10, 1000)), MOST])
async def streams_echo(loop, sock):
    async def handle(reader, writer):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        writer.close()

    return await asyncio.start_server(handle, sock=sock, backlog=BACKLOG)


@served("sock_recv and sock_sendall echo", [*at_100(KIB, 10 * KIB), Load(KIB, 1)])
async def sock_echo(loop, sock):
    talks = set()

    async def talk(peer):
        with peer:
            while data := await loop.sock_recv(peer, CHUNK):
                await loop.sock_sendall(peer, data)

    async def accept():
        while True:
            peer, _ = await loop.sock_accept(sock)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = loop.create_task(talk(peer))
            talks.add(task)
            task.add_done_callback(talks.discard)

    return loop.create_task(accept())


@served("Unix stream echo", at_100(KIB, 100 * KIB), transport="unix")
async def unix_echo(loop, sock):
    return await loop.create_unix_server(Echo, sock=sock, backlog=BACKLOG)


@served("TLS echo", at_100(64, KIB, 10 * KIB, 100 * KIB), tls=True)
async def tls_echo(loop, sock, context):
    return await loop.create_server(Echo, sock=sock, backlog=BACKLOG, ssl=context)


@served("UDP echo", [*at_100(64, KIB), Load(KIB, 1)], transport="udp")
async def udp_echo(loop, sock):
    return await loop.create_datagram_endpoint(DatagramEcho, sock=sock)


@served("connect and close", [Load(1, 10)], short_lived=True)
async def connect_close(loop, sock):
    return await loop.create_server(asyncio.Protocol, sock=sock, backlog=BACKLOG)
