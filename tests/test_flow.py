"""io/flow.c: the write buffer, its water marks, pause_writing and resume_writing."""

import asyncio
import contextlib
import sys

import pytest
from support import PY, Recorder, connected, drain, like_asyncio, turns

KIB = 1024
MICRO = sys.version_info[:3]
WRITELINES_UNBOUNDED = (3, 12) <= MICRO < (3, 12, 9) or (3, 13) <= MICRO < (3, 13, 2)


async def read(loop, peer, count):
    """Take that many bytes from the peer's end."""
    while count > 0:
        count -= len(await loop.sock_recv(peer, min(count, 1 << 16)))


async def stuff(transport):
    """Write until the kernel takes no more; return what waits in the buffer."""
    while transport.get_write_buffer_size() == 0:
        transport.write(bytes(64 * KIB))
        await turns(1)
    return transport.get_write_buffer_size()


# -- Limits ------------------------------------------------------------------------


async def test_limits_at_the_start(loop):
    async with connected(loop) as (transport, _, _):
        assert transport.get_write_buffer_limits() == (16 * KIB, 64 * KIB)


@pytest.mark.parametrize(
    ("arguments", "limits"),
    [
        ({"high": 100}, (25, 100)),
        ({"low": 100}, (100, 400)),
        ({"high": 100, "low": 100}, (100, 100)),
        ({"high": 0}, (0, 0)),
        ({"low": 0}, (0, 0)),
        ({"high": 100, "low": 0}, (0, 100)),
        ({"high": 2**40}, (2**38, 2**40)),
        ({}, (16 * KIB, 64 * KIB)),
        ({"high": None, "low": None}, (16 * KIB, 64 * KIB)),
        ({"high": 3}, (0, 3)),
    ],
    ids=repr,
)
async def test_set_limits(loop, arguments, limits):
    async with connected(loop) as (transport, _, _):
        assert transport.set_write_buffer_limits(**arguments) is None
        assert transport.get_write_buffer_limits() == limits


async def test_no_limit(loop):
    async with connected(loop) as (transport, protocol, _):
        transport.set_write_buffer_limits(high=float("inf"), low=1)
        transport.write(bytes(10**7))
        assert transport.get_write_buffer_size() > 10**6
        assert "pause" not in protocol.events
        low, high = transport.get_write_buffer_limits()
        assert low == 1 and high > 2**62


async def test_limits_by_position(loop):
    async with connected(loop) as (transport, _, _):
        transport.set_write_buffer_limits(10, 5)
        assert transport.get_write_buffer_limits() == (5, 10)


@pytest.mark.parametrize(
    "limits",
    [(1, 2), (-1, None), (None, -1), (-1, -2), (5, -1), ("9", 1), (None, "a")]
    + [
        (1, float("inf")),
        (float("inf"), None),
        (None, -float("inf")),
        (float("nan"), 1),
        (None, b""),
    ],
    ids=repr,
)
def test_limits_that_make_no_sense(loop, limits):
    def scenario(loop):
        async def main():
            async with connected(loop) as (transport, _, _):
                try:
                    transport.set_write_buffer_limits(*limits)
                finally:
                    assert transport.get_write_buffer_limits() == (16 * KIB, 64 * KIB)

        loop.run_until_complete(main())

    assert like_asyncio(loop, scenario)[0] == "raised"


# -- Pausing -----------------------------------------------------------------------


async def test_pause_above_high_and_resume_at_low(loop):
    async with connected(loop) as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=100 * KIB, low=50 * KIB)
        waiting = await stuff(transport)
        transport.write(bytes(100 * KIB - waiting))
        assert transport.get_write_buffer_size() == 100 * KIB
        assert "pause" not in protocol.events
        transport.write(b"x")
        assert transport.get_write_buffer_size() == 100 * KIB + 1
        assert protocol.events.count("pause") == 1
        transport.write(bytes(1000))
        assert protocol.events.count("pause") == 1
        sizes = []
        protocol.resume_writing = lambda: sizes.append(
            transport.get_write_buffer_size()
        )
        while not sizes:
            await loop.sock_recv(peer, 4096)
        assert sizes[0] <= 50 * KIB
        assert len(sizes) == 1


async def test_pause_is_called_inside_write(loop):
    """The one who writes must know before write() returns."""
    async with connected(loop) as (transport, protocol, _):
        transport.set_write_buffer_limits(high=10)
        await stuff(transport)
        assert protocol.events[-1] == "pause"


async def test_high_zero_pauses_at_the_first_byte_that_waits(loop):
    async with connected(loop) as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=0)
        transport.write(b"fits")
        await turns(2)
        assert transport.get_write_buffer_size() == 0
        await stuff(transport)
        assert protocol.events[-1] == "pause"
        while protocol.events[-1] != "resume":
            await loop.sock_recv(peer, 1 << 18)
        assert transport.get_write_buffer_size() == 0


async def test_pause_and_resume_alternate(loop):
    async with connected(loop) as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=64 * KIB, low=1)
        for _ in range(10):
            while protocol.events[-1] != "pause":
                transport.write(bytes(256 * KIB))
                await turns(1)
            while protocol.events[-1] != "resume":
                await loop.sock_recv(peer, 1 << 18)
        flow = [event for event in protocol.events if event != "made"]
        assert flow == ["pause", "resume"] * 10


async def test_new_limits_may_pause_at_once(loop):
    async with connected(loop) as (transport, protocol, _):
        transport.set_write_buffer_limits(high=1 << 30)
        await stuff(transport)
        assert "pause" not in protocol.events
        transport.set_write_buffer_limits(high=0)
        assert protocol.events[-1] == "pause"


async def test_writelines_pauses(loop, loop_name):
    if loop_name == "asyncio" and WRITELINES_UNBOUNDED:
        pytest.skip("asyncio of this version does not (CVE-2024-12254)")
    async with connected(loop) as (transport, protocol, _):
        transport.set_write_buffer_limits(high=10)
        await stuff(transport)
        del protocol.events[:]
        transport.set_write_buffer_limits(high=1 << 30)
        transport.set_write_buffer_limits(high=10)
        transport.writelines([bytes(1000)] * 10)
        assert transport.get_write_buffer_size() > 10_000 - 1
        assert protocol.events in ([], ["pause"])


async def test_writelines_pauses_at_the_first_time(loop, loop_name):
    if loop_name == "asyncio" and WRITELINES_UNBOUNDED:
        pytest.skip("asyncio of this version does not (CVE-2024-12254)")
    async with connected(loop) as (transport, protocol, _):
        transport.set_write_buffer_limits(high=10)
        transport.writelines([bytes(1 << 22)] * 2)
        assert protocol.events[-1] == "pause"


async def test_a_resumed_protocol_writes_on(loop):
    """A producer driven by the two callbacks alone."""
    total = 1 << 22

    class Producer(Recorder):
        sent = 0
        paused = False

        def connection_made(self, transport):
            super().connection_made(transport)
            self.produce()

        def produce(self):
            while not self.paused and self.sent < total:
                self.transport.write(bytes(16 * KIB))
                self.sent += 16 * KIB

        def pause_writing(self):
            super().pause_writing()
            self.paused = True

        def resume_writing(self):
            super().resume_writing()
            self.paused = False
            self.produce()

    async with connected(loop, Producer) as (_, protocol, peer):
        await read(loop, peer, total)
        assert protocol.events.count("pause") == protocol.events.count("resume") > 0


@pytest.mark.parametrize("which", ["pause_writing", "resume_writing"])
async def test_an_exception_in_flow_control_is_reported_only(loop, reports, which):
    class Broken(Recorder):
        pass

    def fail(self):
        getattr(Recorder, which)(self)
        raise LookupError("in flow control")

    setattr(Broken, which, fail)
    async with connected(loop, Broken) as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=10)
        await stuff(transport)
        while "resume" not in protocol.events:
            await loop.sock_recv(peer, 1 << 18)
        await turns(1)
        report = reports.take_one()
        assert report["message"] == f"protocol.{which}() failed"
        assert str(report["exception"]) == "in flow control"
        assert report["protocol"] is protocol
        assert report["transport"] is transport
        assert not transport.is_closing()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_flow_control_leaves(loop, kind):
    class Broken(Recorder):
        def pause_writing(self):
            super().pause_writing()
            raise kind("out")

    async def main():
        async with connected(loop, Broken) as (transport, _, _):
            transport.set_write_buffer_limits(high=10)
            await stuff(transport)

    with pytest.raises(kind, match="out"):
        loop.run_until_complete(main())


# -- The size of the buffer --------------------------------------------------------


async def test_the_size_counts_what_waits_exactly(loop):
    async with connected(loop) as (transport, _, peer):
        total = 0
        while transport.get_write_buffer_size() == 0:
            transport.write(bytes(64 * KIB))
            total += 64 * KIB
            await turns(1)
        in_kernel = total - transport.get_write_buffer_size()
        transport.write(bytes(12_345))
        total += 12_345
        assert transport.get_write_buffer_size() == total - in_kernel
        transport.writelines([bytes(5), bytearray(6)])
        total += 11
        assert transport.get_write_buffer_size() == total - in_kernel
        await read(loop, peer, total)
        assert transport.get_write_buffer_size() == 0


async def test_the_size_is_zero_when_all_was_sent(loop):
    async with connected(loop) as (transport, _, _):
        transport.write(b"small")
        await turns(2)
        assert transport.get_write_buffer_size() == 0


async def test_drain_of_a_stream_waits(loop):
    """asyncio's streams stand on these callbacks."""
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    async with connected(loop, lambda: protocol) as (transport, _, peer):
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        transport.set_write_buffer_limits(high=KIB)
        writer.write(bytes(1 << 22))
        draining = loop.create_task(writer.drain())
        await turns(5)
        assert not draining.done()
        await read(loop, peer, 1 << 22)
        await draining
        await writer.drain()
        writer.close()
        await writer.wait_closed()


# -- writelines, all or nothing ----------------------------------------------------


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_what_writelines_refused_does_not_keep_the_transport_open(loop, reports):
    async with connected(loop) as (transport, protocol, _):
        with contextlib.suppress(BufferError, TypeError):
            transport.writelines([b"abc", memoryview(b"abcdef")[::2]])
        transport.close()
        await protocol.saw("lost")
    reports.take()


@pytest.mark.skipif(PY < (3, 12), reason="__buffer__ is new in 3.12")
async def test_a_piece_may_change_the_list_it_is_in(loop):
    class Piece(bytes):
        def __buffer__(self, flags):
            pieces.clear()
            return memoryview(b"shown")

    async with connected(loop) as (transport, _, peer):
        pieces = [Piece(b"x" * 100) for _ in range(10)]
        transport.writelines(pieces)
        await turns(2)
        assert drain(peer) == b"shown"
