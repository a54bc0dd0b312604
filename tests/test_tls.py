"""TLS: the standard library's protocol over our transports, at both ends."""

import asyncio
import contextlib
import os
import socket
import ssl
import threading

import pytest
from support import (
    EVERY_TLS,
    PY,
    QUIET_TLS,
    BufferedRecorder,
    Echo,
    HalfOpen,
    Recorder,
    connected_tls,
    ends,
    free_pair,
    like_asyncio,
    reset,
    serving,
    text_of,
    told,
    turns,
    until,
)

pytestmark = [*QUIET_TLS, EVERY_TLS]


# -- Data --------------------------------------------------------------------------


async def test_echo(loop, served, asked):
    async with connected_tls(loop, served, asked) as (transport, protocol, _):
        transport.write(b"hello")
        assert await protocol.received(5) == b"hello"
        transport.writelines([b", ", bytearray(b"wor"), memoryview(b"ld")])
        assert await protocol.received(12) == b"hello, world"


async def test_a_megabyte_both_ways(loop, served, asked):
    data = os.urandom(1 << 20)
    async with connected_tls(loop, served, asked) as (transport, protocol, server):
        transport.write(data)
        assert await protocol.received(len(data)) == data
        assert server.data == data


async def test_many_small_writes(loop, served, asked):
    async with connected_tls(loop, served, asked) as (transport, protocol, _):
        expected = b"".join(b"%d," % number for number in range(2000))
        for number in range(2000):
            transport.write(b"%d," % number)
        assert await protocol.received(len(expected)) == expected


async def test_thirty_clients_at_once(loop, served, asked):
    async def talk(address, data):
        transport, protocol = await loop.create_connection(
            Recorder, *address, ssl=asked, server_hostname="localhost"
        )
        transport.write(data)
        got = await protocol.received(len(data))
        transport.close()
        await protocol.saw("lost")
        return got

    async with serving(loop, ssl=served) as (_, address):
        words = [b"%03d" % number for number in range(30)]
        assert await asyncio.gather(*(talk(address, word) for word in words)) == words
        await turns(5)


class ViewRecorder(BufferedRecorder):
    """asyncio's TLS cuts the buffer it is given; of a bytearray that makes a copy."""

    def get_buffer(self, hint):
        return memoryview(super().get_buffer(hint))


async def test_a_buffered_protocol(loop, served, asked):
    async with connected_tls(loop, served, asked, client=ViewRecorder) as (t, p, _):
        data = os.urandom(100_000)
        t.write(data)
        assert await p.received(len(data)) == data


async def test_set_protocol(loop, served, asked):
    async with connected_tls(loop, served, asked) as (transport, first, _):
        second = Recorder()
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        transport.write(b"hello")
        assert await second.received(5) == b"hello"
        assert first.data == b""


async def test_pause_and_resume_reading(loop, served, asked):
    async with connected_tls(loop, served, asked) as (transport, protocol, server):
        assert transport.is_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        transport.write(b"hello")
        await server.received(5)
        await turns(5)
        assert protocol.data == b""
        transport.resume_reading()
        assert await protocol.received(5) == b"hello"


async def test_flow_control(loop, served, asked):
    """A peer that does not read makes the writer pause."""
    async with connected_tls(loop, served, asked, server=Recorder) as (
        t,
        protocol,
        server,
    ):
        t.set_write_buffer_limits(high=1000, low=100)
        assert t.get_write_buffer_size() == 0
        server.transport.pause_reading()
        total = 0
        while "pause" not in protocol.events:
            t.write(bytes(1 << 18))
            total += 1 << 18
            await turns(2)
        server.transport.resume_reading()
        await server.received(total)
        await protocol.saw("resume")


async def test_over_a_unix_socket(loop, served, asked, tmp_path):
    path = str(tmp_path / "sock")
    server = await loop.create_unix_server(Echo, path, ssl=served)
    transport, protocol = await loop.create_unix_connection(
        Recorder, path, ssl=asked, server_hostname="localhost"
    )
    transport.write(b"hello")
    assert await protocol.received(5) == b"hello"
    transport.close()
    await protocol.saw("lost")
    server.close()
    await turns(5)


async def test_connect_accepted_socket(loop, served, asked):
    left, right = free_pair()
    accepting = loop.create_task(loop.connect_accepted_socket(Echo, left, ssl=served))
    transport, protocol = await loop.create_connection(
        Recorder, sock=right, ssl=asked, server_hostname="localhost"
    )
    transport.write(b"hello")
    assert await protocol.received(5) == b"hello"
    server = (await accepting)[1]
    transport.close()
    await protocol.saw("lost")
    await server.saw("lost")
    await turns(3)


def chat_in_thread(address, asked, got):
    with socket.create_connection(address, timeout=20) as sock:
        with asked.wrap_socket(sock, server_hostname="localhost") as tls_sock:
            tls_sock.sendall(b"x" * 100_000)
            while sum(map(len, got)) < 100_000:
                got.append(tls_sock.recv(1 << 16))


async def test_with_another_implementation(loop, served, asked):
    """A blocking client, in a thread."""
    got = []
    async with serving(loop, ssl=served) as (_, address):
        thread = threading.Thread(target=chat_in_thread, args=(address, asked, got))
        thread.start()
        await until(lambda: not thread.is_alive())
        thread.join()
        await turns(5)
    assert b"".join(got) == b"x" * 100_000


# -- What a transport tells --------------------------------------------------------


async def test_extra_info(loop, served, asked):
    async with connected_tls(loop, served, asked) as (transport, _, server):
        info = transport.get_extra_info
        names = [value for (((_, value),),) in [info("peercert")["subject"]]]
        assert names == ["localhost"]
        assert info("cipher")[1].startswith("TLS")
        assert isinstance(info("ssl_object"), ssl.SSLObject)
        assert info("sslcontext") is asked
        assert info("compression") is None
        assert info("ssl_object").server_hostname == "localhost"
        there = server.transport.get_extra_info
        assert info("peername") == there("sockname")
        assert info("sockname") == there("peername")
        assert info("socket").fileno() >= 0
        assert there("sslcontext") is served
        assert info("nothing", 5) == 5


async def test_it_is_no_raw_transport(loop, served, asked):
    async with connected_tls(loop, served, asked) as (transport, _, _):
        assert isinstance(transport, asyncio.Transport)
        assert transport.can_write_eof() is False
        with pytest.raises(NotImplementedError):
            transport.write_eof()
        assert not transport.is_closing()


@pytest.mark.parametrize("data", ["text", None, 5, [b"x"]], ids=repr)
def test_write_of_what_is_no_bytes(loop, served, asked, data):
    def scenario(loop):
        async def main():
            async with connected_tls(loop, served, asked) as (transport, _, _):
                transport.write(data)

        loop.run_until_complete(main())

    assert like_asyncio(loop, scenario)[1] is TypeError


# -- The end -----------------------------------------------------------------------


async def test_close_sends_what_is_buffered(loop, served, asked):
    data = os.urandom(1 << 20)
    async with connected_tls(loop, served, asked, server=Recorder) as (
        t,
        protocol,
        server,
    ):
        t.write(data)
        t.close()
        assert t.is_closing()
        await server.saw("lost")
        assert server.data == data
        # The TLS of 3.10 tells of no end.
        assert ("eof" in server.events) is (PY >= (3, 11))
        await protocol.saw("lost")
        assert protocol.exception is None
        assert server.exception is None


async def test_both_ends_close_at_once(loop, served, asked):
    async with connected_tls(loop, served, asked) as (transport, protocol, server):
        transport.close()
        server.transport.close()
        await protocol.saw("lost")
        await server.saw("lost")
        assert protocol.exception is server.exception is None


async def test_abort(loop, served, asked):
    async with connected_tls(loop, served, asked, server=Recorder) as (
        t,
        protocol,
        server,
    ):
        server.transport.pause_reading()
        t.write(bytes(1 << 24))
        t.abort()
        await protocol.saw("lost")
        assert protocol.exception is None
        server.transport.resume_reading()
        await server.saw("lost")
        assert len(server.data) < 1 << 24


async def test_writes_after_the_end_are_dropped(loop, served, asked):
    async with connected_tls(loop, served, asked) as (transport, protocol, _):
        transport.close()
        await protocol.saw("lost")
        for _ in range(8):
            transport.write(b"dropped")
        transport.close()
        transport.abort()
        assert transport.is_closing()


@pytest.mark.skipif(PY < (3, 11), reason="the TLS of 3.10 tells of no end")
async def test_eof_can_not_be_kept_open(loop, served, asked, caplog):
    async with connected_tls(loop, served, asked, client=HalfOpen) as (
        _,
        protocol,
        server,
    ):
        server.transport.close()
        await protocol.saw("lost")
        assert "eof" in protocol.events
    text = "returning true from eof_received() has no effect when using ssl"
    assert text in [record.getMessage() for record in caplog.records]


def shaken_hands(asked, address):
    """A blocking TLS client."""
    sock = socket.create_connection(address, timeout=20)
    return asked.wrap_socket(sock, server_hostname="localhost")


@pytest.mark.parametrize("how", ["notified", "cut", "reset"])
def test_ways_to_go(loop, served, asked, how):
    """With a goodbye, without one, and by force."""

    async def main(loop):
        factory, made = ends(Recorder)
        async with serving(loop, factory, ssl=served) as (_, address):
            sock = await asyncio.to_thread(shaken_hands, asked, address)
            sock.sendall(b"hello")
            await until(lambda: made and made[0].data == b"hello")
            if how == "notified":
                with contextlib.suppress(OSError):
                    await asyncio.to_thread(sock.unwrap)
                sock.close()
            elif how == "cut":
                sock.close()
            else:
                reset(sock)
            await made[0].saw("lost")
            await turns(3)
            return [made[0].events, text_of(made[0].exception), told(loop)]

    like_asyncio(loop, lambda loop: loop.run_until_complete(main(loop)))


@pytest.mark.skipif(PY < (3, 11), reason="ssl_shutdown_timeout is new in 3.11")
def test_a_peer_that_never_says_goodbye(loop, served, asked):
    async def main(loop):
        factory, made = ends(Recorder)
        kwargs = {"ssl": served, "ssl_shutdown_timeout": 0.05}
        async with serving(loop, factory, **kwargs) as (_, address):
            sock = await asyncio.to_thread(shaken_hands, asked, address)
            with sock:
                sock.sendall(b"hello")
                await until(lambda: made and made[0].data == b"hello")
                made[0].transport.close()
                await made[0].saw("lost")
                await turns(3)
                return [made[0].events, text_of(made[0].exception), told(loop)]

    like_asyncio(loop, lambda loop: loop.run_until_complete(main(loop)))


CALLBACKS = ["connection_made", "data_received", "eof_received", "connection_lost"]


@pytest.mark.parametrize("where", CALLBACKS)
def test_a_protocol_that_raises(loop, served, asked, where):
    def fail(self, *args):
        getattr(Recorder, where)(self, *args)
        raise LookupError(where)

    broken = type("Broken", (Recorder,), {where: fail})

    async def main(loop):
        async with connected_tls(loop, served, asked, client=broken) as (
            t,
            protocol,
            server,
        ):
            server.transport.write(b"hello")
            await turns(10)
            server.transport.close()
            await turns(10)
        return [protocol.events, text_of(protocol.exception), told(loop)]

    like_asyncio(loop, lambda loop: loop.run_until_complete(main(loop)))
    loop.reports.clear()


# -- Streams -----------------------------------------------------------------------


async def shout(reader, writer):
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def shouting(handle=shout, **kwargs):
    server = await asyncio.start_server(handle, "127.0.0.1", 0, **kwargs)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
        await turns(5)


async def test_streams(loop, served, asked):
    async with shouting(ssl=served) as address:
        reader, writer = await asyncio.open_connection(
            *address, ssl=asked, server_hostname="localhost"
        )
        for line in (b"one\n", b"two" * 10_000 + b"\n"):
            writer.write(line)
            await writer.drain()
            assert await reader.readline() == line.upper()
        assert writer.get_extra_info("cipher")
        assert writer.can_write_eof() is False
        writer.close()
        await writer.wait_closed()
        assert reader.at_eof()


async def test_a_stream_ends_with_its_peer(loop, served, asked):
    async def handle(reader, writer):
        writer.write(b"bye")
        await writer.drain()
        writer.close()

    async with shouting(handle, ssl=served) as address:
        reader, writer = await asyncio.open_connection(
            *address, ssl=asked, server_hostname="localhost"
        )
        assert await reader.read() == b"bye"
        writer.close()
        await writer.wait_closed()


@pytest.mark.skipif(PY < (3, 11), reason="StreamWriter.start_tls is new in 3.11")
async def test_start_tls_of_streams(loop, served, asked):
    ended = loop.create_future()

    async def handle(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go\n")
        await writer.start_tls(served)
        encrypted = writer.get_extra_info("cipher") is not None
        await shout(reader, writer)
        ended.set_result(encrypted)

    async with shouting(handle) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"go\n"
        await writer.start_tls(asked, server_hostname="localhost")
        writer.write(b"quietly\n")
        assert await reader.readline() == b"QUIETLY\n"
        writer.close()
        await writer.wait_closed()
        assert await ended
