"""connect_read_pipe and connect_write_pipe: FIFOs, sockets, character devices."""

import asyncio
import os
import socket
import tempfile

import pytest
from support import PY, Recorder, like_asyncio, turns, until


def pipe():
    read, write = os.pipe()
    return os.fdopen(read, "rb", 0), os.fdopen(write, "wb", 0)


@pytest.fixture
def ends():
    read, write = pipe()
    with read, write:
        yield read, write


async def read_from(loop, file):
    return await loop.connect_read_pipe(Recorder, file)


async def write_to(loop, file):
    return await loop.connect_write_pipe(Recorder, file)


# -- Reading -----------------------------------------------------------------------


async def test_read(loop, ends):
    read, write = ends
    transport, protocol = await read_from(loop, read)
    assert isinstance(transport, asyncio.ReadTransport)
    assert transport.get_extra_info("pipe") is read
    os.write(write.fileno(), b"one")
    assert await protocol.received(3) == b"one"
    os.write(write.fileno(), b" two")
    assert await protocol.received(7) == b"one two"
    write.close()
    await protocol.saw("lost")
    assert protocol.events[-2:] == ["eof", "lost"]
    assert protocol.exception is None
    assert read.closed


async def test_pause_and_resume_reading(loop, ends):
    read, write = ends
    transport, protocol = await read_from(loop, read)
    transport.pause_reading()
    if PY >= (3, 11):
        assert not transport.is_reading()
    os.write(write.fileno(), b"later")
    await turns(5)
    assert not protocol.data
    transport.resume_reading()
    assert await protocol.received(5) == b"later"
    transport.close()
    await protocol.saw("lost")


async def test_read_much(loop, ends):
    read, write = ends
    transport, protocol = await read_from(loop, read)
    data = os.urandom(2_000_000)
    writer, sender = await write_to(loop, write)
    writer.write(data)
    assert await protocol.received(len(data)) == data
    writer.close()
    await protocol.saw("lost")
    await sender.saw("lost")
    assert transport.is_closing()


# -- Writing -----------------------------------------------------------------------


async def test_write(loop, ends):
    read, write = ends
    transport, protocol = await write_to(loop, write)
    assert isinstance(transport, asyncio.WriteTransport)
    transport.write(b"one")
    transport.writelines([b" two", bytearray(b" three")])
    assert os.read(read.fileno(), 100) == b"one two three"
    transport.close()
    await protocol.saw("lost")
    assert os.read(read.fileno(), 100) == b""


async def test_write_waits_for_the_reader(loop, ends):
    read, write = ends
    transport, protocol = await write_to(loop, write)
    data = os.urandom(1_000_000)
    transport.write(data)
    assert transport.get_write_buffer_size() > 0
    assert "pause" in protocol.events
    reader, receiver = await read_from(loop, read)
    assert await receiver.received(len(data)) == data
    await protocol.saw("resume")
    transport.write_eof()
    await receiver.saw("lost")
    await protocol.saw("lost")
    assert reader.is_closing()


async def test_the_reader_goes(loop, ends):
    read, write = ends
    transport, protocol = await write_to(loop, write)
    read.close()
    await protocol.saw("lost")
    assert protocol.exception is None
    assert transport.is_closing()


async def test_the_reader_goes_while_something_waits(loop, ends):
    read, write = ends
    transport, protocol = await write_to(loop, write)
    transport.write(bytes(1_000_000))
    read.close()
    await protocol.saw("lost")
    assert isinstance(protocol.exception, BrokenPipeError)
    assert transport.is_closing()


async def test_abort(loop, ends):
    read, write = ends
    transport, protocol = await write_to(loop, write)
    transport.write(bytes(1_000_000))
    transport.abort()
    await protocol.saw("lost")
    assert protocol.exception is None
    assert write.closed


# -- What a pipe can be ------------------------------------------------------------


async def test_a_fifo(loop, tmp_path):
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", 0) as read:
        with open(path, "wb", 0) as write:
            transport, protocol = await read_from(loop, read)
            writer, sender = await write_to(loop, write)
            writer.write(b"through a fifo")
            assert await protocol.received(14) == b"through a fifo"
            writer.close()
            await sender.saw("lost")
            await protocol.saw("lost")
            assert transport.is_closing()


async def test_a_socket(loop):
    left, right = socket.socketpair()
    with right:
        right.setblocking(False)
        file = left.makefile("wb", 0)
        left.close()
        transport, protocol = await write_to(loop, file)
        transport.write(b"hello")
        assert await loop.sock_recv(right, 100) == b"hello"
        transport.close()
        await protocol.saw("lost")


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pty")
async def test_a_terminal(loop):
    master, slave = os.openpty()
    reader, protocol = await read_from(loop, os.fdopen(master, "rb", 0))
    writer, sender = await write_to(loop, os.fdopen(slave, "wb", 0))
    writer.write(b"typed\n")
    assert b"typed" in await protocol.received(6)
    writer.close()
    await sender.saw("lost")
    # The other end is gone: a terminal says so with EIO, which is no error.
    await protocol.saw("lost")
    assert reader.is_closing()


@pytest.mark.parametrize("method", ["connect_read_pipe", "connect_write_pipe"])
def test_a_file_is_no_pipe(loop, method):
    def scenario(loop):
        with tempfile.TemporaryFile() as file:
            loop.run_until_complete(getattr(loop, method)(Recorder, file))

    outcome = like_asyncio(loop, scenario)
    assert outcome[:2] == ("raised", ValueError)
    assert "is" in outcome[2]


async def test_non_blocking_mode_is_set(loop, ends):
    read, write = ends
    assert os.get_blocking(read.fileno())
    transport, protocol = await read_from(loop, read)
    assert not os.get_blocking(read.fileno())
    transport.close()
    await protocol.saw("lost")


async def test_streams_over_pipes(loop, ends):
    read, write = ends
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), read
    )
    write.write(b"a line\nand a rest")
    assert await reader.readline() == b"a line\n"
    write.close()
    assert await reader.read() == b"and a rest"
    transport.close()
    await until(lambda: read.closed)


async def test_an_unread_pipe_that_is_full(loop, ends):
    """A writer that blocked would stop the loop."""
    read, write = ends
    transport, protocol = await write_to(loop, write)
    while transport.get_write_buffer_size() == 0:
        transport.write(bytes(10_000))
    await turns(3)
    assert read.read(100) == bytes(100)
    transport.abort()
    await protocol.saw("lost")
