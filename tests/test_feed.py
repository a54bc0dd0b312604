"""io/feed.c: what arrives gets into asyncio's StreamReader as asyncio puts it there."""

import asyncio
import contextlib
import random
import socket
from asyncio import streams

import pytest
from support import LOOPS, free_pair, like_asyncio, python, told, turns, until

KIB = 1024


@contextlib.asynccontextmanager
async def stream(**kwargs):
    """(reader, writer, peer): a stream, and the raw socket at its other end."""
    sock, peer = free_pair()
    reader, writer = await asyncio.open_connection(sock=sock, **kwargs)
    with peer:
        try:
            yield reader, writer, peer
        finally:
            writer.transport.abort()
            await until(lambda: sock.fileno() == -1)


async def arrived(reader, count):
    await until(lambda: len(reader._buffer) >= count)


# -- Reading -----------------------------------------------------------------------


async def test_lines_and_pieces(loop):
    async with stream() as (reader, _, peer):
        peer.send(b"one\ntwo\nthree, four;rest")
        assert await reader.readline() == b"one\n"
        assert await reader.readexactly(4) == b"two\n"
        assert await reader.readuntil(b";") == b"three, four;"
        assert await reader.read(100) == b"rest"
        peer.shutdown(socket.SHUT_WR)
        assert await reader.read() == b""
        assert reader.at_eof()


async def test_whoever_waits_is_woken(loop):
    async with stream() as (reader, _, peer):
        waiting = loop.create_task(reader.readexactly(3))
        await turns(2)
        for byte in b"abc":
            peer.send(bytes([byte]))
            await turns(3)
        assert await waiting == b"abc"


async def test_whoever_gave_up_is_not(loop):
    async with stream() as (reader, _, peer):
        waiting = loop.create_task(reader.read(1))
        await turns(2)
        waiting.cancel()
        peer.send(b"x")
        await turns(3)
        assert waiting.cancelled()
        assert await reader.read(1) == b"x"


@pytest.mark.parametrize("limit", [1, 100, 64 * KIB])
async def test_a_full_buffer_pauses_the_transport(loop, limit):
    sent = random.Random(limit).randbytes(1 << 19)
    async with stream(limit=limit) as (reader, writer, peer):
        sending = loop.create_task(loop.sock_sendall(peer, sent))
        await until(lambda: not writer.transport.is_reading())
        assert limit < len(reader._buffer)
        kept = len(reader._buffer)
        await turns(5)
        assert len(reader._buffer) == kept
        assert await reader.readexactly(len(sent)) == sent
        assert writer.transport.is_reading()
        await sending


@pytest.mark.parametrize("seed", range(4))
async def test_nothing_is_lost_or_swapped(loop, seed):
    dice = random.Random(seed)
    sent = dice.randbytes(1 << 19)
    got = bytearray()
    async with stream(limit=dice.choice([10, 1000, 64 * KIB])) as (reader, _, peer):

        async def send():
            rest = sent
            while rest:
                size = dice.choice([1, 100, 5000, 100_000])
                await loop.sock_sendall(peer, rest[:size])
                rest = rest[size:]
                await turns(dice.choice([0, 1, 3]))
            peer.shutdown(socket.SHUT_WR)

        sending = loop.create_task(send())
        while piece := await reader.read(dice.choice([1, 1000, 100_000])):
            got += piece
        await sending
    assert got == sent


async def test_over_tls(loop, served, asked):
    async def echo(reader, writer):
        while data := await reader.read(64 * KIB):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=served)
    async with server:
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(
            *address, ssl=asked, server_hostname="localhost"
        )
        for size in (1, 100, 10_000, 200_000):
            data = random.Random(size).randbytes(size)
            writer.write(data)
            assert await reader.readexactly(size) == data
        writer.close()
        await writer.wait_closed()


# -- What is somebody's own is called ----------------------------------------------


async def test_a_method_replaced_on_the_class(loop, monkeypatch):
    """Also when the connection is there already; and no longer when put back."""
    seen = []

    def feed_data(self, data):
        seen.append(data)
        original(self, data)

    original = streams.StreamReader.feed_data
    async with stream() as (reader, _, peer):
        for number, replaced in enumerate([False, True, False, True]):
            with monkeypatch.context() as patch:
                if replaced:
                    patch.setattr(streams.StreamReader, "feed_data", feed_data)
                peer.send(b"x%d" % number)
                assert await reader.read(9) == b"x%d" % number
    assert seen == [b"x1", b"x3"]


REPLACEABLE = {
    "_wakeup_waiter": streams.StreamReader,
    "data_received": streams.StreamReaderProtocol,
}


@pytest.mark.parametrize("name", REPLACEABLE)
async def test_other_methods_replaced_on_their_class(loop, monkeypatch, name):
    owner, calls = REPLACEABLE[name], []
    original = getattr(owner, name)

    def replacement(self, *args):
        calls.append(args)
        return original(self, *args)

    async with stream() as (reader, _, peer):
        peer.send(b"before")
        assert await reader.read(9) == b"before"
        monkeypatch.setattr(owner, name, replacement)
        peer.send(b"after")
        assert await reader.read(9) == b"after"
    assert calls


async def test_a_method_of_one_reader(loop):
    seen = []
    async with stream() as (reader, _, peer):
        reader.feed_data = seen.append
        peer.send(b"hello")
        await until(lambda: seen)
        assert seen == [b"hello"]
        assert not reader._buffer


async def test_another_protocol_for_the_same_reader(loop):
    seen = []
    async with stream() as (reader, writer, peer):
        peer.send(b"one")
        await arrived(reader, 3)
        protocol = asyncio.StreamReaderProtocol(reader)
        protocol.data_received = seen.append
        former = writer.transport.get_protocol()
        writer.transport.set_protocol(protocol)
        peer.send(b"two")
        await until(lambda: seen or len(reader._buffer) > 3)
        writer.transport.set_protocol(former)
        assert seen == [b"two"]
        assert await reader.read(10) == b"one"


async def test_a_reader_of_a_subclass(loop):
    class Loud(asyncio.StreamReader):
        def feed_data(self, data):
            super().feed_data(data.upper())

    sock, peer = free_pair()
    with peer:
        reader = Loud(loop=loop)
        transport, _ = await loop.create_connection(
            lambda: asyncio.StreamReaderProtocol(reader, loop=loop), sock=sock
        )
        peer.send(b"hello")
        assert await reader.read(5) == b"HELLO"
        transport.abort()
        await until(lambda: sock.fileno() == -1)


async def test_a_protocol_of_a_subclass(loop):
    seen = []

    class Watched(asyncio.StreamReaderProtocol):
        def data_received(self, data):
            seen.append(data)
            super().data_received(data)

    sock, peer = free_pair()
    with peer:
        reader = asyncio.StreamReader(loop=loop)
        transport, _ = await loop.create_connection(
            lambda: Watched(reader, loop=loop), sock=sock
        )
        peer.send(b"hello")
        assert await reader.read(5) == b"hello"
        transport.abort()
        await until(lambda: sock.fileno() == -1)
    assert seen == [b"hello"]


# -- What goes wrong ---------------------------------------------------------------


def break_eof(reader):
    reader.feed_eof()


def break_buffer(reader):
    reader.kept = memoryview(reader._buffer)


def break_limit(reader):
    reader._limit = "much"


def break_waiter(reader):
    reader._waiter = "nobody"


def break_limit_by_size(reader):
    reader._limit = 1 << 100


@pytest.mark.parametrize(
    "spoil",
    [break_eof, break_buffer, break_limit, break_limit_by_size, break_waiter],
)
def test_a_reader_that_is_spoilt(loop, spoil):
    """The exceptions, and what becomes of the connection, are asyncio's."""

    def scenario(loop):
        async def main():
            async with stream() as (reader, writer, peer):
                peer.send(b"well")
                await arrived(reader, 4)
                spoil(reader)
                peer.send(b"spoilt")
                await turns(5)
                kept = reader.__dict__.pop("kept", None)
                if kept is not None:
                    kept.release()
                return bytes(reader._buffer), writer.transport.is_closing()

        return [*loop.run_until_complete(main()), told(loop)]

    like_asyncio(loop, scenario)


def test_a_reader_that_nobody_keeps(loop):
    """Its data are dropped, and the connection is asyncio's to close."""

    def scenario(loop):
        async def main():
            sock, peer = free_pair()
            with peer:
                reader = asyncio.StreamReader(loop=loop)
                protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
                transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
                del reader
                peer.send(b"hello")
                await turns(5)
                state = protocol._stream_reader, transport.is_closing()
                transport.abort()
                await until(lambda: sock.fileno() == -1)
            return state

        return [*loop.run_until_complete(main()), told(loop)]

    like_asyncio(loop, scenario)


# -- When asyncio is another -------------------------------------------------------

only_here = pytest.mark.skipif("asyncfast" not in LOOPS, reason="of asyncfast alone")


@only_here
def test_an_asyncio_that_is_not_known(monkeypatch):
    from asyncfast.known import is_known
    from asyncfast.streams import _KNOWN

    assert is_known(streams, _KNOWN)
    for path in _KNOWN:
        owner, _, name = path.partition(".")
        with monkeypatch.context() as patch:
            patch.setattr(getattr(streams, owner), name, lambda self: self.other)
            assert not is_known(streams, _KNOWN), path


@only_here
def test_the_environment_decides():
    code = "import asyncfast; print(asyncfast.build_info()['streams'])"
    assert python("-c", code).stdout.strip() == "own"
    done = python("-c", code, env={"ASYNCFAST_STREAMS": "stock"})
    assert done.stdout.strip() == "stock"


@only_here
def test_streams_work_without(tmp_path):
    code = """
import asyncio, asyncfast

async def main():
    async def echo(reader, writer):
        writer.write(await reader.read(100))
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello")
        print((await reader.read(100)).decode())
        writer.close()

asyncfast.run(main())
"""
    done = python("-c", code, env={"ASYNCFAST_STREAMS": "stock"})
    assert done.stdout.strip() == "hello", done.stderr
