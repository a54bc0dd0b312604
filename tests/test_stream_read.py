"""io/stream_read.c: data of many sizes, on their way to the protocol."""

import asyncio
import contextlib
import os
import random
import socket
import threading

import pytest
from support import BufferedRecorder, Echo, Recorder, connected, fill, turns

KIB = 1024
READS = (1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 5, 120 * KIB, 120 * KIB + 1)
READS += (256 * KIB, 300_000, 3, 1 << 20, 100 * KIB, 100 * KIB, 0, 70 * KIB, 10)


@pytest.mark.parametrize("buffered", [False, True])
@pytest.mark.parametrize(
    "family", [socket.AF_UNIX, socket.AF_INET], ids=["unix", "tcp"]
)
async def test_data_of_every_size_arrives_whole(loop, family, buffered):
    """However the sizes follow each other."""
    factory = BufferedRecorder if buffered else Recorder
    async with connected(loop, factory, family) as (transport, protocol, peer):
        expected = b""
        for number, size in enumerate(READS):
            data = random.Random(number).randbytes(size)
            expected += data
            await loop.sock_sendall(peer, data)
            await protocol.received(len(expected))
        assert protocol.data == expected
        peer.shutdown(socket.SHUT_WR)
        await protocol.saw("eof")
        assert protocol.data == expected


async def test_much_data_does_not_come_past_a_pause(loop):
    class Once(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()

    async with connected(loop, Once, socket.AF_INET) as (transport, protocol, peer):
        sent = os.urandom(1 << 20)
        sending = loop.create_task(loop.sock_sendall(peer, sent))
        before = 0
        while len(protocol.data) < len(sent):
            await protocol.received(before + 1)
            before = len(protocol.data)
            await turns(3)
            assert len(protocol.data) == before
            transport.resume_reading()
        await sending
        assert protocol.data == sent


# What a connection may bring in one iteration: a read that passes 256 KiB is the last.
PORTION = 384 * KIB


class Counter(asyncio.Protocol):
    count = 0

    def data_received(self, data):
        self.count += len(data)


@contextlib.contextmanager
def fed(sock):
    """Somebody sends on it without end."""

    def feed():
        with contextlib.suppress(OSError):
            while True:
                sock.sendall(bytes(1 << 20))

    sock.setblocking(True)
    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        yield
    finally:
        sock.shutdown(socket.SHUT_RDWR)
        feeder.join()


async def test_an_iteration_takes_a_portion_of_what_is_there(loop):
    async with connected(loop, Counter, socket.AF_INET) as (transport, greedy, peer):
        transport.pause_reading()
        there = fill(peer)
        assert there > 2 * PORTION
        transport.resume_reading()
        portions, before = [], 0
        while greedy.count < there:
            await turns(1)
            portions.append(greedy.count - before)
            before = greedy.count
        assert max(portions) <= PORTION


async def test_one_greedy_connection_does_not_starve_ninety_nine(loop):
    """What it sends comes in portions, between which the others have their turn."""
    waits = []

    async def ask(peer, greedy):
        for _ in range(20):
            before = greedy.count
            await loop.sock_sendall(peer, b"x")
            assert await loop.sock_recv(peer, 1) == b"x"
            waits.append((greedy.count - before) / PORTION)

    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        peers = [(await enter(connected(loop, Echo)))[2] for _ in range(99)]
        _, greedy, source = await enter(connected(loop, Counter))
        with fed(source):
            while greedy.count < PORTION:
                await turns(1)
            await asyncio.gather(*(ask(peer, greedy) for peer in peers))
    assert max(waits) <= 8
