"""io/hold.c: pieces that are written in one go leave together, and nobody can tell."""

import asyncio
import contextlib
import os
import random
import socket
import struct
import threading

import pytest
from support import (
    LOOPS,
    Recorder,
    connected,
    connected_tls,
    drain,
    like_asyncio,
    told,
    turns,
    until,
)

KIB = 1024
# struct tcp_info of Linux: tcpi_data_segs_out.
DATA_SEGMENTS_OUT = 156
CALLBACKS_AT_MOST = 16


async def teach(transport, peer):
    """Write twice in a row: from now on this transport expects more pieces."""
    for _ in range(2):
        transport.write(b"one")
        transport.write(b"two")
        transport.get_write_buffer_size()
        await turns(1)
    assert drain(peer) == b"onetwo" * 2


@contextlib.asynccontextmanager
async def piecewise(loop, family=socket.AF_UNIX, factory=Recorder):
    """(transport, protocol, peer) of a transport that is written to in pieces."""
    async with connected(loop, factory, family) as (transport, protocol, peer):
        if family == socket.AF_UNIX:
            await teach(transport, peer)
        yield transport, protocol, peer


async def called(loop, function, *args):
    """Run it as a callback of its own; its result."""
    future = loop.create_future()

    def call():
        try:
            future.set_result(function(*args))
        except Exception as error:  # handed to whoever waits
            future.set_exception(error)

    loop.call_soon(call)
    return await future


# -- Together ----------------------------------------------------------------------

only_here = pytest.mark.skipif("asyncfast" not in LOOPS, reason="of asyncfast alone")


def segments(transport):
    sock = transport.get_extra_info("socket")
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return struct.unpack_from("I", info, DATA_SEGMENTS_OUT)[0]


@pytest.fixture
def fast_loop():
    import asyncfast

    loop = asyncfast.new_event_loop()
    yield loop
    loop.close()


async def segments_of(loop, *callbacks):
    """TCP segments that leave for what these callbacks write, all of one turn."""
    async with connected(loop, Recorder, socket.AF_INET) as (transport, _, peer):
        for _ in range(3):
            before = segments(transport)
            for callback in callbacks:
                loop.call_soon(callback, transport)
            await turns(2)
            count = segments(transport) - before
            await until(lambda: drain(peer))
        return count


def write_pieces(count, size=10):
    def write(transport):
        for _ in range(count):
            transport.write(bytes(size))

    return write


@only_here
@pytest.mark.parametrize("count", [2, 3, 100, 1500])
def test_pieces_of_a_callback_leave_together(fast_loop, count):
    used = fast_loop.run_until_complete(segments_of(fast_loop, write_pieces(count)))
    assert used <= 1 + count // 1024


@only_here
def test_pieces_of_a_turn_leave_together(fast_loop):
    callbacks = [write_pieces(1)] * CALLBACKS_AT_MOST
    used = fast_loop.run_until_complete(segments_of(fast_loop, *callbacks))
    assert used <= 2  # its callbacks may stand in two parts of the turn


@only_here
def test_pieces_and_lines_leave_together(fast_loop):
    def write(transport):
        transport.write(b"head")
        transport.writelines([b"one", b"two"])

    assert fast_loop.run_until_complete(segments_of(fast_loop, write)) == 1


@only_here
def test_one_piece_is_not_held(fast_loop):
    async def main():
        async with connected(fast_loop) as (transport, _, peer):

            def alone():
                transport.write(b"alone")
                return drain(peer)

            for _ in range(3):
                assert await called(fast_loop, alone) == b"alone"

    fast_loop.run_until_complete(main())


@only_here
def test_who_stops_writing_pieces_is_held_once_more_at_most(fast_loop):
    async def main():
        async with piecewise(fast_loop) as (transport, _, peer):

            def alone():
                transport.write(b"alone")
                return drain(peer)

            await called(fast_loop, alone)
            await turns(1)
            assert drain(peer) == b"alone"
            assert await called(fast_loop, alone) == b"alone"

    fast_loop.run_until_complete(main())


# -- Soon --------------------------------------------------------------------------


async def test_it_leaves_before_the_loop_waits(loop):
    async with piecewise(loop) as (transport, _, peer):
        loop.call_soon(transport.write, b"head")
        assert await loop.sock_recv(peer, 10) == b"head"


async def test_other_callbacks_do_not_keep_it_for_long(loop):
    seen = []
    async with piecewise(loop) as (transport, _, peer):
        loop.call_soon(transport.write, b"head")
        for _ in range(2 * CALLBACKS_AT_MOST):
            loop.call_soon(lambda: seen.append(drain(peer)))
        await turns(2)
    assert b"head" in seen[: CALLBACKS_AT_MOST + 1]


async def test_it_leaves_at_once_while_a_loop_inside_of_a_callback_waits(loop):
    """What somebody else writes then isn't part of the callback's batch."""

    def write(transport):
        transport.write(b"head")
        transport.write(b"body")

    def turn_inside(transport, peer):
        loop.call_later(0.05, lambda: seen.append(drain(peer)))
        thread = threading.Timer(0.01, write, [transport])
        thread.start()
        while not seen:
            loop._run_once()
        thread.join()

    seen = []
    async with piecewise(loop) as (transport, _, peer):
        await called(loop, turn_inside, transport, peer)
    assert seen == [b"headbody"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_it_leaves_when_the_loop_is_left(loop, run, error):
    def write_and_leave(transport):
        transport.write(b"head")
        transport.write(b"body")
        raise error

    async def leave(transport):
        loop.call_soon(write_and_leave, transport)
        await asyncio.sleep(60)

    async def main():
        async with piecewise(loop) as (transport, _, peer):
            yield await called(loop, lambda: transport), peer

    agen = main()
    transport, peer = run(anext(agen))
    task = loop.create_task(leave(transport))
    with pytest.raises(error):
        run(task)
    assert drain(peer) == b"headbody"
    task.cancel()
    run(agen.aclose())


def test_it_leaves_when_the_loop_stops(loop, run):
    def write_and_stop(transport):
        transport.write(b"head")
        transport.write(b"body")
        loop.stop()

    async def main():
        async with piecewise(loop) as parts:
            yield parts

    agen = main()
    transport, _, peer = run(anext(agen))
    loop.call_soon(write_and_stop, transport)
    loop.run_forever()
    assert drain(peer) == b"headbody"
    run(agen.aclose())


# -- Whoever looks finds it gone ---------------------------------------------------


def look_again(transport):
    return transport.get_extra_info("socket")


LOOKS = {
    "size": lambda transport: transport.get_write_buffer_size(),
    "close": lambda transport: transport.close(),
    "abort": lambda transport: transport.abort(),
    "eof": lambda transport: transport.write_eof(),
    "socket": look_again,
    "shutdown": lambda transport: look_again(transport).shutdown(socket.SHUT_WR),
    "limits": lambda transport: transport.set_write_buffer_limits(10),
    "repr": repr,
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
async def test_what_could_tell_sends_it(loop, look):
    def write_and_look(transport, peer):
        transport.write(b"head")
        transport.write(b"body")
        look(transport)
        return drain(peer)

    async with piecewise(loop) as (transport, _, peer):
        assert await called(loop, write_and_look, transport, peer) == b"headbody"


async def test_the_buffer_is_as_empty_as_it_is_on_asyncio(loop):
    def sizes(transport):
        for _ in range(3):
            transport.write(b"piece")
            yield transport.get_write_buffer_size()

    async with piecewise(loop) as (transport, _, _):
        assert await called(loop, lambda: list(sizes(transport))) == [0, 0, 0]


async def test_what_changes_afterwards_is_sent_as_it_was(loop):
    def write_and_change(transport):
        data = bytearray(b"body")
        transport.write(b"head")
        transport.write(data)
        data[:] = b"BODY"
        transport.write(memoryview(data))
        data[:] = b"....."

    async with piecewise(loop) as (transport, _, peer):
        await called(loop, write_and_change, transport)
        assert drain(peer) == b"headbodyBODY"


async def test_a_child_process_does_not_send_it_again(loop):
    def write_and_fork(transport):
        transport.write(b"head")
        transport.write(b"body")
        child = os.fork()
        if child == 0:
            transport.get_write_buffer_size()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0

    async with piecewise(loop) as (transport, _, peer):
        await called(loop, write_and_fork, transport)
        await turns(2)
        assert drain(peer) == b"headbody"


@pytest.mark.parametrize("high", [0, 1, 100, 100 * KIB])
async def test_writing_is_paused_inside_of_write(loop, high):
    """As on asyncio, by what the socket refused; never by what is only held."""

    def write_until_paused(transport, protocol):
        written = 0
        while "pause" not in protocol.events:
            transport.write(bytes(1000))
            written += 1000
            assert written < 1 << 26
        assert transport.get_write_buffer_size() > high
        return written

    async with piecewise(loop) as (transport, protocol, peer):
        transport.set_write_buffer_limits(high)
        count = await called(loop, write_until_paused, transport, protocol)
        while count > 0:
            count -= len(await loop.sock_recv(peer, 1 << 16))
        await protocol.saw("resume")


class WritesOn(Recorder):
    """Goes on with two pieces as soon as it may."""

    def resume_writing(self):
        self.transport.write(b"more")
        self.transport.write(b"again")
        super().resume_writing()


def test_pieces_of_resume_writing_leave_the_loop_idle(fast_loop):
    """Once they are sent, nothing is left that the socket would be ready for."""
    import asyncfast

    async def main():
        async with piecewise(fast_loop, factory=WritesOn) as (
            transport,
            protocol,
            peer,
        ):
            count = 1 << 22
            transport.write(bytes(count))
            while count > 0:
                size = min(count, 1 << 16)
                count -= len(await fast_loop.sock_recv(peer, size))
            await protocol.saw("resume")
            assert await fast_loop.sock_recv(peer, 100) == b"moreagain"
            before = asyncfast.metrics(fast_loop).iterations
            await asyncio.sleep(0.02)
            assert asyncfast.metrics(fast_loop).iterations - before < 20

    fast_loop.run_until_complete(main())


def test_a_connection_that_broke(loop):
    """The error comes, once, as it does on asyncio."""

    def scenario(loop):
        async def main():
            async with piecewise(loop) as (transport, protocol, peer):

                def write():
                    peer.close()
                    for _ in range(4):
                        transport.write(b"piece")

                await called(loop, write)
                await protocol.saw("lost")
                return protocol.events, type(protocol.exception).__name__

        return [*loop.run_until_complete(main()), told(loop)]

    like_asyncio(loop, scenario)


async def test_tls_keeps_its_order(loop, served, asked):
    """Records of several writes stand in one segment; the peer reads them all."""
    data = [bytes([number]) * number for number in range(1, 200)]
    async with connected_tls(loop, served, asked) as (transport, protocol, _):
        for _ in range(3):
            protocol.data.clear()
            for piece in data:
                transport.write(piece)
            assert await protocol.received(sum(map(len, data))) == b"".join(data)


# -- In any order ------------------------------------------------------------------


def random_write(dice, transport):
    """Write something somehow; what the peer must get."""
    size = dice.choice([1, 10, 1000, 20_000, 70_000])
    data = dice.randbytes(size)
    kind = dice.randrange(8)
    if kind == 0:
        transport.writelines([data[: size // 2], data[size // 2 :]])
    elif kind == 1:
        transport.write(bytearray(data))
    elif kind == 2:
        transport.write(memoryview(data))
    else:
        transport.write(data)
    if dice.random() < 0.1:
        transport.get_write_buffer_size()
    return data


@pytest.mark.parametrize("seed", range(4))
async def test_nothing_is_lost_or_swapped(loop, seed):
    dice = random.Random(seed)
    expected, got = bytearray(), bytearray()

    def burst(transport):
        for _ in range(dice.choice([1, 1, 2, 5, 40])):
            expected.extend(random_write(dice, transport))

    async def read(peer):
        while data := await loop.sock_recv(peer, 1 << 16):
            got.extend(data)

    async with connected(loop) as (transport, protocol, peer):
        transport.set_write_buffer_limits(dice.choice([0, 1000, 64 * KIB, 1 << 20]))
        reader = loop.create_task(read(peer))
        for _ in range(15):
            for _ in range(dice.choice([1, 3, 30])):
                loop.call_soon(burst, transport)
            await turns(dice.choice([1, 2, 5]))
        await turns(2)
        transport.close()
        await reader
        await protocol.saw("lost")
    assert got == expected
