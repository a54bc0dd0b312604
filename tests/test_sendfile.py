"""loop.sendfile and loop.sock_sendfile: natively, and where that cannot be."""

import asyncio
import contextlib
import io
import os
import socket

import pytest
from support import (
    QUIET_TLS,
    Echo,
    HalfOpen,
    Recorder,
    connected,
    connected_tls,
    drain,
    free_pair,
    like_asyncio,
    turns,
    until,
)

CONTENT = os.urandom(1 << 18)
BIG = 4 << 20


@pytest.fixture(params=["file", "memory"])
def source(request, tmp_path):
    """A real file, or one that the system knows nothing of."""
    if request.param == "memory":
        yield io.BytesIO(CONTENT)
    else:
        (tmp_path / "content").write_bytes(CONTENT)
        with open(tmp_path / "content", "rb") as file:
            yield file


@pytest.fixture
def file(tmp_path):
    (tmp_path / "content").write_bytes(CONTENT)
    with open(tmp_path / "content", "rb") as file:
        yield file


@pytest.fixture
def big(tmp_path):
    """Much more than a socket takes at once; mostly a hole."""
    with open(tmp_path / "big", "w+b") as file:
        file.truncate(BIG)
        file.write(b"start")
        file.seek(BIG - 3)
        file.write(b"end")
        file.seek(0)
        yield file


async def collect(loop, sock):
    """Everything until the peer ends."""
    got = bytearray()
    with contextlib.suppress(ConnectionError):
        while chunk := await loop.sock_recv(sock, 1 << 16):
            got += chunk
    return bytes(got)


async def collected_from(loop, send, kind=HalfOpen, family=socket.AF_UNIX):
    """(what a coroutine that sends returned, what arrived)."""
    async with connected(loop, kind, family) as (transport, _, peer):
        collecting = loop.create_task(collect(loop, peer))
        result = await send(transport)
        transport.close()
        return result, await collecting


# -- Over a transport --------------------------------------------------------------


PARTS = {
    "all": ((), CONTENT),
    "from an offset": ((1000,), CONTENT[1000:]),
    "a part": ((1000, 5000), CONTENT[1000:6000]),
    "more than there is": ((200_000, 1 << 20), CONTENT[200_000:]),
    "from behind the end": ((1 << 20,), b""),
    "up to the end": ((0, len(CONTENT)), CONTENT),
    "one byte": ((5, 1), CONTENT[5:6]),
    "None is all": ((0, None), CONTENT),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
async def test_parts_of_a_file(loop, source, part, family):
    args, expected = PARTS[part]

    async def send(transport):
        return await loop.sendfile(transport, source, *args)

    count, got = await collected_from(loop, send, family=family)
    assert count == len(expected)
    assert got == expected
    if count:
        assert source.tell() == (args[0] if args else 0) + count


async def test_the_position_of_the_file_does_not_matter(loop, file):
    file.seek(77)
    count, got = await collected_from(loop, lambda t: loop.sendfile(t, file))
    assert got == CONTENT


async def test_an_empty_file(loop, tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    with open(tmp_path / "empty", "rb") as file:
        result = await collected_from(loop, lambda t: loop.sendfile(t, file))
    assert result == (0, b"")


async def test_it_is_sent_between_writes(loop, source):
    """After what was buffered, before what comes later."""
    before = os.urandom(1 << 20)

    async def send(transport):
        transport.write(before)
        count = await loop.sendfile(transport, source)
        transport.write(b"after")
        await loop.sendfile(transport, source, 1, 3)
        return count

    count, got = await collected_from(loop, send)
    assert count == len(CONTENT)
    assert got == before + CONTENT + b"after" + CONTENT[1:4]


async def test_a_big_file_to_a_slow_reader(loop, big):
    async with connected(loop, Recorder, socket.AF_INET) as (transport, _, peer):
        sending = loop.create_task(loop.sendfile(transport, big))
        got = bytearray()
        while len(got) < BIG:
            got += await loop.sock_recv(peer, 1 << 14)
            await turns(2)
        assert await sending == BIG
        assert got[:5] == b"start" and got[-3:] == b"end"
        assert big.tell() == BIG
        assert transport.get_write_buffer_size() == 0


async def test_what_the_peer_sends_meanwhile_arrives(loop, big):
    async with connected(loop) as (transport, protocol, peer):
        sending = loop.create_task(loop.sendfile(transport, big))
        await turns(3)
        peer.send(b"hello")
        assert not transport.is_reading()
        await turns(3)
        assert protocol.data == b""
        got = 0
        while got < BIG:
            got += len(await loop.sock_recv(peer, 1 << 18))
        assert await sending == BIG
        assert transport.is_reading()
        assert await protocol.received(5) == b"hello"


async def test_a_paused_transport_stays_paused(loop, source):
    async def send(transport):
        transport.pause_reading()
        await loop.sendfile(transport, source)
        return transport.is_reading()

    assert (await collected_from(loop, send))[0] is False


async def test_the_loop_turns_meanwhile(loop, big):
    async with connected(loop) as (transport, _, peer):
        sending = loop.create_task(loop.sendfile(transport, big))
        for _ in range(10):
            await asyncio.sleep(0.001)
        assert not sending.done()
        while not sending.done():
            drain(peer)
            await turns(1)
        assert await sending == BIG


@pytest.mark.parametrize("method", ["write", "writelines"])
def test_writes_in_the_middle_are_refused(loop, tmp_path, method):
    def scenario(loop):
        async def main():
            with open(tmp_path / "big", "w+b") as file:
                file.truncate(BIG)
                async with connected(loop) as (transport, _, peer):
                    sending = loop.create_task(loop.sendfile(transport, file))
                    await turns(3)
                    try:
                        getattr(transport, method)(
                            [b"x"] * 2 if "s" in method else b"x"
                        )
                    finally:
                        while not sending.done():
                            drain(peer)
                            await turns(1)

        loop.run_until_complete(main())

    assert like_asyncio(loop, scenario)[1] is RuntimeError


async def test_a_second_one_in_the_middle_is_refused(loop, loop_name, big):
    if loop_name == "asyncio":
        pytest.skip("asyncio fails with a KeyError")
    async with connected(loop) as (transport, _, peer):
        sending = loop.create_task(loop.sendfile(transport, big))
        await turns(3)
        with pytest.raises(RuntimeError, match="Empty waiter is already set"):
            await loop.sendfile(transport, big, 0, 1)
        while not sending.done():
            drain(peer)
            await turns(1)
        assert await sending == BIG


# -- What cannot be sent -----------------------------------------------------------


BAD = {
    "text": lambda t, path: (t, open(path)),
    "count zero": lambda t, path: (t, open(path, "rb"), 0, 0),
    "negative count": lambda t, path: (t, open(path, "rb"), 0, -1),
    "negative offset": lambda t, path: (t, open(path, "rb"), -1),
    "offset text": lambda t, path: (t, open(path, "rb"), "0"),
    "offset float": lambda t, path: (t, open(path, "rb"), 1.0),
    "count float": lambda t, path: (t, open(path, "rb"), 0, 1.0),
    "count None": lambda t, path: (t, open(path, "rb"), None),
    "closed": lambda t, path: (t, closed_file(path)),
    "write only": lambda t, path: (t, open(path, "ab")),
    "no file": lambda t, path: (t, None),
    "number": lambda t, path: (t, 5),
    "string": lambda t, path: (t, io.StringIO("text")),
    "bytes": lambda t, path: (t, b"bytes"),
    "no transport": lambda t, path: (None, open(path, "rb")),
    "odd transport": lambda t, path: (asyncio.Transport(), open(path, "rb")),
}


def closed_file(path):
    with open(path, "rb") as file:
        return file


@pytest.mark.parametrize("fallback", [True, False], ids=["fallback", "native"])
@pytest.mark.parametrize("what", BAD)
def test_what_is_refused(loop, tmp_path, what, fallback):
    path = tmp_path / "content"
    path.write_bytes(CONTENT)

    def scenario(loop):
        async def main():
            async with connected(loop) as (transport, protocol, peer):
                args = BAD[what](transport, path)
                try:
                    with args[1] if hasattr(args[1], "close") else io.BytesIO():
                        await loop.sendfile(*args, fallback=fallback)
                finally:
                    transport.write(b"works")
                    assert await loop.sock_recv(peer, 10) == b"works"
                    peer.send(b"too")
                    await protocol.received(3)

        loop.run_until_complete(main())

    assert like_asyncio(loop, scenario)[0] == "raised"


@pytest.mark.parametrize("how", ["close", "abort", "lost"])
def test_a_closing_transport(loop, file, how):
    def scenario(loop):
        async def main():
            async with connected(loop) as (transport, protocol, _):
                getattr(transport, "abort" if how == "lost" else how)()
                if how == "lost":
                    await protocol.saw("lost")
                await loop.sendfile(transport, file)

        loop.run_until_complete(main())

    assert like_asyncio(loop, scenario) == (
        "raised",
        RuntimeError,
        "Transport is closing",
    )


@pytest.mark.parametrize("count", [None, 5])
def test_without_a_fallback(loop, count):
    """Memory has no descriptor."""

    def scenario(loop):
        async def main():
            async with connected(loop) as (transport, _, _):
                source = io.BytesIO(CONTENT)
                await loop.sendfile(transport, source, 0, count, fallback=False)

        loop.run_until_complete(main())

    kind, error, text = like_asyncio(loop, scenario)
    assert error is asyncio.SendfileNotAvailableError
    assert text == "not a regular file"


def test_after_write_eof(loop, file):
    def scenario(loop):
        async def main():
            async with connected(loop, HalfOpen) as (transport, _, _):
                transport.write_eof()
                await loop.sendfile(transport, file)

        loop.run_until_complete(main())

    assert like_asyncio(loop, scenario)[0] == "raised"


# -- Ends in the middle ------------------------------------------------------------


async def test_cancelled_in_the_middle(loop, big):
    """The connection serves on."""
    async with connected(loop) as (transport, protocol, peer):
        sending = loop.create_task(loop.sendfile(transport, big))
        await turns(5)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert transport.is_reading()
        transport.write(b"more")
        got = bytearray()
        while not got.endswith(b"more"):
            got += await loop.sock_recv(peer, 1 << 18)
        assert 4 < len(got) < BIG
        peer.send(b"hello")
        assert await protocol.received(5) == b"hello"
        again = loop.create_task(loop.sendfile(transport, big, 0, 5))
        assert await loop.sock_recv(peer, 10) == b"start"
        assert await again == 5


async def test_cancelled_at_once(loop, file):
    async with connected(loop) as (transport, _, peer):
        for wait in range(3):
            sending = loop.create_task(loop.sendfile(transport, file))
            await turns(wait)
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending
            drain(peer)
        transport.write(b"works")
        await until(lambda: drain(peer).endswith(b"works"))


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_the_transport_ends_in_the_middle(loop, loop_name, big, how):
    """Its descriptor may have a new owner by the time the sending is cancelled."""
    if loop_name == "asyncio":
        pytest.skip("asyncio mixes the two up")
    async with connected(loop) as (transport, protocol, _):
        sending = loop.create_task(loop.sendfile(transport, big))
        await turns(4)
        fd = transport.get_extra_info("socket").fileno()
        getattr(transport, how)()
        await protocol.saw("lost")
        assert protocol.exception is None
    async with connected(loop, Echo) as (transport, _, peer):
        assert transport.get_extra_info("socket").fileno() == fd
        await loop.sock_sendall(peer, b"one")
        assert await loop.sock_recv(peer, 10) == b"one"
        sending.cancel()
        await asyncio.wait([sending])
        await loop.sock_sendall(peer, b"two")
        assert await loop.sock_recv(peer, 10) == b"two"


@pytest.mark.parametrize("source", ["file", "memory"])
async def test_the_peer_goes_in_the_middle(loop, big, source):
    given = big if source == "file" else io.BytesIO(bytes(BIG))
    async with connected(loop, Recorder, socket.AF_INET) as (t, protocol, peer):
        sending = loop.create_task(loop.sendfile(t, given))
        await turns(5)
        peer.close()
        with pytest.raises((ConnectionError, BrokenPipeError)):
            await sending
        await protocol.saw("lost")


async def test_a_file_that_shrinks(loop, big):
    """Less is sent than there was."""
    async with connected(loop) as (transport, _, peer):
        sending = loop.create_task(loop.sendfile(transport, big))
        await turns(3)
        big.truncate(10)
        while not sending.done():
            drain(peer)
            await turns(1)
        assert 0 < await sending < BIG


# -- Over TLS ----------------------------------------------------------------------


def with_tls(test):
    for mark in QUIET_TLS:
        test = mark(test)
    return test


@with_tls
async def test_over_tls(loop, served, asked, source):
    """There is no other way than to read and to write."""
    async with connected_tls(loop, served, asked, Recorder) as (t, _, server):
        t.write(b"before")
        assert await loop.sendfile(t, source) == len(CONTENT)
        t.write(b"after")
        got = await server.received(len(CONTENT) + 11)
        assert got == b"before" + CONTENT + b"after"
        assert source.tell() == len(CONTENT)


@with_tls
async def test_a_part_over_tls(loop, served, asked, file):
    async with connected_tls(loop, served, asked, Recorder) as (t, _, server):
        assert await loop.sendfile(t, file, 1000, 5000) == 5000
        assert await server.received(5000) == CONTENT[1000:6000]
        assert file.tell() == 6000


@with_tls
async def test_a_big_file_over_tls_to_a_slow_reader(loop, served, asked, big):
    async with connected_tls(loop, served, asked, Recorder) as (t, _, server):
        server.transport.pause_reading()
        sending = loop.create_task(loop.sendfile(t, big))
        await turns(20)
        assert not sending.done()
        server.transport.resume_reading()
        assert await sending == BIG
        assert (await server.received(BIG)).endswith(b"end")


@with_tls
def test_no_native_sendfile_over_tls(loop, served, asked, file):
    def scenario(loop):
        async def main():
            async with connected_tls(loop, served, asked) as (transport, _, _):
                await loop.sendfile(transport, file, fallback=False)

        try:
            loop.run_until_complete(main())
        except RuntimeError as error:
            raise RuntimeError(str(error).partition("<")[0]) from None

    kind, error, text = like_asyncio(loop, scenario)
    assert text.startswith("fallback is disabled and native sendfile is not supported")


# -- Over a socket -----------------------------------------------------------------


@pytest.fixture(params=[socket.AF_UNIX, socket.AF_INET], ids=["unix", "tcp"])
def sockets(request):
    left, right = free_pair(request.param)
    with left, right:
        yield left, right


@pytest.mark.parametrize("part", PARTS)
async def test_parts_over_a_socket(loop, sockets, source, part):
    args, expected = PARTS[part]
    left, right = sockets
    collecting = loop.create_task(collect(loop, right))
    count = await loop.sock_sendfile(left, source, *args)
    left.close()
    assert await collecting == expected
    assert count == len(expected)
    if count:
        assert source.tell() == (args[0] if args else 0) + count


async def test_a_big_file_over_a_socket(loop, sockets, big):
    left, right = sockets
    collecting = loop.create_task(collect(loop, right))
    assert await loop.sock_sendfile(left, big) == BIG
    left.close()
    assert len(await collecting) == BIG


async def test_a_cancelled_send_stops_watching(loop, sockets, big):
    left, right = sockets
    sending = loop.create_task(loop.sock_sendfile(left, big))
    await turns(4)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert loop.remove_writer(left) is False
    left.close()
    assert 0 < len(await collect(loop, right)) < BIG


async def test_the_peer_of_a_socket_goes(loop, sockets, big):
    left, right = sockets
    sending = loop.create_task(loop.sock_sendfile(left, big))
    await turns(4)
    right.close()
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        await sending
    assert loop.remove_writer(left) is False


def datagram():
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.setblocking(False)
    return sock


def blocking():
    return socket.socketpair()[0]


BAD_SOCKET = {
    "text": lambda path: (free_pair()[0], open(path)),
    "count zero": lambda path: (free_pair()[0], open(path, "rb"), 0, 0),
    "negative offset": lambda path: (free_pair()[0], open(path, "rb"), -1),
    "offset text": lambda path: (free_pair()[0], open(path, "rb"), "0"),
    "datagram": lambda path: (datagram(), open(path, "rb")),
    "blocking": lambda path: (blocking(), open(path, "rb")),
    "no socket": lambda path: (None, open(path, "rb")),
    "no file": lambda path: (free_pair()[0], None),
    "closed file": lambda path: (free_pair()[0], closed_file(path)),
    "write only": lambda path: (free_pair()[0], open(path, "ab")),
    "memory": lambda path: (free_pair()[0], io.BytesIO(b"memory")),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("fallback", [True, False], ids=["fallback", "native"])
@pytest.mark.parametrize("debug", [True, False], ids=["debug", "plain"])
@pytest.mark.parametrize("what", BAD_SOCKET)
def test_what_is_refused_over_a_socket(loop, tmp_path, what, debug, fallback):
    path = tmp_path / "content"
    path.write_bytes(b"content")

    def scenario(loop):
        loop.set_debug(debug)
        args = BAD_SOCKET[what](path)
        try:
            return loop.run_until_complete(loop.sock_sendfile(*args, fallback=fallback))
        finally:
            for thing in args[:2]:
                if thing is not None:
                    thing.close()

    like_asyncio(loop, scenario)
