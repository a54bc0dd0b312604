"""What no program should pass to a loop or a transport, and what becomes of it.

Each outcome (exception, text, report, bytes that arrive) is held against asyncio's,
and afterwards the loop still serves.
"""

import array
import asyncio
import contextlib
import decimal
import fractions
import math
import os
import pathlib
import socket

import pytest
from support import (
    PY,
    Echo,
    HalfOpen,
    Recorder,
    connected,
    drain,
    free_pair,
    like_asyncio,
    serving,
    text_of,
    told,
    turns,
)

BUSY = 1 << 20

pytestmark = pytest.mark.usefixtures("serves_afterwards")


async def read_to_end(loop, sock):
    got = bytearray()
    with contextlib.suppress(ConnectionError):
        while chunk := await loop.sock_recv(sock, 1 << 18):
            got += chunk
    return bytes(got)


# -- What is given to write and writelines -----------------------------------------


class Refuses(bytes):
    """Bytes whose buffer cannot be had, from 3.12 on."""

    def __buffer__(self, flags):
        raise LookupError("no buffer")


class Fickle(bytes):
    """The buffer can be had once."""

    asked = 0

    def __buffer__(self, flags):
        self.asked += 1
        if self.asked > 1:
            raise LookupError("no second buffer")
        return memoryview(bytes(self))


class NoLength(bytes):
    def __len__(self):
        raise LookupError("no length")


class LooksLikeBytes:
    def __bytes__(self):
        return b"abc"

    def __len__(self):
        return 3


def released():
    view = memoryview(b"abc")
    view.release()
    return view


NUMBERS = array.array("I", [1, 2, 3])

# Data of which every loop has the same idea.
DATA = {
    "text": lambda: "text",
    "empty text": lambda: "",
    "integer": lambda: 5,
    "class": lambda: bytes,
    "path": lambda: pathlib.Path("x"),
    "no bytes": LooksLikeBytes,
    "array": lambda: NUMBERS,
    "released": released,
    "no length": lambda: NoLength(b"abc"),
    "refuses": lambda: Refuses(b"abc"),
    "every other": lambda: memoryview(b"abcdefgh")[::2],
    "backwards": lambda: memoryview(b"abcdefgh")[::-1],
    "wide": lambda: memoryview(NUMBERS),
    "grid": lambda: memoryview(bytes(range(12))).cast("B", (3, 4)),
    "empty wide": lambda: memoryview(array.array("I")),
    "empty bytearray": bytearray,
    "subclass": lambda: type("Sub", (bytearray,), {})(b"abc"),
}
WIDE = {"array", "wide", "grid"}
EMPTY = {"empty wide", "empty bytearray"}
GAPS = {"every other", "backwards"}


def story_of(method, data, busy):
    """What becomes of a write: what it raises, what arrives, what is reported."""

    async def main(loop):
        async with connected(loop) as (transport, protocol, peer):
            if busy:
                transport.write(bytes(BUSY))
            raised = None
            try:
                getattr(transport, method)(data())
            except Exception as error:
                raised = text_of(error)
            transport.close()
            got = await read_to_end(loop, peer)
            await protocol.saw("lost")
            rest = got[BUSY:] if busy else got
            lost = text_of(protocol.exception)
            return [raised, rest, protocol.events[-1], lost, told(loop)]

    return lambda loop: loop.run_until_complete(main(loop))


def counts_items(what, method, busy):
    """From 3.12 asyncio counts the items of what it buffers for bytes."""
    return PY >= (3, 12) and (
        (what in WIDE and (method == "writelines" or (busy and what != "array")))
        or (what in EMPTY and method == "writelines")
    )


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
@pytest.mark.parametrize("what", DATA)
@pytest.mark.parametrize("method", ["write", "writelines"])
def test_odd_data(loop, method, what, busy):
    if counts_items(what, method, busy):
        pytest.skip("asyncio ends the connection or hangs")
    if method == "writelines" and what in {"empty text", "no length"} and PY >= (3, 14):
        pytest.skip("asyncio leaves out what is false, whatever it is")
    if method == "writelines" and PY >= (3, 15):
        pytest.skip("asyncio keeps the pieces before a bad one, and may hang")
    if busy and method == "write" and what in GAPS and PY < (3, 12):
        pytest.skip("asyncio tells of a slice of its bytearray")
    make = DATA[what] if method == "write" else lambda: [b"1", DATA[what]()]
    like_asyncio(loop, story_of(method, make, busy))


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
@pytest.mark.parametrize("what", sorted(WIDE | EMPTY))
def test_what_is_written_is_bytes_not_items(loop, loop_name, what, busy):
    """Where asyncio loses count."""
    if loop_name == "asyncio" and PY >= (3, 12):
        pytest.skip("asyncio ends the connection or hangs")
    data = DATA[what]()
    pieces = story_of("writelines", lambda: [b"1", data, b"2"], busy)
    expected = b"1" + memoryview(data).tobytes() + b"2"
    assert pieces(loop) == [None, expected, "lost", None, []]


@pytest.mark.skipif(PY < (3, 12), reason="__buffer__ is new in 3.12")
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
@pytest.mark.parametrize("method", ["write", "writelines"])
def test_a_buffer_that_is_had_once(loop, method, busy):
    """No matter when it is asked again: nothing hangs, nothing is sent by halves."""
    make = Fickle if method == "write" else lambda: [b"1", Fickle(b"abc")]
    raised, got, event, lost, reports = story_of(method, make, busy)(loop)
    assert event == "lost"


class Ends:
    """Pieces that end the write side while one looks at them."""

    def __init__(self, transport, pieces):
        self.transport, self.pieces = transport, pieces

    def __iter__(self):
        self.transport.write_eof()
        return iter(self.pieces)


@pytest.mark.parametrize("ended", [False, True], ids=["by it", "before"])
@pytest.mark.parametrize("pieces", [[b"ab"], ["text"], [b""], []], ids=repr)
def test_pieces_for_a_write_side_that_has_ended(loop, pieces, ended):
    if PY >= (3, 12) and not ended and pieces in ([], [b""]):
        pytest.skip("asyncio sends nothing, and that it can't")

    async def main(loop):
        async with connected(loop, HalfOpen) as (transport, protocol, peer):
            if ended:
                transport.write_eof()
            try:
                transport.writelines(Ends(transport, pieces))
                raised = None
            except Exception as error:
                raised = text_of(error)
            got = await read_to_end(loop, peer)
            await turns(3)
            return [raised, got, text_of(protocol.exception), told(loop)]

    like_asyncio(loop, lambda loop: loop.run_until_complete(main(loop)))


# -- What changes after it was written ---------------------------------------------


def shrink(data):
    del data[: len(data) // 2]


def overwrite(data):
    data[:] = b"x" * len(data)


def grow(data):
    data.extend(b"y" * 100_000)


@pytest.mark.parametrize("change", [shrink, overwrite, grow, bytearray.clear])
@pytest.mark.parametrize("method", ["write", "writelines"])
async def test_a_bytearray_that_changes_while_it_waits(loop, loop_name, method, change):
    """What was written is what is sent."""
    if loop_name == "asyncio" and PY >= (3, 12):
        pytest.skip("asyncio keeps the bytearray and sends what it has become")
    expected = os.urandom(BUSY)
    data = bytearray(expected)
    async with connected(loop) as (transport, _, peer):
        if method == "write":
            transport.write(data)
        else:
            transport.writelines([data, memoryview(b"")])
        assert transport.get_write_buffer_size() > 0
        change(data)
        transport.close()
        assert await read_to_end(loop, peer) == expected


async def test_a_list_that_changes_after_writelines(loop):
    async with connected(loop) as (transport, _, peer):
        pieces = [bytes(BUSY), b"tail"]
        transport.writelines(pieces)
        pieces[:] = [b"other"]
        transport.close()
        assert await read_to_end(loop, peer) == bytes(BUSY) + b"tail"


@pytest.mark.skipif(PY < (3, 12), reason="__buffer__ is new in 3.12")
async def test_a_list_that_a_piece_empties(loop):
    """The second piece is gone before it is looked at."""
    pieces = []

    class Empties(bytes):
        def __buffer__(self, flags):
            pieces.clear()
            return memoryview(bytes(self))

    pieces += [Empties(b"one"), Empties(b"two")]
    async with connected(loop) as (transport, _, peer):
        transport.writelines(pieces)
        transport.close()
        assert await read_to_end(loop, peer) == b"one"


async def test_a_big_write(loop):
    data = os.urandom(1 << 20) * 64
    async with connected(loop, HalfOpen) as (transport, _, peer):
        transport.write(data)
        transport.write_eof()
        assert await read_to_end(loop, peer) == data
        assert transport.get_write_buffer_size() == 0


async def test_thousands_of_writes_while_busy(loop):
    async with connected(loop) as (transport, _, peer):
        transport.write(bytes(BUSY))
        for _ in range(5000):
            transport.write(b"x")
        transport.close()
        assert len(await read_to_end(loop, peer)) == BUSY + 5000


# -- sock_sendall, sock_recv_into and their kin ------------------------------------


@pytest.mark.parametrize("what", sorted(DATA.keys() - WIDE - {"no length"}))
def test_odd_data_for_sock_sendall(loop, what):
    def scenario(loop):
        left, right = free_pair()
        with left, right:
            try:
                loop.run_until_complete(loop.sock_sendall(left, DATA[what]()))
            finally:
                assert len(drain(right)) < 20

    like_asyncio(loop, scenario)


def locked():
    data = bytearray(10)
    view = memoryview(data)
    return view.toreadonly()


BUFFERS = {
    "wide": lambda: array.array("I", [0] * 4),
    "every other": lambda: memoryview(bytearray(10))[::2],
    "read only": locked,
    "grid": lambda: memoryview(bytearray(12)).cast("B", (3, 4)),
    "released": released,
    "raises": lambda: Refuses(b"abc"),
    "class": lambda: bytearray,
}


@pytest.mark.parametrize("what", BUFFERS)
def test_odd_buffers_for_sock_recv_into(loop, what):
    def scenario(loop):
        left, right = free_pair()
        with left, right:
            right.send(b"hello")
            buffer = BUFFERS[what]()
            count = loop.run_until_complete(loop.sock_recv_into(left, buffer))
            return [count, memoryview(buffer).tobytes()]

    like_asyncio(loop, scenario)


# -- Calls with wrong arguments ----------------------------------------------------


DELAYS = {
    "minus zero": -0.0,
    "negative": -1e300,
    "minus infinite": -math.inf,
    "false": False,
    "fraction": fractions.Fraction(-1, 3),
}
NO_DELAYS = {
    "decimal": decimal.Decimal(0),
    "bytes": b"1",
    "list": [1],
    "class": float,
    "huge": -(10**400),
}


@pytest.mark.parametrize("what", DELAYS)
@pytest.mark.parametrize("method", ["call_later", "call_at"])
def test_odd_times(loop, method, what):
    """All are in the past."""

    def scenario(loop):
        ran = []
        getattr(loop, method)(DELAYS[what], ran.append, 1)
        loop.run_until_complete(asyncio.sleep(0.002))
        return ran

    assert like_asyncio(loop, scenario) == ("returned", [1])


@pytest.mark.parametrize("what", NO_DELAYS)
def test_no_delays(loop, what):
    scenario = lambda loop: loop.call_later(NO_DELAYS[what], print)  # noqa: E731
    assert like_asyncio(loop, scenario)[0] == "raised"


@pytest.mark.parametrize("delay", [math.inf, -math.inf, math.nan, "1", None, 1j, -1])
def test_odd_sleeps(loop, delay):
    def scenario(loop):
        async def main():
            sleeping = asyncio.ensure_future(asyncio.sleep(delay, "slept"))
            await turns(5)
            sleeping.cancel()
            return await sleeping

        try:
            return loop.run_until_complete(main())
        except asyncio.CancelledError:
            return "cancelled"

    like_asyncio(loop, scenario)


def closed_socket():
    sock = socket.socket()
    sock.close()
    return sock


async def plain():
    pass


CALLS = {
    "call_soon(None)": lambda loop: loop.call_soon(None),
    "call_soon(coroutine function)": lambda loop: loop.call_soon(plain),
    "call_soon bad context": lambda loop: loop.call_soon(int, context=5),
    "call_later(0, None)": lambda loop: loop.call_later(0, None),
    "call_at(0, 5)": lambda loop: loop.call_at(0, 5),
    "threadsafe(None)": lambda loop: loop.call_soon_threadsafe(None),
    "task of a number": lambda loop: loop.create_task(5),
    "task of a function": lambda loop: loop.create_task(plain),
    "executor of nothing": lambda loop: loop.run_in_executor(None),
    "executor job": lambda loop: run(loop, loop.run_in_executor(None, 5)),
    "task factory": lambda loop: loop.set_task_factory("x"),
    "exception handler": lambda loop: loop.set_exception_handler(1),
    "no context": lambda loop: loop.call_exception_handler(None),
    "accepted None": lambda loop: accepted(loop, None),
    "accepted number": lambda loop: accepted(loop, 5),
    "accepted closed": lambda loop: accepted(loop, closed_socket()),
    "accepted text": lambda loop: accepted(loop, "socket"),
    "connect closed": lambda loop: connect(loop, Recorder, sock=closed_socket()),
    "connect number": lambda loop: connect(loop, Recorder, sock=5),
    "connect nowhere": lambda loop: connect(loop, Recorder, "127.0.0.1", -1),
    "connect far port": lambda loop: connect(loop, Recorder, "127.0.0.1", 70000),
    "connect nul": lambda loop: connect(loop, Recorder, "127.0.0.1\0", 1),
    "connect bytes": lambda loop: connect(loop, Recorder, b"127.0.0.1", "x"),
    "serve far port": lambda loop: serve(loop, Echo, "127.0.0.1", 70000),
    "serve closed": lambda loop: serve(loop, Echo, sock=closed_socket()),
    "serve number": lambda loop: serve(loop, Echo, sock=5),
    "unix nul": lambda loop: run(loop, loop.create_unix_connection(Echo, "a\0b")),
    "unix long": lambda loop: run(loop, loop.create_unix_server(Echo, "x" * 200)),
    "unix bytes": lambda loop: run(loop, loop.create_unix_connection(Echo, b"none")),
    "unix number": lambda loop: run(loop, loop.create_unix_server(Echo, 5)),
    "start_tls": lambda loop: run(loop, loop.start_tls(None, Echo(), None)),
    "sendfile": lambda loop: run(loop, loop.sendfile(None, None)),
    "sock_connect": lambda loop: connect_raw(loop, ("127.0.0.1",)),
    "sock_connect port": lambda loop: connect_raw(loop, ("127.0.0.1", 70000)),
    "sock_connect None": lambda loop: connect_raw(loop, None),
    "read pipe": lambda loop: run(loop, loop.connect_read_pipe(Recorder, None)),
    "datagrams": lambda loop: run(loop, loop.create_datagram_endpoint(Recorder)),
    "shell list": lambda loop: run(loop, loop.subprocess_shell(Recorder, ["true"])),
    "exec number": lambda loop: run(loop, loop.subprocess_exec(Recorder, 5)),
    "exec text mode": lambda loop: run(
        loop, loop.subprocess_exec(Recorder, "true", universal_newlines=True)
    ),
    "signal": lambda loop: loop.add_signal_handler("x", int),
    "getaddrinfo": lambda loop: run(loop, loop.getaddrinfo([], None)),
    "getnameinfo": lambda loop: run(loop, loop.getnameinfo(())),
    "asyncgens": lambda loop: loop.run_until_complete(None),
}


def run(loop, awaitable):
    return loop.run_until_complete(awaitable)


def connect(loop, *args, **kwargs):
    return run(loop, loop.create_connection(*args, **kwargs))


def serve(loop, *args, **kwargs):
    return run(loop, loop.create_server(*args, **kwargs))


def accepted(loop, sock):
    return run(loop, loop.connect_accepted_socket(Recorder, sock))


def connect_raw(loop, address):
    with socket.socket() as sock:
        sock.setblocking(False)
        return run(loop, loop.sock_connect(sock, address))


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
@pytest.mark.parametrize("what", CALLS)
def test_a_wrong_call(loop, what, debug):
    def scenario(loop):
        loop.set_debug(debug)
        CALLS[what](loop)
        loop.run_until_complete(asyncio.sleep(0.002))
        return [text_of(report.get("exception")) for report in loop.reports.take()]

    like_asyncio(loop, scenario)


MISCOUNTED = {
    "call_soon()": lambda loop: loop.call_soon(),
    "call_soon keyword": lambda loop: loop.call_soon(int, colour=1),
    "call_later(1)": lambda loop: loop.call_later(1),
    "call_at()": lambda loop: loop.call_at(),
    "threadsafe()": lambda loop: loop.call_soon_threadsafe(),
    "add_reader(0)": lambda loop: loop.add_reader(0),
    "remove_reader()": lambda loop: loop.remove_reader(),
    "stop(1)": lambda loop: loop.stop(1),
    "close(1)": lambda loop: loop.close(1),
    "time(1)": lambda loop: loop.time(1),
    "create_future(1)": lambda loop: loop.create_future(1),
    "sock_recv()": lambda loop: loop.sock_recv(),
    "is_closed(1)": lambda loop: loop.is_closed(1),
}


@pytest.mark.parametrize("what", MISCOUNTED)
def test_a_wrong_number_of_arguments(loop, what):
    with pytest.raises(TypeError):
        MISCOUNTED[what](loop)


FACTORIES = {
    "None": None,
    "number": 5,
    "gives None": lambda: None,
    "gives text": lambda: "text",
    "gives a class": lambda: Recorder,
    "gives a coroutine": plain,
    "wants an argument": lambda argument: argument,
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("what", FACTORIES)
@pytest.mark.parametrize("end", ["client", "server"])
def test_odd_factories(loop, loop_name, end, what):
    if loop_name == "asyncio" and PY >= (3, 14) and end == "client":
        pytest.skip("asyncio closes the socket under its transport")

    async def main(loop):
        client = server = Echo
        if end == "client":
            client = FACTORIES[what]
        else:
            server = FACTORIES[what]
        async with serving(loop, server) as (_, address):
            if end == "client":
                transport, _ = await loop.create_connection(client, *address)
                transport.write(b"hello")
                transport.close()
                await turns(5)
                return told(loop)
            with socket.create_connection(address) as sock:
                sock.setblocking(False)
                sock.send(b"hello")
                sock.shutdown(socket.SHUT_WR)
                await turns(10)
                return told(loop)

    like_asyncio(loop, lambda loop: loop.run_until_complete(main(loop)))
