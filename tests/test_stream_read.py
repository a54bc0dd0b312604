"""io/stream_read.c: data of many sizes, on their way to the protocol."""

import os
import random
import socket

import pytest
from support import BufferedRecorder, Recorder, connected, turns

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
