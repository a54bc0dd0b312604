"""io/stream.c: a stream transport: reading, writing, the end, and every way to close."""

import array
import asyncio
import contextvars
import gc
import os
import socket
import warnings
import weakref

import pytest
from support import (
    PY,
    BufferedRecorder,
    Echo,
    HalfOpen,
    Recorder,
    connected,
    drain,
    free_pair,
    like_asyncio,
    message,
    reset,
    turns,
    until,
)

FAMILIES = [socket.AF_UNIX, socket.AF_INET]


@pytest.fixture(params=FAMILIES, ids=["unix", "tcp"])
def family(request):
    return request.param


# -- Reading -----------------------------------------------------------------------


async def test_what_the_peer_sends_arrives(loop, family):
    async with connected(loop, Recorder, family) as (_, protocol, peer):
        peer.send(b"hello")
        assert await protocol.received(5) == b"hello"


async def test_data_is_bytes(loop):
    kinds = []

    class Kinds(Recorder):
        def data_received(self, data):
            kinds.append(type(data))
            super().data_received(data)

    async with connected(loop, Kinds) as (_, protocol, peer):
        peer.send(b"x")
        await protocol.received(1)
        peer.send(bytes(100_000))
        await protocol.received(100_001)
    assert set(kinds) == {bytes}


async def test_chunks_that_are_kept_do_not_change(loop):
    """A read buffer that is used again must not show through."""
    chunks = []

    class Keep(Recorder):
        def data_received(self, data):
            chunks.append(data)
            super().data_received(data)

    async with connected(loop, Keep) as (_, protocol, peer):
        for number in range(50):
            peer.send(bytes([number]) * 100)
            await protocol.received((number + 1) * 100)
    assert b"".join(chunks) == b"".join(bytes([n]) * 100 for n in range(50))


async def test_much_data_both_ways(loop, family):
    data = os.urandom(1 << 22)
    async with connected(loop, Echo, family) as (_, protocol, peer):
        sending = loop.create_task(loop.sock_sendall(peer, data))
        got = bytearray()
        while len(got) < len(data):
            got += await loop.sock_recv(peer, 1 << 18)
        await sending
        assert got == data
        assert protocol.data == data


async def test_the_order_at_the_start(loop):
    """connection_made, then reading, then the caller: one after the other."""
    order = []

    class Ordered(Recorder):
        def connection_made(self, transport):
            order.append("made")
            super().connection_made(transport)

        def data_received(self, data):
            order.append("data")
            super().data_received(data)

    left, right = free_pair()
    right.send(b"early")
    transport, protocol = await loop.connect_accepted_socket(Ordered, left)
    order.append("returned")
    await protocol.received(5)
    assert order[0] == "made"
    assert set(order[1:]) == {"data", "returned"}
    transport.abort()
    await protocol.saw("lost")
    right.close()


async def test_pausing_in_connection_made_keeps_it_from_reading(loop, loop_name):
    if loop_name == "asyncio" and PY < (3, 11):
        pytest.skip("asyncio of 3.10 reads nevertheless")

    class Paused(Recorder):
        def connection_made(self, transport):
            transport.pause_reading()
            super().connection_made(transport)

    left, right = free_pair()
    right.send(b"early")
    transport, protocol = await loop.connect_accepted_socket(Paused, left)
    await turns(5)
    assert protocol.data == b""
    transport.resume_reading()
    assert await protocol.received(5) == b"early"
    transport.abort()
    await protocol.saw("lost")
    right.close()


async def test_pause_and_resume_reading(loop, family):
    async with connected(loop, Recorder, family) as (transport, protocol, peer):
        assert transport.is_reading() is True
        transport.pause_reading()
        assert transport.is_reading() is False
        transport.pause_reading()
        peer.send(b"hello")
        await turns(5)
        assert protocol.data == b""
        transport.resume_reading()
        assert transport.is_reading() is True
        transport.resume_reading()
        assert await protocol.received(5) == b"hello"


async def test_pausing_inside_data_received(loop):
    """Nothing more comes after it, though the kernel has more."""

    class Once(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()

    async with connected(loop, Once) as (transport, protocol, peer):
        peer.send(b"1")
        await protocol.received(1)
        peer.send(b"2")
        await turns(5)
        assert protocol.data == b"1"
        transport.resume_reading()
        assert await protocol.received(2) == b"12"


async def test_one_transport_does_not_starve_the_loop(loop):
    """A peer that never stops sending leaves the others their turn."""
    async with connected(loop) as (_, protocol, peer):
        stop = False

        async def flood():
            while not stop:
                await loop.sock_sendall(peer, bytes(1 << 16))

        task = loop.create_task(flood())
        for _ in range(20):
            await asyncio.sleep(0.001)
        stop = True
        await task
        await protocol.received(1)


# -- The end of the peer -----------------------------------------------------------


async def test_the_peer_ends_and_we_close(loop, family):
    async with connected(loop, Recorder, family) as (transport, protocol, peer):
        peer.send(b"last")
        peer.shutdown(socket.SHUT_WR)
        await protocol.saw("lost")
        assert protocol.events == ["made", "data", "eof", "lost"]
        assert protocol.exception is None
        assert transport.is_closing()


async def test_the_peer_ends_and_we_go_on_writing(loop, family):
    async with connected(loop, HalfOpen, family) as (transport, protocol, peer):
        peer.shutdown(socket.SHUT_WR)
        await protocol.saw("eof")
        await turns(3)
        assert not transport.is_closing()
        transport.write(b"still here")
        assert await loop.sock_recv(peer, 100) == b"still here"
        transport.close()
        await protocol.saw("lost")
        assert protocol.events.count("eof") == 1


async def test_what_was_buffered_is_sent_after_the_peers_end(loop):
    async with connected(loop) as (transport, protocol, peer):
        data = bytes(1 << 21)
        transport.write(data)
        peer.shutdown(socket.SHUT_WR)
        await protocol.saw("eof")
        got = 0
        while got < len(data):
            got += len(await loop.sock_recv(peer, 1 << 18))
        await protocol.saw("lost")
        assert protocol.exception is None


async def test_the_peer_resets(loop):
    async with connected(loop, Recorder, socket.AF_INET) as (_, protocol, peer):
        reset(peer)
        await protocol.saw("lost")
        assert type(protocol.exception) is ConnectionResetError
        assert protocol.events == ["made", "lost"]


async def test_the_peer_resets_while_we_write(loop):
    async with connected(loop, Recorder, socket.AF_INET) as (t, protocol, peer):
        t.pause_reading()
        t.write(bytes(1 << 24))
        reset(peer)
        await protocol.saw("lost")
        assert isinstance(protocol.exception, (ConnectionResetError, BrokenPipeError))
        assert t.get_write_buffer_size() == 0


# -- Writing -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_write_takes_bytes_of_all_kinds(loop, family, kind):
    async with connected(loop, Recorder, family) as (transport, _, peer):
        assert transport.write(kind(b"hello")) is None
        assert await loop.sock_recv(peer, 100) == b"hello"


async def test_write_of_wide_items(loop):
    numbers = array.array("q", range(10))
    async with connected(loop) as (transport, _, peer):
        transport.write(memoryview(numbers).cast("B"))
        assert await loop.sock_recv(peer, 100) == numbers.tobytes()


async def test_small_writes_keep_their_order(loop, family):
    async with connected(loop, Recorder, family) as (transport, _, peer):
        expected = b"".join(b"%d," % number for number in range(3000))
        for number in range(3000):
            transport.write(b"%d," % number)
        got = bytearray()
        while len(got) < len(expected):
            got += await loop.sock_recv(peer, 1 << 16)
        assert got == expected


async def test_writes_of_all_sizes_keep_their_order(loop, family):
    parts = [os.urandom(size) for size in (1, 100_000, 3, 0, 1 << 20, 7, 65536, 1)]
    expected = b"".join(parts)
    async with connected(loop, Recorder, family) as (transport, _, peer):
        for number, part in enumerate(parts):
            if number % 2:
                transport.write(bytearray(part))
            else:
                transport.writelines([part[:1], memoryview(part)[1:]])
        got = bytearray()
        while len(got) < len(expected):
            got += await loop.sock_recv(peer, 1 << 16)
        assert got == expected


async def test_writes_before_a_callback_arrive_before_it_ends(loop):
    """What is written in a turn leaves before the loop waits."""
    async with connected(loop) as (transport, _, peer):
        transport.write(b"a")
        transport.write(b"b")
        await turns(2)
        assert drain(peer) == b"ab"


async def test_write_of_nothing(loop):
    async with connected(loop) as (transport, _, peer):
        transport.write(b"")
        transport.writelines([])
        transport.writelines([b"", b""])
        await turns(3)
        assert drain(peer) == b""
        assert transport.get_write_buffer_size() == 0


@pytest.mark.parametrize("lines", [[b"a", b"bc"], (b"a", bytearray(b"bc")), None])
async def test_writelines_takes_any_iterable(loop, family, lines):
    async with connected(loop, Recorder, family) as (transport, _, peer):
        transport.writelines(lines or iter([b"a", memoryview(b"bc")]))
        await turns(2)
        assert drain(peer) == b"abc"


async def test_writelines_of_more_parts_than_one_call_takes(loop):
    """Over IOV_MAX (1024) parts."""
    parts = [b"%05d" % number for number in range(5000)]
    async with connected(loop) as (transport, _, peer):
        transport.writelines(parts)
        got = bytearray()
        while len(got) < 25_000:
            got += await loop.sock_recv(peer, 1 << 16)
        assert got == b"".join(parts)


async def test_a_buffer_changed_after_write_while_nothing_waits(loop):
    async with connected(loop) as (transport, _, peer):
        data = bytearray(b"before")
        transport.write(data)
        data[:] = b"after!"
        await turns(2)
        assert drain(peer) == b"before"


@pytest.mark.parametrize("data", [None, "text", 1, [b"x"], ...], ids=repr)
def test_write_of_what_is_no_bytes(loop, data):
    def scenario(loop):
        async def main():
            async with connected(loop) as (transport, protocol, peer):
                try:
                    transport.write(data)
                finally:
                    transport.write(b"works")
                    await turns(2)
                    assert drain(peer) == b"works"

        loop.run_until_complete(main())

    assert like_asyncio(loop, scenario)[1] is TypeError


@pytest.mark.parametrize("lines", [1, ["text"], [b"x", 1], [None], "text"], ids=repr)
def test_writelines_of_what_is_no_bytes(loop, lines):
    if lines == [None] and PY >= (3, 14):
        pytest.skip("asyncio leaves out what is false, whatever it is")

    def scenario(loop):
        async def main():
            async with connected(loop) as (transport, protocol, peer):
                transport.writelines(lines)

        loop.run_until_complete(main())

    assert like_asyncio(loop, scenario)[1] is TypeError


# -- Our end -----------------------------------------------------------------------


async def test_write_eof(loop, family):
    async with connected(loop, HalfOpen, family) as (transport, protocol, peer):
        assert transport.can_write_eof() is True
        transport.write(b"last")
        assert transport.write_eof() is None
        assert transport.write_eof() is None
        assert await loop.sock_recv(peer, 100) == b"last"
        assert await loop.sock_recv(peer, 100) == b""
        await loop.sock_sendall(peer, b"answer")
        assert await protocol.received(6) == b"answer"


async def test_write_eof_waits_for_the_buffer(loop, family):
    data = bytes(1 << 22)
    async with connected(loop, HalfOpen, family) as (transport, _, peer):
        transport.write(data)
        transport.write_eof()
        got = 0
        while chunk := await loop.sock_recv(peer, 1 << 18):
            got += len(chunk)
        assert got == len(data)


async def test_write_after_write_eof(loop):
    async with connected(loop, HalfOpen) as (transport, _, peer):
        transport.write_eof()
        for call in (lambda: transport.write(b"x"), lambda: transport.write(b"")):
            with pytest.raises(RuntimeError) as info:
                call()
            assert message(info) == "Cannot call write() after write_eof()"


def test_writelines_after_write_eof(loop):
    def scenario(loop):
        async def main():
            async with connected(loop, HalfOpen) as (transport, _, peer):
                transport.write_eof()
                transport.writelines([b"x"])

        loop.run_until_complete(main())

    like_asyncio(loop, scenario)


async def test_write_eof_when_closing(loop):
    async with connected(loop) as (transport, protocol, _):
        transport.close()
        transport.write_eof()
        await protocol.saw("lost")
        transport.write_eof()
        assert protocol.exception is None


# -- Closing -----------------------------------------------------------------------


async def test_close_loses_the_connection_later_and_once(loop, family):
    async with connected(loop, Recorder, family) as (transport, protocol, peer):
        assert transport.is_closing() is False
        transport.close()
        transport.close()
        assert transport.is_closing() is True
        assert transport.is_reading() is False
        assert protocol.events == ["made"]
        await protocol.saw("lost")
        await turns(3)
        assert protocol.events == ["made", "lost"]
        assert protocol.exception is None
        assert await loop.sock_recv(peer, 10) == b""


async def test_close_sends_what_is_buffered(loop, family):
    data = os.urandom(1 << 22)
    async with connected(loop, Recorder, family) as (transport, protocol, peer):
        transport.write(data)
        transport.close()
        assert transport.get_write_buffer_size() > 0
        got = bytearray()
        while chunk := await loop.sock_recv(peer, 1 << 18):
            got += chunk
        assert got == data
        await protocol.saw("lost")


async def test_a_write_after_close_while_data_waits_is_sent(loop):
    async with connected(loop) as (transport, _, peer):
        transport.write(bytes(1 << 22))
        transport.close()
        transport.write(b"after")
        got = bytearray()
        while chunk := await loop.sock_recv(peer, 1 << 18):
            got += chunk
        assert len(got) == (1 << 22) + 5
        assert got.endswith(b"after")


async def test_writes_after_the_end_are_dropped_and_warned_of(loop, caplog):
    """Never an exception; a warning from the fifth on."""
    async with connected(loop) as (transport, protocol, peer):
        transport.close()
        await protocol.saw("lost")
        for _ in range(8):
            transport.write(b"dropped")
        assert drain(peer) == b""
    texts = [r.getMessage() for r in caplog.records if r.name == "asyncio"]
    assert texts == ["socket.send() raised exception."] * 4


async def test_close_stops_reading_at_once(loop):
    async with connected(loop) as (transport, protocol, peer):
        transport.write(bytes(1 << 22))
        transport.close()
        peer.send(b"too late")
        await turns(5)
        assert protocol.data == b""


async def test_abort_drops_what_is_buffered(loop, family):
    async with connected(loop, Recorder, family) as (transport, protocol, peer):
        transport.write(bytes(1 << 24))
        assert transport.get_write_buffer_size() > 0
        transport.abort()
        transport.abort()
        assert transport.get_write_buffer_size() == 0
        assert transport.is_closing()
        assert protocol.events[-1] != "lost"
        await protocol.saw("lost")
        assert protocol.exception is None
        assert len(drain(peer)) < 1 << 24


async def test_abort_after_close(loop):
    async with connected(loop) as (transport, protocol, _):
        transport.write(bytes(1 << 24))
        transport.close()
        transport.abort()
        await protocol.saw("lost")
        assert protocol.events.count("lost") == 1


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("where", ["connection_made", "data_received", "eof_received"])
async def test_ending_inside_a_callback(loop, end, where):
    class Ender(Recorder):
        pass

    def callback(self, *args):
        getattr(Recorder, where)(self, *args)
        getattr(self.transport, end)()

    setattr(Ender, where, callback)
    async with connected(loop, Ender) as (_, protocol, peer):
        if where != "connection_made":
            peer.send(b"x")
            peer.shutdown(socket.SHUT_WR)
        await protocol.saw("lost")
        assert protocol.exception is None
        assert protocol.events.count("lost") == 1


async def test_the_socket_is_closed_after_connection_lost(loop):
    left, right = free_pair()
    transport, protocol = await loop.connect_accepted_socket(Recorder, left)
    seen = []
    lost = protocol.connection_lost
    protocol.connection_lost = lambda exc: (seen.append(left.fileno()), lost(exc))
    transport.close()
    await until(lambda: left.fileno() == -1)
    assert seen[0] >= 0
    right.close()


async def test_after_the_end_every_method_is_harmless(loop):
    async with connected(loop) as (transport, protocol, _):
        transport.close()
        await protocol.saw("lost")
        await turns(2)
        transport.pause_reading()
        transport.resume_reading()
        transport.close()
        transport.abort()
        transport.write(b"x")
        assert transport.is_closing() is True
        assert transport.is_reading() is False
        assert transport.get_write_buffer_size() == 0
        assert repr(transport)


# -- Protocols ---------------------------------------------------------------------


async def test_set_protocol(loop):
    async with connected(loop) as (transport, first, peer):
        assert transport.get_protocol() is first
        peer.send(b"one")
        await first.received(3)
        second = Recorder()
        assert transport.set_protocol(second) is None
        assert transport.get_protocol() is second
        peer.send(b"two")
        assert await second.received(3) == b"two"
        assert first.data == b"one"
        transport.close()
        await second.saw("lost")
        assert "lost" not in first.events
        transport.set_protocol(first)


async def test_set_protocol_inside_data_received(loop):
    second = Recorder()

    class First(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.set_protocol(second)

    async with connected(loop, First) as (_, first, peer):
        peer.send(b"1")
        await first.received(1)
        peer.send(b"22")
        assert await second.received(2) == b"22"


async def test_a_buffered_protocol_reads_into_its_own_buffer(loop, family):
    def factory():
        return BufferedRecorder(7)

    async with connected(loop, factory, family) as (_, protocol, peer):
        peer.send(b"hello, world")
        assert await protocol.received(12) == b"hello, world"
        assert set(protocol.hints) == {-1}
        peer.shutdown(socket.SHUT_WR)
        await protocol.saw("lost")
        assert protocol.events[-2:] == ["eof", "lost"]


async def test_a_buffered_protocol_gives_a_new_buffer_each_time(loop):
    class Fresh(BufferedRecorder):
        def get_buffer(self, hint):
            self.buffer = memoryview(bytearray(5))
            return self.buffer

    async with connected(loop, Fresh) as (_, protocol, peer):
        peer.send(b"abcdefghijkl")
        assert await protocol.received(12) == b"abcdefghijkl"


async def test_a_buffered_protocols_buffer_is_free_between_calls(loop):
    """It may be resized in buffer_updated: nothing may still hold it."""

    class Growing(BufferedRecorder):
        def buffer_updated(self, count):
            super().buffer_updated(count)
            self.buffer.extend(bytes(16))

    async with connected(loop, lambda: Growing(4)) as (_, protocol, peer):
        peer.send(bytes(100))
        await protocol.received(100)


async def test_from_protocol_to_buffered_protocol_and_back(loop):
    async with connected(loop) as (transport, plain, peer):
        buffered = BufferedRecorder(4)
        peer.send(b"1")
        await plain.received(1)
        transport.set_protocol(buffered)
        peer.send(b"22")
        assert await buffered.received(2) == b"22"
        transport.set_protocol(plain)
        peer.send(b"333")
        assert await plain.received(4) == b"1333"


async def test_an_empty_buffer_is_fatal(loop, reports):
    class Empty(BufferedRecorder):
        def get_buffer(self, hint):
            return bytearray()

    async with connected(loop, Empty) as (_, protocol, peer):
        peer.send(b"x")
        await protocol.saw("lost")
    text = "get_buffer() returned an empty buffer"
    assert str(protocol.exception) == text
    assert type(protocol.exception) is RuntimeError
    report = reports.take_one()
    assert report["message"] == "Fatal error: protocol.get_buffer() call failed."


async def test_callbacks_run_in_the_context_of_the_connection(loop):
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []

    class Look(Recorder):
        def data_received(self, data):
            seen.append(variable.get())
            super().data_received(data)

        def connection_lost(self, exception):
            seen.append(variable.get())
            super().connection_lost(exception)

    variable.set("creator")
    async with connected(loop, Look) as (transport, protocol, peer):
        variable.set("changed since")
        peer.send(b"x")
        await protocol.received(1)
        transport.close()
        await protocol.saw("lost")
    assert seen[0] == "creator"


# -- What a transport tells --------------------------------------------------------


async def test_it_is_an_asyncio_transport(loop):
    async with connected(loop) as (transport, _, _):
        assert isinstance(transport, asyncio.Transport)
        transport.anything = 1
        assert transport.anything == 1


async def test_extra_info_of_tcp(loop):
    async with connected(loop, Recorder, socket.AF_INET) as (transport, _, peer):
        assert transport.get_extra_info("peername") == peer.getsockname()
        assert transport.get_extra_info("sockname") == peer.getpeername()
        assert transport.get_extra_info("nothing") is None
        assert transport.get_extra_info("nothing", 5) == 5
        sock = transport.get_extra_info("socket")
        assert sock.family == socket.AF_INET
        assert sock.type == socket.SOCK_STREAM
        assert sock.getsockname() == peer.getpeername()
        assert sock.getpeername() == peer.getsockname()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        assert sock.fileno() >= 0
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        with sock.dup() as twin:
            assert twin.getsockname() == sock.getsockname()


async def test_extra_info_of_unix(loop):
    async with connected(loop) as (transport, _, _):
        assert transport.get_extra_info("socket").family == socket.AF_UNIX
        assert transport.get_extra_info("peername") == ""
        assert transport.get_extra_info("sockname") == ""


async def test_extra_info_stays_after_the_end(loop):
    async with connected(loop, Recorder, socket.AF_INET) as (transport, protocol, peer):
        name = peer.getsockname()
        transport.close()
        await protocol.saw("lost")
        await turns(2)
        assert transport.get_extra_info("peername") == name


async def test_the_socket_of_extra_info_is_a_transport_socket(loop):
    async with connected(loop) as (transport, _, _):
        sock = transport.get_extra_info("socket")
        assert type(sock).__name__ == "TransportSocket"
        with pytest.raises(ValueError, match="only 0 timeout is allowed"):
            sock.settimeout(5)


async def test_repr_tells_the_state(loop):
    async with connected(loop) as (transport, protocol, _):
        fd = transport.get_extra_info("socket").fileno()
        assert f"fd={fd}" in repr(transport)
        assert "read=" in repr(transport) and "write=<" in repr(transport)
        assert "bufsize=0" in repr(transport)
        transport.write(bytes(1 << 24))
        transport.close()
        assert "closing" in repr(transport)
        transport.abort()
        await protocol.saw("lost")
        await turns(2)
        assert "closed" in repr(transport)


async def test_a_forgotten_transport_warns_and_closes(loop):
    left, right = free_pair()
    transport, protocol = await loop.connect_accepted_socket(Recorder, left)
    transport.pause_reading()
    await turns(2)
    protocol.transport = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del transport, left
        gc.collect()
        await turns(2)
    texts = [str(warning.message) for warning in caught]
    assert any(text.startswith("unclosed transport <") for text in texts), texts
    assert caught[0].category is ResourceWarning
    assert await loop.sock_recv(right, 10) == b""
    right.close()


async def test_what_a_forgotten_protocol_schedules_runs(loop):
    """The loop does not fall asleep over it."""
    gone = loop.create_future()

    class Forgotten(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = weakref.ref(transport)

        def data_received(self, data):
            self.transport().pause_reading()
            loop.call_soon(gc.collect)

        def __del__(self):
            loop.call_soon(gone.set_result, None)

    left, right = free_pair()
    with right, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        await loop.connect_accepted_socket(Forgotten, left)
        del left
        right.send(b"x")
        await gone
