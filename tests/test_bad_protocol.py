"""Protocols that do what they should not, or at the worst of times.

Every callback of a protocol does everything that can be done to its transport and
its loop; what follows is held against asyncio's, and the loop still serves.
"""

import array
import asyncio
import contextlib
import gc
import socket

import pytest
from support import (
    PY,
    BufferedRecorder,
    HalfOpen,
    Recorder,
    connected,
    drain,
    free_pair,
    like_asyncio,
    reset,
    serving,
    text_of,
    told,
    turns,
    until,
)

BUSY = 1 << 20

pytestmark = pytest.mark.usefixtures("serves_afterwards")


# -- Everything at every time ------------------------------------------------------


def run_inside(protocol, transport, loop):
    coroutine = asyncio.sleep(0)
    try:
        loop.run_until_complete(coroutine)
    finally:
        coroutine.close()


def swap(protocol, transport, loop):
    """The successor writes to the same list."""
    successor = Recorder()
    successor.events = protocol.events
    successor.transport = transport
    transport.set_protocol(successor)


def forget(protocol, transport, loop):
    protocol.transport = None
    gc.collect()


def shut_socket(protocol, transport, loop):
    transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


DEEDS = {
    "close": lambda p, t, loop: t.close(),
    "abort": lambda p, t, loop: t.abort(),
    "close and abort": lambda p, t, loop: (t.close(), t.abort()),
    "pause": lambda p, t, loop: t.pause_reading(),
    "pause and resume": lambda p, t, loop: (t.pause_reading(), t.resume_reading()),
    "write": lambda p, t, loop: t.write(b"w" * 100),
    "write much": lambda p, t, loop: t.write(b"w" * BUSY),
    "write_eof": lambda p, t, loop: t.write_eof(),
    "writelines": lambda p, t, loop: t.writelines([b"a", b"b"]),
    "limits": lambda p, t, loop: t.set_write_buffer_limits(0),
    "swap": swap,
    "swap for None": lambda p, t, loop: t.set_protocol(None),
    "swap for buffered": lambda p, t, loop: t.set_protocol(BufferedRecorder()),
    "stop": lambda p, t, loop: loop.stop(),
    "close the loop": lambda p, t, loop: loop.close(),
    "run inside": run_inside,
    "forget": forget,
    "shut the socket": shut_socket,
    "watch": lambda p, t, loop: loop.add_reader(t.get_extra_info("socket"), int),
    "raise": lambda p, t, loop: 1 / 0,
}

PLAIN = ["connection_made", "data_received", "eof_received"]
FLOW = ["pause_writing", "resume_writing", "connection_lost"]
BUFFERED = ["get_buffer", "buffer_updated"]


def doing(base, method, deed):
    """A protocol that does something once, inside one of its callbacks."""

    def callback(self, *args):
        result = getattr(base, method)(self, *args)
        if not self.done:
            self.done = True
            deed(self, self.transport, asyncio.get_running_loop())
        return result

    return type("Doing", (base,), {method: callback, "done": False})


def drive(loop, coroutine):
    """Run to the end, however often somebody stops the loop."""
    task = loop.create_task(coroutine)
    while not task.done():
        try:
            loop.run_until_complete(task)
        except RuntimeError as error:
            if "stopped before" not in str(error):
                raise
    return task.result()


async def read_most(loop, peer, count):
    got = 0
    with contextlib.suppress(ConnectionError):
        while got < count and (chunk := await loop.sock_recv(peer, 1 << 18)):
            got += len(chunk)
    return got


async def life(loop, protocol_class):
    """A connection with data, flow control and an end."""
    story = []
    async with connected(loop, protocol_class) as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=10)
        with contextlib.suppress(ConnectionError):
            peer.send(b"hello")
        await turns(4)
        try:
            transport.write(bytes(BUSY))
        except RuntimeError as error:
            story.append(text_of(error))
        else:
            await read_most(loop, peer, BUSY)
        await turns(4)
        with contextlib.suppress(ConnectionError):
            peer.send(b"more")
        await turns(4)
        with contextlib.suppress(OSError):
            peer.shutdown(socket.SHUT_WR)
        await turns(8)
        story += [transport.is_closing(), bytes(protocol.data)]
        events, lost = protocol.events[:], text_of(protocol.exception)
        reports = told(loop)
    return [story, events, lost, reports, told(loop)]


def stumbles(method, deed):
    """asyncio's own code fails when it goes on after these."""
    ends = deed in ("close", "abort", "close and abort")
    return (method == "resume_writing" and ends) or (
        PY >= (3, 12) and (method, deed) == ("connection_lost", "writelines")
    )


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("base", [Recorder, HalfOpen])
@pytest.mark.parametrize("method", PLAIN + FLOW)
def test_inside_a_callback(loop, loop_name, method, base, deed):
    protocol = doing(base, method, DEEDS[deed])
    if stumbles(method, deed):
        if loop_name == "asyncio":
            pytest.skip("asyncio reports an AttributeError")
        assert drive(loop, life(loop, protocol))[2:] == [None, [], []]
        return
    if (method, deed) == ("connection_lost", "watch"):
        pytest.skip("the watch outlives the socket")
    if PY < (3, 11) and (method, deed) == ("connection_made", "pause"):
        pytest.skip("asyncio of 3.10 reads nevertheless")
    like_asyncio(loop, lambda loop: drive(loop, life(loop, protocol)))


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("method", BUFFERED)
def test_inside_a_callback_of_a_buffered_protocol(loop, method, deed):
    protocol = doing(BufferedRecorder, method, DEEDS[deed])
    like_asyncio(loop, lambda loop: drive(loop, life(loop, protocol)))


# -- Wrong buffers -----------------------------------------------------------------


class Unsized:
    pass


class NegativeSize(bytearray):
    def __len__(self):
        return -1  # noqa: PLE0303


class RaisingSize(bytearray):
    def __len__(self):
        raise LookupError("no length")


class Lies(bytearray):
    """Claims to have room."""

    def __len__(self):
        return 1000


BUFFERS = {
    "None": lambda: None,
    "number": lambda: 5,
    "text": lambda: "text",
    "bytes": lambda: b"read only",
    "read only": lambda: memoryview(bytearray(10)).toreadonly(),
    "every other": lambda: memoryview(bytearray(10))[::2],
    "wide": lambda: array.array("I", [0] * 4),
    "grid": lambda: memoryview(bytearray(12)).cast("B", (3, 4)),
    "empty": bytearray,
    "unsized": Unsized,
    "negative size": lambda: NegativeSize(5),
    "raising size": lambda: RaisingSize(5),
    "lies": Lies,
    "list": lambda: [0, 0],
}


@pytest.mark.parametrize("what", BUFFERS)
def test_wrong_buffers(loop, what):
    class Wrong(BufferedRecorder):
        def get_buffer(self, hint):
            return BUFFERS[what]()

        def buffer_updated(self, count):
            self.events.append(count)

    async def main(loop):
        async with connected(loop, Wrong) as (transport, protocol, peer):
            peer.send(b"hello")
            await turns(6)
            closing = transport.is_closing()
            transport.abort()
            await protocol.saw("lost")
            return [protocol.events, closing, text_of(protocol.exception), told(loop)]

    like_asyncio(loop, lambda loop: loop.run_until_complete(main(loop)))


# -- Wrong protocols ---------------------------------------------------------------


class NoCallbacks:
    """Has connection_made, for the rest it is no protocol."""

    def connection_made(self, transport):
        pass


class Numbers:
    """Attributes that are no methods."""

    connection_made = data_received = eof_received = connection_lost = 5


class Coroutines(Recorder):
    async def data_received(self, data):
        self.events.append("coroutine")


class Greedy(Recorder):
    def data_received(self):
        pass


class Both(BufferedRecorder, Recorder):
    """Buffered and not."""


PROTOCOLS = [NoCallbacks, Numbers, Coroutines, Greedy, Both]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("protocol_class", PROTOCOLS)
def test_wrong_protocols(loop, protocol_class):
    async def main(loop):
        async with connected(loop, protocol_class) as (transport, protocol, peer):
            peer.send(b"hello")
            await turns(4)
            peer.shutdown(socket.SHUT_WR)
            await turns(4)
            closing = transport.is_closing()
            transport.abort()
            await turns(4)
            return [getattr(protocol, "events", None), closing, told(loop)]

    like_asyncio(loop, lambda loop: loop.run_until_complete(main(loop)))


# -- Peers that go -----------------------------------------------------------------


async def test_a_peer_that_resets_in_the_middle_of_a_message(loop):
    """What had arrived was delivered; the rest is a ConnectionResetError."""
    async with connected(loop, Recorder, socket.AF_INET) as (_, protocol, peer):
        peer.send(b"half a mess")
        await protocol.received(11)
        reset(peer)
        await protocol.saw("lost")
        assert protocol.data == b"half a mess"
        assert type(protocol.exception) is ConnectionResetError


async def test_a_peer_that_resets_while_paused_is_seen_by_writing(loop):
    async with connected(loop, Recorder, socket.AF_INET) as (t, protocol, peer):
        t.pause_reading()
        await turns(2)
        reset(peer)
        while not t.is_closing():
            t.write(b"anybody there?")
            await turns(1)
        await protocol.saw("lost")
        assert isinstance(protocol.exception, (ConnectionResetError, BrokenPipeError))


async def test_peers_that_reset_while_being_sent_a_lot(loop):
    """From every state of the buffer."""
    for wait in range(12):
        async with connected(loop, Recorder, socket.AF_INET) as (t, protocol, peer):
            t.write(bytes(BUSY * 4))
            for _ in range(wait):
                drain(peer)
                await turns(1)
            reset(peer)
            t.write(b"more")
            await protocol.saw("lost")
            assert protocol.events.count("lost") == 1
            assert t.get_write_buffer_size() == 0


async def test_both_ends_close_at_once(loop):
    left, right = free_pair()
    one = (await loop.connect_accepted_socket(Recorder, left))[1]
    other = (await loop.connect_accepted_socket(Recorder, right))[1]
    one.transport.write(b"bye")
    other.transport.write(b"bye")
    one.transport.close()
    other.transport.close()
    await one.saw("lost")
    await other.saw("lost")
    assert one.exception is other.exception is None


async def test_a_server_that_closes_every_connection_at_once(loop):
    class Slams(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.abort()

    async with serving(loop, Slams) as (_, address):
        for _ in range(50):
            _, protocol = await loop.create_connection(Recorder, *address)
            await protocol.saw("lost")


async def test_a_client_that_closes_at_once(loop):
    served = []

    class Served(Recorder):
        def connection_lost(self, exception):
            served.append(exception)

    async with serving(loop, Served) as (_, address):
        for number in range(50):
            sock = socket.create_connection(address)
            if number % 2:
                reset(sock)
            else:
                sock.close()
        await until(lambda: len(served) >= 25)


# -- Descriptors under a transport's feet ------------------------------------------


async def test_the_socket_is_shut_down_by_somebody_else(loop):
    async with connected(loop) as (transport, protocol, _):
        transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        await protocol.saw("lost")
        assert protocol.events[-2:] == ["eof", "lost"]


def test_writing_to_a_socket_that_was_shut_down(loop):
    async def main(loop):
        async with connected(loop, HalfOpen) as (transport, protocol, _):
            transport.get_extra_info("socket").shutdown(socket.SHUT_WR)
            transport.write(b"x")
            await protocol.saw("lost")
            return [protocol.events, text_of(protocol.exception), told(loop)]

    like_asyncio(loop, lambda loop: loop.run_until_complete(main(loop)))


async def test_a_second_transport_of_one_socket(loop, loop_name):
    if loop_name == "asyncio" and PY < (3, 12):
        pytest.skip("asyncio spoils the first one")
    if PY >= (3, 14):
        pytest.skip("asyncio's connect_accepted_socket closes the socket")
    async with connected(loop) as (transport, protocol, peer):
        sock = transport.get_extra_info("socket")._sock
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.connect_accepted_socket(Recorder, sock)
        peer.send(b"still works")
        await protocol.received(11)
