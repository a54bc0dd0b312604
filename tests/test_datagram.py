"""io/datagram*.c: datagram transports, in every form that an endpoint can have."""

import asyncio
import contextlib
import contextvars
import errno
import gc
import logging
import os
import socket
import sys
import warnings
import weakref

import pytest
from support import PY, like_asyncio, message, turns, until

OVERHEAD = 8 if PY >= (3, 13) else 0
FAMILIES = [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX]


class Datagrams(asyncio.DatagramProtocol):
    """Records every callback, and lets a test wait for what it has to see."""

    def __init__(self):
        self.events = []
        self.received = []
        self.errors = []
        self.exception = None
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport
        self.events.append("made")

    def datagram_received(self, data, address):
        self.received.append((data, address))
        self.events.append("datagram")

    def error_received(self, error):
        self.errors.append(error)
        self.events.append("error")

    def pause_writing(self):
        self.events.append("pause")

    def resume_writing(self):
        self.events.append("resume")

    def connection_lost(self, exception):
        self.exception = exception
        self.events.append("lost")

    @property
    def data(self):
        return [data for data, _ in self.received]


class Mirror(Datagrams):
    """Sends back what it gets."""

    def datagram_received(self, data, address):
        super().datagram_received(data, address)
        self.transport.sendto(data, address)


@contextlib.asynccontextmanager
async def endpoint(loop, factory=Datagrams, **kwargs):
    """(transport, protocol) of a datagram endpoint, gone at the end."""
    transport, protocol = await loop.create_datagram_endpoint(factory, **kwargs)
    try:
        yield transport, protocol
    finally:
        transport.abort()
        await until(lambda: protocol.events[-1] == "lost")


def local(family=socket.AF_INET):
    host = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}[family]
    return {"local_addr": (host, 0), "family": family}


def address_of(transport):
    return transport.get_extra_info("sockname")


@pytest.fixture
def peer():
    """A non-blocking UDP socket on the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        yield sock


@pytest.fixture
def unix_pair(tmp_path):
    """Two connected Unix datagram sockets with names: little fits in between."""
    socks = [socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
    names = [str(tmp_path / name) for name in ("one", "two")]
    for sock, name in zip(socks, names, strict=True):
        sock.bind(name)
        sock.setblocking(False)
    socks[0].connect(names[1])
    socks[1].connect(names[0])
    with socks[0], socks[1]:
        yield socks


def stuff(transport):
    """Send until the transport has to buffer; how many were sent."""
    count = 0
    while transport.get_write_buffer_size() == 0:
        transport.sendto(b"%06d" % count)
        count += 1
    return count


async def take(loop, sock, count):
    return [await loop.sock_recv(sock, 100) for _ in range(count)]


# -- Endpoints ---------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES[:2], ids=["inet", "inet6"])
async def test_echo(loop, family):
    async with endpoint(loop, Mirror, **local(family)) as (server, mirror):
        address = address_of(server)
        async with endpoint(loop, remote_addr=address[:2]) as (client, protocol):
            client.sendto(b"one")
            client.sendto(b"two", address)
            await until(lambda: len(protocol.received) == 2)
            assert protocol.received == [(b"one", address), (b"two", address)]
            assert mirror.received[0] == (b"one", address_of(client))
            assert client.get_extra_info("peername") == address


async def test_echo_over_unix(loop, tmp_path):
    path, other = str(tmp_path / "server"), str(tmp_path / "client")
    unix = {"family": socket.AF_UNIX}
    async with (
        endpoint(loop, Mirror, local_addr=path, **unix),
        endpoint(loop, local_addr=other, remote_addr=path, **unix) as (client, got),
    ):
        client.sendto(b"hello")
        await until(lambda: got.received)
        assert got.received == [(b"hello", path)]


async def test_a_sender_without_a_name(loop):
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with right:
        async with endpoint(loop, sock=left) as (_, protocol):
            right.send(b"anonymous")
            await until(lambda: protocol.received)
            assert protocol.received == [(b"anonymous", None)]


async def test_a_large_unix_datagram(loop, unix_pair):
    left, right = unix_pair
    data = os.urandom(150_000)
    right.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    async with endpoint(loop, sock=left) as (_, protocol):
        await loop.sock_sendall(right, data)
        await until(lambda: protocol.received)
        assert protocol.data == [data]


async def test_the_largest_udp_datagram(loop, peer):
    data = os.urandom(65507)
    async with endpoint(loop, Mirror, **local()) as (transport, _):
        peer.sendto(data, address_of(transport))
        assert await loop.sock_recv(peer, 70000) == data


async def test_what_it_is(loop):
    async with endpoint(loop, **local()) as (transport, protocol):
        assert isinstance(transport, asyncio.Transport)
        if "asyncfast" in type(loop).__module__ or PY >= (3, 12):
            assert isinstance(transport, asyncio.DatagramTransport)
        assert transport.get_protocol() is protocol
        assert transport.get_extra_info("socket").type == socket.SOCK_DGRAM
        assert transport.get_extra_info("peername") is None
        assert not transport.is_closing()
        assert "DatagramTransport fd=" in repr(transport)
        assert "read=polling write=<idle, bufsize=0>" in repr(transport)


async def test_broadcast(loop):
    """With allow_broadcast the socket isn't connected, so it hears everybody."""
    async with endpoint(loop, **local()) as (server, _):
        address = address_of(server)
        async with endpoint(
            loop, local_addr=("127.0.0.1", 0), remote_addr=address, allow_broadcast=True
        ) as (client, protocol):
            sock = client.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
            assert client.get_extra_info("peername") is None
            client.sendto(b"to the fixed address")
            server.sendto(b"from it", address_of(client))
            await until(lambda: protocol.received)
            with pytest.raises(ValueError, match="must be None or"):
                client.sendto(b"elsewhere", ("127.0.0.1", 1))


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="no SO_REUSEPORT")
async def test_reuse_port(loop):
    async with endpoint(loop, reuse_port=True, **local()) as (first, _):
        address = address_of(first)
        async with endpoint(loop, local_addr=address, reuse_port=True) as (second, _):
            assert address_of(second) == address


async def test_connection_made_comes_first(loop, peer):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    peer.sendto(b"early", sock.getsockname())
    async with endpoint(loop, sock=sock) as (_, protocol):
        await until(lambda: protocol.received)
        assert protocol.events == ["made", "datagram"]


WRONG = {
    "stream": lambda: {"sock": socket.socket()},
    "sock and more": lambda: {
        "sock": socket.socket(type=socket.SOCK_DGRAM),
        "local_addr": ("127.0.0.1", 0),
    },
    "nothing": dict,
    "unix address": lambda: {"family": socket.AF_UNIX, "local_addr": ("x", 1)},
    "no tuple": lambda: {"local_addr": "127.0.0.1"},
    "mixed": lambda: {"local_addr": ("127.0.0.1", 0), "remote_addr": ("::1", 1)},
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments(loop, case):
    def scenario(loop):
        kwargs = WRONG[case]()
        with contextlib.ExitStack() as stack:
            if "sock" in kwargs:
                stack.enter_context(kwargs["sock"])
            loop.run_until_complete(loop.create_datagram_endpoint(Datagrams, **kwargs))

    assert like_asyncio(loop, scenario)[0] == "raised"


# -- Receiving ---------------------------------------------------------------------


async def test_many_arrive_in_order(loop, peer):
    async with endpoint(loop, **local()) as (transport, protocol):
        sent = [b"%d" % i for i in range(100)]
        for data in sent:
            peer.sendto(data, address_of(transport))
        await until(lambda: len(protocol.received) == 100)
        assert protocol.data == sent
        assert {address for _, address in protocol.received} == {peer.getsockname()}


async def test_many_senders_keep_their_names(loop):
    async with endpoint(loop, Mirror, **local()) as (server, mirror):
        with contextlib.ExitStack() as stack:
            senders = []
            for _ in range(300):
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                senders.append(stack.enter_context(sock))
                sock.bind(("127.0.0.1", 0))
                sock.setblocking(False)
            for _ in range(2):
                for sock in senders:
                    port = sock.getsockname()[1]
                    sock.sendto(b"%d" % port, address_of(server))
                    assert await loop.sock_recv(sock, 100) == b"%d" % port
        assert all(int(data) == address[1] for data, address in mirror.received)


async def test_an_empty_datagram_arrives(loop, peer):
    async with endpoint(loop, **local()) as (transport, protocol):
        peer.sendto(b"", address_of(transport))
        peer.sendto(b"x", address_of(transport))
        await until(lambda: len(protocol.received) == 2)
        assert protocol.data == [b"", b"x"]


@pytest.mark.skipif(PY < (3, 11), reason="pause_reading is new in 3.11")
async def test_pause_reading_from_a_callback(loop, peer):
    """What the system has handed out already waits with the rest."""

    class Careful(Datagrams):
        def datagram_received(self, data, address):
            super().datagram_received(data, address)
            if not data.endswith(b"5"):
                return
            self.transport.pause_reading()

    async with endpoint(loop, Careful, **local()) as (transport, protocol):
        sent = [b"%02d" % i for i in range(60)]
        for data in sent:
            peer.sendto(data, address_of(transport))
        for stop in range(5, 60, 10):
            await until(lambda: not transport.is_reading())
            await turns(5)
            assert protocol.data == sent[: stop + 1]
            transport.resume_reading()
        await until(lambda: len(protocol.received) == 60)
        assert protocol.data == sent


async def test_close_from_a_callback(loop, peer):
    class Hasty(Datagrams):
        def datagram_received(self, data, address):
            super().datagram_received(data, address)
            if data == b"2":
                self.transport.close()

    transport, protocol = await loop.create_datagram_endpoint(Hasty, **local())
    for i in range(40):
        peer.sendto(b"%d" % i, address_of(transport))
    await until(lambda: protocol.events[-1] == "lost")
    assert protocol.data == [b"0", b"1", b"2"]


class Fragile(Datagrams):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def datagram_received(self, data, address):
        super().datagram_received(data, address)
        if data == b"3":
            raise self.error


async def test_a_callback_that_raises_is_reported(loop, reports, peer):
    error = RuntimeError("no")
    factory = lambda: Fragile(error)  # noqa: E731
    async with endpoint(loop, factory, **local()) as (transport, protocol):
        for i in range(40):
            peer.sendto(b"%d" % i, address_of(transport))
        await until(lambda: len(protocol.received) == 40)
        context = reports.take_one()
        assert context["exception"] is error
        assert "DatagramTransport._read_ready()" in context["message"]
        assert not transport.is_closing()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_loses_no_datagram(loop, run, peer, error):
    factory = lambda: Fragile(error())  # noqa: E731
    transport, protocol = run(loop.create_datagram_endpoint(factory, **local()))
    for i in range(40):
        peer.sendto(b"%d" % i, address_of(transport))
    with pytest.raises(error):
        loop.run_forever()
    run(until(lambda: len(protocol.received) == 40))
    assert protocol.data == [b"%d" % i for i in range(40)]
    transport.close()
    run(turns(3))


async def test_set_protocol(loop, peer):
    async with endpoint(loop, **local()) as (transport, first):
        second = Datagrams()
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        peer.sendto(b"to the second", address_of(transport))
        await until(lambda: second.received)
        assert not first.received
        transport.abort()
        await until(lambda: second.events[-1] == "lost")
        first.events.append("lost")


async def test_callbacks_run_in_the_context_of_the_endpoint(loop, peer):
    variable = contextvars.ContextVar("variable")
    seen = []

    class Looks(Datagrams):
        def datagram_received(self, data, address):
            super().datagram_received(data, address)
            seen.append(variable.get(None))

    variable.set("creator")
    async with endpoint(loop, Looks, **local()) as (transport, protocol):
        variable.set("later")
        peer.sendto(b"x", address_of(transport))
        await until(lambda: protocol.received)
        assert seen == ["creator"]


# -- Sending -----------------------------------------------------------------------


SENDABLE = [
    b"bytes",
    bytearray(b"bytearray"),
    memoryview(b"memoryview"),
    memoryview(b"a slice of it")[2:7],
]


@pytest.mark.parametrize("data", SENDABLE, ids=lambda data: bytes(data).decode())
async def test_what_can_be_sent(loop, peer, data):
    async with endpoint(loop, **local()) as (transport, _):
        transport.sendto(data, peer.getsockname())
        assert await loop.sock_recv(peer, 100) == bytes(data)


async def test_sent_at_once(loop, peer):
    """No turn of the loop lies between sendto and the wire."""
    async with endpoint(loop, **local()) as (transport, _):
        transport.sendto(b"now", peer.getsockname())
        assert peer.recv(100) == b"now"


async def test_addresses_that_need_a_lookup(loop, peer):
    port = peer.getsockname()[1]
    async with endpoint(loop, **local()) as (transport, _):
        transport.sendto(b"by name", ("localhost", port))
        assert await loop.sock_recv(peer, 100) == b"by name"
        transport.sendto(b"as bytes", (b"127.0.0.1", port))
        assert await loop.sock_recv(peer, 100) == b"as bytes"


async def test_an_inet6_address_in_all_lengths(loop):
    async with (
        endpoint(loop, **local(socket.AF_INET6)) as (server, protocol),
        endpoint(loop, **local(socket.AF_INET6)) as (client, _),
    ):
        port = address_of(server)[1]
        for rest in [(), (0,), (0, 0)]:
            client.sendto(b"x", ("::1", port, *rest))
        await until(lambda: len(protocol.received) == 3)


@pytest.mark.skipif(sys.platform != "linux", reason="where the loopback is number 1")
async def test_an_inet6_scope_is_kept(loop):
    async with endpoint(loop, **local(socket.AF_INET6)) as (server, protocol):
        address = ("::1", address_of(server)[1], 0, 1)
        async with endpoint(loop, **local(socket.AF_INET6)) as (client, _):
            client.sendto(b"x", address)
            await until(lambda: protocol.received)


@pytest.mark.parametrize("data", ["text", None, 1, [b"x"], {}], ids=repr)
def test_what_can_not_be_sent(loop, data):
    def scenario(loop):
        transport, _ = loop.run_until_complete(
            loop.create_datagram_endpoint(Datagrams, **local())
        )
        try:
            transport.sendto(data, ("127.0.0.1", 1))
        finally:
            transport.close()
            loop.run_until_complete(turns(3))

    assert like_asyncio(loop, scenario)[:2] == ("raised", TypeError)


BAD_ADDRESSES = [
    None,
    "127.0.0.1",
    ("127.0.0.1",),
    ("127.0.0.1", -1),
    ("127.0.0.1", 65536),
    ("127.0.0.1", 1 << 70),
    ("127.0.0.1", "1"),
    ("127.0.0.1", 1.0),
    ("127.0.0.1\0", 1),
    ("127.0.0.1", 1, 2),
    (1, 1),
]


@pytest.mark.parametrize("address", BAD_ADDRESSES, ids=repr)
def test_bad_addresses(loop, address):
    """What isn't an OSError closes the endpoint; asyncio has it so."""

    def scenario(loop):
        transport, protocol = loop.run_until_complete(
            loop.create_datagram_endpoint(Datagrams, **local())
        )
        transport.sendto(b"x", address)
        closing = transport.is_closing()
        transport.close()
        loop.run_until_complete(until(lambda: protocol.events[-1] == "lost"))
        seen = [(r["message"], repr(r["exception"])) for r in loop.reports.take()]
        return [closing, protocol.events, repr(protocol.exception), seen]

    assert like_asyncio(loop, scenario)[0] == "returned"


async def test_refused(loop, peer):
    """What the peer's machine answers comes to error_received, and is no end."""
    address = peer.getsockname()
    peer.close()
    async with endpoint(loop, remote_addr=address) as (transport, protocol):
        transport.sendto(b"to nobody")
        await until(lambda: protocol.errors)
        assert isinstance(protocol.errors[0], ConnectionRefusedError)
        assert not transport.is_closing()


async def test_too_long(loop, peer):
    async with endpoint(loop, **local()) as (transport, protocol):
        transport.sendto(bytes(70000), peer.getsockname())
        assert [error.errno for error in protocol.errors] == [errno.EMSGSIZE]
        transport.sendto(b"fits", peer.getsockname())
        assert await loop.sock_recv(peer, 100) == b"fits"


async def test_error_received_that_raises(loop, peer):
    class Raises(Datagrams):
        def error_received(self, error):
            super().error_received(error)
            raise ZeroDivisionError("from error_received")

    async with endpoint(loop, Raises, **local()) as (transport, _):
        with pytest.raises(ZeroDivisionError, match="from error_received"):
            transport.sendto(bytes(70000), peer.getsockname())
        transport.sendto(b"goes on", peer.getsockname())
        assert await loop.sock_recv(peer, 100) == b"goes on"


async def test_empty_datagrams(loop, peer):
    """3.13 began to send them."""
    async with endpoint(loop, **local()) as (transport, _):
        transport.sendto(b"", peer.getsockname())
        transport.sendto(b"x", peer.getsockname())
        if PY >= (3, 13):
            assert await loop.sock_recv(peer, 100) == b""
        assert await loop.sock_recv(peer, 100) == b"x"


async def test_sendto_is_audited(loop, peer):
    seen = []

    def hook(event, arguments):
        if event == "socket.sendto" and hook.on:
            seen.append(arguments[1])

    hook.on = True
    sys.addaudithook(hook)
    async with endpoint(loop, **local()) as (transport, _):
        transport.sendto(b"x", peer.getsockname())
        hook.on = False
        assert seen == [peer.getsockname()]


# -- Flow control ------------------------------------------------------------------


async def test_what_does_not_fit_waits(loop, unix_pair):
    left, right = unix_pair
    async with endpoint(loop, sock=left) as (transport, protocol):
        count = stuff(transport)
        assert transport.get_write_buffer_size() == 6 + OVERHEAD
        assert "write=<polling, bufsize=" in repr(transport)
        for i in range(count, count + 100):
            transport.sendto(b"%06d" % i)
        got = await take(loop, right, count + 100)
        assert got == [b"%06d" % i for i in range(count + 100)]
        await until(lambda: "write=<idle" in repr(transport))
        # asyncio 3.13 forgets to take off what it added.
        if "asyncfast" in type(loop).__module__ or PY != (3, 13):
            assert transport.get_write_buffer_size() == 0
        assert protocol.events == ["made"]


async def test_what_waits_can_be_changed_by_the_caller(loop, unix_pair):
    left, right = unix_pair
    async with endpoint(loop, sock=left) as (transport, _):
        count = stuff(transport)
        data = bytearray(b"before")
        transport.sendto(data)
        data[:] = b"after!"
        assert (await take(loop, right, count + 1))[-1] == b"before"


async def test_pause_and_resume_writing(loop, unix_pair):
    left, right = unix_pair
    async with endpoint(loop, sock=left) as (transport, protocol):
        transport.set_write_buffer_limits(high=1000, low=100)
        count = stuff(transport)
        while "pause" not in protocol.events:
            transport.sendto(bytes(100))
            count += 1
        assert 1000 < transport.get_write_buffer_size() < 1200
        if "asyncfast" in type(loop).__module__ or PY != (3, 13):
            await take(loop, right, count)
            await until(lambda: "resume" in protocol.events)
        assert protocol.events[:2] == ["made", "pause"]


async def test_close_sends_what_waits(loop, unix_pair):
    left, right = unix_pair
    transport, protocol = await loop.create_datagram_endpoint(Datagrams, sock=left)
    count = stuff(transport)
    for i in range(50):
        transport.sendto(b"%06d" % (count + i))
    transport.close()
    assert transport.is_closing()
    assert await take(loop, right, count + 50) == [
        b"%06d" % i for i in range(count + 50)
    ]
    await until(lambda: protocol.events[-1] == "lost")
    assert protocol.exception is None


async def test_abort_drops_what_waits(loop, unix_pair):
    left, right = unix_pair
    transport, protocol = await loop.create_datagram_endpoint(Datagrams, sock=left)
    count = stuff(transport)
    transport.abort()
    await until(lambda: protocol.events[-1] == "lost")
    assert len(await take(loop, right, count - 1)) == count - 1
    with pytest.raises(BlockingIOError):
        right.recv(100)


async def test_the_peer_goes_while_something_waits(loop, unix_pair):
    left, right = unix_pair
    async with endpoint(loop, sock=left) as (transport, protocol):
        stuff(transport)
        for _ in range(3):
            transport.sendto(b"more")
        right.close()
        await until(lambda: protocol.errors)
        await until(lambda: transport.get_write_buffer_size() <= 4 * OVERHEAD)
        assert isinstance(protocol.errors[0], OSError)
        assert not transport.is_closing()


# -- The end -----------------------------------------------------------------------


async def test_close(loop):
    transport, protocol = await loop.create_datagram_endpoint(Datagrams, **local())
    transport.close()
    transport.close()
    assert protocol.events == ["made"]
    await until(lambda: protocol.events[-1] == "lost")
    assert protocol.events == ["made", "lost"]
    assert repr(transport).startswith(f"<{type(transport).__name__} closed fd=")


async def test_sendto_after_close_is_logged(loop, peer, caplog):
    address = peer.getsockname()
    transport, protocol = await loop.create_datagram_endpoint(
        Datagrams, remote_addr=address
    )
    transport.close()
    await until(lambda: protocol.events[-1] == "lost")
    with caplog.at_level(logging.WARNING, "asyncio"):
        for _ in range(6):
            transport.sendto(b"x")
    texts = [record.getMessage() for record in caplog.records]
    assert texts == ["socket.send() raised exception."] * 2


@pytest.mark.parametrize("loop_name", ["asyncfast"], indirect=True)
async def test_sendto_after_close_without_a_peer(loop, peer):
    """asyncio fails with an AttributeError here, by accident."""
    transport, protocol = await loop.create_datagram_endpoint(Datagrams, **local())
    transport.close()
    await until(lambda: protocol.events[-1] == "lost")
    transport.sendto(b"x", peer.getsockname())
    with pytest.raises(BlockingIOError):
        peer.recv(100)


async def test_a_forgotten_endpoint_warns(loop):
    transport, protocol = await loop.create_datagram_endpoint(Datagrams, **local())
    transport.pause_reading() if PY >= (3, 11) else None
    text = f"unclosed transport {transport!r}"
    protocol.transport = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await turns(2)
        if PY >= (3, 11):
            del transport
            gc.collect()
            assert text in [str(w.message) for w in caught]
        else:
            transport.abort()
            await turns(2)


async def test_the_descriptor_is_taken(loop):
    async with endpoint(loop, **local()) as (transport, _):
        fd = transport.get_extra_info("socket").fileno()
        with pytest.raises(RuntimeError) as info:
            loop.add_reader(fd, print)
        assert "is used by transport" in message(info)


@pytest.mark.parametrize("loop_name", ["asyncfast"], indirect=True)
async def test_closing_frees_it(loop):
    """Nothing but the poller and the user hold a transport."""
    transport, protocol = await loop.create_datagram_endpoint(Datagrams, **local())
    reference = weakref.ref(transport)
    transport.close()
    await until(lambda: protocol.events[-1] == "lost")
    await turns(2)
    protocol.transport = None
    del transport
    assert reference() is None


def test_other_families(loop, run):
    """What the C code doesn't know goes through the socket module."""
    if not hasattr(socket, "AF_NETLINK"):
        pytest.skip("netlink is Linux's")
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 0)
    sock.bind((0, 0))
    sock.setblocking(False)

    async def scenario():
        async with endpoint(loop, sock=sock) as (transport, protocol):
            # RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, for the loopback.
            request = (32).to_bytes(4, sys.byteorder) + bytes(
                [18, 0, 1, 3] if sys.byteorder == "little" else [0, 18, 3, 1]
            )
            transport.sendto(request.ljust(32, b"\0"), (0, 0))
            await until(lambda: protocol.received or protocol.errors)
            assert protocol.received
            assert protocol.received[0][1] == (0, 0)

    run(scenario())
