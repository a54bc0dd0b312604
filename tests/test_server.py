"""io/server.c and asyncfast/loop.py: listening, accepting, connecting, Server."""

import asyncio
import contextlib
import errno
import gc
import os
import resource
import socket
import tempfile

import pytest
from support import (
    PY,
    Echo,
    Recorder,
    connected,
    free_pair,
    like_asyncio,
    message,
    reset,
    serving,
    turns,
    until,
)


async def talk(loop, address, data=b"hello"):
    """Connect, send, and return what comes back."""
    transport, protocol = await loop.create_connection(Recorder, *address[:2])
    transport.write(data)
    got = await protocol.received(len(data))
    transport.close()
    await protocol.saw("lost")
    return got


# -- create_server -----------------------------------------------------------------


async def test_a_server_serves(loop):
    async with serving(loop) as (server, address):
        assert await talk(loop, address) == b"hello"
        assert await talk(loop, address, b"again") == b"again"


async def test_a_hundred_clients_at_once(loop):
    async with serving(loop) as (_, address):
        answers = await asyncio.gather(
            *(talk(loop, address, b"%03d" % number) for number in range(100))
        )
        assert answers == [b"%03d" % number for number in range(100)]


async def test_clients_that_wait_before_serving_starts(loop):
    sock = socket.create_server(("127.0.0.1", 0))
    server = await loop.create_server(Echo, sock=sock, start_serving=False)
    assert not server.is_serving()
    clients = [socket.create_connection(sock.getsockname()) for _ in range(5)]
    for client in clients:
        client.setblocking(False)
        client.send(b"early")
    await turns(3)
    await server.start_serving()
    await server.start_serving()
    assert server.is_serving()
    for client in clients:
        assert await loop.sock_recv(client, 10) == b"early"
        client.close()
    server.close()


async def test_the_server_is_an_asyncio_server(loop):
    async with serving(loop) as (server, address):
        assert isinstance(server, asyncio.AbstractServer)
        assert server.get_loop() is loop
        assert type(server.sockets) is tuple
        assert [s.getsockname() for s in server.sockets] == [address]
        assert server._ssl_context is None
        assert "Server" in repr(server)
    assert server.sockets == ()
    assert not server.is_serving()


async def test_close_stops_listening_and_keeps_the_connections(loop):
    protocols = []

    def factory():
        protocols.append(Echo())
        return protocols[-1]

    async with serving(loop, factory) as (server, address):
        transport, client = await loop.create_connection(Recorder, *address)
        transport.write(b"1")
        await client.received(1)
        server.close()
        server.close()
        await turns(2)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        transport.write(b"2")
        assert await client.received(2) == b"12"
        transport.close()
        await protocols[0].saw("lost")


async def test_wait_closed_of_a_server_without_clients(loop):
    async with serving(loop) as (server, address):
        await talk(loop, address)
        await turns(5)
        server.close()
        await server.wait_closed()


async def test_wait_closed_waits_for_the_clients_as_asyncio_does(loop):
    """Until 3.12.1 it did not wait at all."""
    protocols = []

    def factory():
        protocols.append(Recorder())
        return protocols[-1]

    async with serving(loop, factory) as (server, address):
        transport, client = await loop.create_connection(Recorder, *address)
        await until(lambda: protocols)
        server.close()
        task = loop.create_task(server.wait_closed())
        await turns(10)
        waits = PY >= (3, 12)
        assert task.done() is not waits
        transport.close()
        await protocols[0].saw("lost")
        await task


@pytest.mark.skipif(PY >= (3, 13), reason="transports name themselves since 3.13")
async def test_transports_of_another_make_count_as_clients(loop):
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    server._attach()
    server.close()
    closed = asyncio.ensure_future(server.wait_closed())
    await turns(2)
    # Before 3.12 it waits for no client.
    assert closed.done() == (PY < (3, 12))
    server._detach()
    await closed


async def test_a_server_is_a_context_manager(loop):
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    async with server as same:
        assert same is server
        address = server.sockets[0].getsockname()
        assert await talk(loop, address) == b"hello"
    assert not server.is_serving()


async def test_serve_forever_is_cancelled(loop):
    async with serving(loop, start_serving=False) as (server, address):
        task = loop.create_task(server.serve_forever())
        await turns(3)
        assert server.is_serving()
        with pytest.raises(RuntimeError, match="already being awaited"):
            await server.serve_forever()
        assert await talk(loop, address) == b"hello"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not server.is_serving()


async def test_serve_forever_after_close(loop):
    async with serving(loop) as (server, _):
        server.close()
        with pytest.raises(RuntimeError, match="is closed"):
            await server.serve_forever()


@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
async def test_ending_the_clients(loop, loop_name, method):
    if PY < (3, 13) and loop_name == "asyncio":
        pytest.skip("new in 3.13")
    async with serving(loop) as (server, address):
        clients = [(await loop.create_connection(Recorder, *address))[1]] * 3
        for client in clients:
            client.transport.write(b"x")
            await client.received(1)
        server.close()
        getattr(server, method)()
        await server.wait_closed()
        for client in clients:
            await client.saw("lost")


async def test_given_sockets(loop):
    sock = socket.create_server(("127.0.0.1", 0))
    address = sock.getsockname()
    server = await loop.create_server(Echo, sock=sock)
    assert await talk(loop, address) == b"hello"
    server.close()
    await turns(2)
    assert sock.fileno() == -1


async def test_several_hosts(loop):
    server = await loop.create_server(Echo, ["127.0.0.1", "127.0.0.2", "127.0.0.1"], 0)
    addresses = [sock.getsockname() for sock in server.sockets]
    assert {host for host, _ in addresses} == {"127.0.0.1", "127.0.0.2"}
    assert len(addresses) == 2
    for address in addresses:
        assert await talk(loop, address) == b"hello"
    server.close()


async def test_ipv6(loop):
    try:
        server = await loop.create_server(Echo, "::1", 0)
    except OSError:
        pytest.skip("no IPv6 here")
    address = server.sockets[0].getsockname()
    assert len(address) == 4
    transport, protocol = await loop.create_connection(Recorder, *address[:2])
    assert transport.get_extra_info("peername") == address
    transport.write(b"six")
    assert await protocol.received(3) == b"six"
    transport.close()
    await protocol.saw("lost")
    server.close()


async def test_the_accepted_side(loop):
    accepted = []

    class Server(Recorder):
        def connection_made(self, transport):
            accepted.append(transport)
            super().connection_made(transport)

    async with serving(loop, Server) as (_, address):
        transport, client = await loop.create_connection(Recorder, *address)
        await until(lambda: accepted)
        [server] = accepted
        name = transport.get_extra_info("sockname")
        assert server.get_extra_info("peername") == name
        assert server.get_extra_info("sockname") == address
        sock = server.get_extra_info("socket")
        assert not os.get_inheritable(sock.fileno())
        assert not os.get_blocking(sock.fileno())
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert isinstance(server, asyncio.Transport)
        server.close()
        await client.saw("lost")


async def test_options_of_the_listening_socket(loop):
    server = await loop.create_server(Echo, "127.0.0.1", 0, reuse_port=True)
    sock = server.sockets[0]
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
    port = sock.getsockname()[1]
    twin = await loop.create_server(Echo, "127.0.0.1", port, reuse_port=True)
    twin.close()
    server.close()


async def test_an_address_in_use(loop):
    async with serving(loop) as (_, address):
        with pytest.raises(OSError) as info:
            await loop.create_server(Echo, *address)
        assert info.value.errno == errno.EADDRINUSE
        assert str(address) in message(info)
        assert "error while attempting to bind on address" in message(info)


class Refuses(Exception):
    """Raised by a factory."""


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("debug", [False, True])
async def test_a_factory_that_raises_ends_that_client_only(loop, reports, debug):
    """asyncio reports it in debug mode only."""
    loop.set_debug(debug)
    made = []

    def factory():
        if not made:
            made.append(1)
            raise Refuses("no protocol")
        return Echo()

    async with serving(loop, factory) as (_, address):
        with socket.create_connection(address) as client:
            client.setblocking(False)
            await until(lambda: made)
            await turns(3)
            seen = [(r["message"], type(r["exception"])) for r in reports]
            text = "Error on transport creation for incoming connection"
            assert seen == [(text, Refuses)] * debug
            # The traceback in a report may hold the accepted socket.
            reports.clear()
            gc.collect()
            assert await loop.sock_recv(client, 10) == b""
        assert await talk(loop, address) == b"hello"


async def test_a_client_that_resets_before_it_is_accepted(loop):
    sock = socket.create_server(("127.0.0.1", 0))
    server = await loop.create_server(Echo, sock=sock, start_serving=False)
    reset(socket.create_connection(sock.getsockname()))
    await server.start_serving()
    await turns(3)
    assert await talk(loop, sock.getsockname()) == b"hello"
    server.close()


@pytest.mark.parametrize(
    "arguments",
    [
        {"host": "127.0.0.1", "port": 0, "sock": "any"},
        {"host": None, "port": None},
        {"ssl": True, "host": "127.0.0.1", "port": 0},
        {"ssl_handshake_timeout": 1, "host": "127.0.0.1", "port": 0},
        {"host": "name.invalid", "port": 0, "flags": socket.AI_NUMERICHOST},
        {"host": 5, "port": 0},
        {"host": "127.0.0.1", "port": "nonsense"},
        {"host": "127.0.0.1", "port": 0, "backlog": "many"},
    ],
    ids=repr,
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_bad_arguments_of_create_server(loop, arguments):
    def scenario(loop):
        with socket.socket() as sock:
            given = dict(arguments)
            if "sock" in given:
                given["sock"] = sock
            loop.run_until_complete(loop.create_server(Echo, **given))

    assert like_asyncio(loop, scenario)[0] == "raised"


def test_a_datagram_socket_is_no_server(loop):
    def scenario(loop):
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            loop.run_until_complete(loop.create_server(Echo, sock=sock))

    kind, error, text = like_asyncio(loop, scenario)
    assert error is ValueError and "A Stream Socket was expected" in text


# -- create_connection -------------------------------------------------------------


async def test_connect_by_name(loop):
    async with serving(loop) as (_, address):
        assert await talk(loop, ("localhost", address[1])) == b"hello"


async def test_connect_from_a_local_address(loop):
    async with serving(loop) as (_, address):
        transport, protocol = await loop.create_connection(
            Recorder, *address, local_addr=("127.0.0.2", 0)
        )
        assert transport.get_extra_info("sockname")[0] == "127.0.0.2"
        transport.close()
        await protocol.saw("lost")


async def test_connect_a_given_socket(loop):
    async with serving(loop) as (_, address):
        sock = socket.create_connection(address)
        transport, protocol = await loop.create_connection(Recorder, sock=sock)
        transport.write(b"given")
        assert await protocol.received(5) == b"given"
        assert sock.gettimeout() == 0
        transport.close()
        await protocol.saw("lost")


async def test_connect_refused(loop):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = unused.getsockname()
    with pytest.raises(ConnectionRefusedError) as info:
        await loop.create_connection(Recorder, *address)
    assert message(info) == f"[Errno 111] Connect call failed {address}"


async def test_connect_tries_every_address(loop):
    async with serving(loop) as (_, address):

        async def getaddrinfo(host, port, **kwargs):
            bad = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.3", 1))
            good = (socket.AF_INET, socket.SOCK_STREAM, 6, "", address)
            return [bad, good]

        loop.getaddrinfo = getaddrinfo
        assert await talk(loop, ("name.invalid", 80)) == b"hello"
        del loop.getaddrinfo


async def test_connect_with_happy_eyeballs(loop):
    async with serving(loop) as (_, address):
        transport, protocol = await loop.create_connection(
            Recorder, "localhost", address[1], happy_eyeballs_delay=0.05, interleave=1
        )
        transport.close()
        await protocol.saw("lost")


async def test_several_failures_are_told_together(loop):
    def scenario(loop):
        async def getaddrinfo(host, port, **kwargs):
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 1))
                for host in ("127.0.0.1", "127.0.0.2")
            ]

        loop.getaddrinfo = getaddrinfo
        loop.run_until_complete(loop.create_connection(Recorder, "any", 1))

    await asyncio.to_thread(check_in_thread, type(loop), scenario)


def check_in_thread(kind, scenario):
    """Compare with asyncio on loops of another thread."""
    fresh = kind()
    assert like_asyncio(fresh, scenario)[1] is OSError
    fresh.close()


@pytest.mark.skipif(PY < (3, 12), reason="all_errors= is new in 3.12")
async def test_all_errors(loop):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = unused.getsockname()
    with pytest.raises(ExceptionGroup) as info:  # noqa: F821
        await loop.create_connection(Recorder, *address, all_errors=True)
    assert [type(e) for e in info.value.exceptions] == [ConnectionRefusedError]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"host": "127.0.0.1", "port": 1, "server_hostname": "x"},
        {"host": "127.0.0.1", "port": 1, "ssl_handshake_timeout": 1},
        {"sock": "any", "host": "127.0.0.1", "port": 1},
        {"host": "127.0.0.1", "port": 1, "local_addr": 5},
        {"host": "127.0.0.1", "port": "nonsense"},
        {"host": 5, "port": 1},
        {"host": "name.invalid", "port": 1, "flags": socket.AI_NUMERICHOST},
        {"ssl": True, "server_hostname": None, "host": None, "port": 5},
    ],
    ids=repr,
)
def test_bad_arguments_of_create_connection(loop, arguments):
    def scenario(loop):
        with socket.socket() as sock:
            given = dict(arguments)
            if "sock" in given:
                given["sock"] = sock
            loop.run_until_complete(loop.create_connection(Recorder, **given))

    assert like_asyncio(loop, scenario)[0] == "raised"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_connecting_factory_that_raises(loop, listener):
    def factory():
        raise Refuses("no protocol")

    def scenario(loop):
        address = listener.getsockname()
        loop.run_until_complete(loop.create_connection(factory, *address))

    assert like_asyncio(loop, scenario)[1] is Refuses


async def test_a_cancelled_connect_leaves_nothing(loop):
    async with serving(loop) as (_, address):
        for wait in range(6):
            task = loop.create_task(loop.create_connection(Recorder, *address))
            await turns(wait)
            task.cancel()
            try:
                transport, protocol = await task
            except asyncio.CancelledError:
                continue
            transport.abort()
            await protocol.saw("lost")


# -- Unix sockets ------------------------------------------------------------------


async def test_unix_server_and_connection(loop, tmp_path):
    path = str(tmp_path / "sock")
    server = await loop.create_unix_server(Echo, path)
    transport, protocol = await loop.create_unix_connection(Recorder, path)
    assert transport.get_extra_info("peername") == path
    transport.write(b"hello")
    assert await protocol.received(5) == b"hello"
    transport.close()
    await protocol.saw("lost")
    server.close()
    await turns(2)
    assert os.path.exists(path) is (PY < (3, 13))


async def test_a_path_object(loop, tmp_path):
    server = await loop.create_unix_server(Echo, tmp_path / "sock")
    transport, protocol = await loop.create_unix_connection(
        Recorder, os.fspath(tmp_path / "sock")
    )
    transport.close()
    await protocol.saw("lost")
    server.close()


async def test_a_stale_socket_file_is_replaced(loop, tmp_path):
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
    server = await loop.create_unix_server(Echo, path)
    server.close()


@pytest.mark.parametrize("case", ["file", "in use", "no folder", "both", "none", "tcp"])
def test_bad_paths_of_a_unix_server(loop, tmp_path, case):
    (tmp_path / "file").write_text("")

    def scenario(loop):
        async def main():
            serve = loop.create_unix_server
            if case == "file":
                await serve(Echo, str(tmp_path / "file"))
            elif case == "in use":
                path = str(tmp_path / f"sock{id(loop)}")
                first = await serve(Echo, path)
                try:
                    with pytest.raises(OSError) as info:
                        await loop.create_unix_server(Echo, path + "/below")
                    raise info.value
                finally:
                    first.close()
            elif case == "no folder":
                await serve(Echo, str(tmp_path / "none" / "sock"))
            elif case == "none":
                await serve(Echo)
            else:
                family = socket.AF_UNIX if case == "both" else socket.AF_INET
                with socket.socket(family) as sock:
                    path = "x" if case == "both" else None
                    await serve(Echo, path, sock=sock)

        try:
            loop.run_until_complete(main())
        except OSError as error:
            raise type(error)(error.errno) from None

    assert like_asyncio(loop, scenario)[0] == "raised"


def test_no_unix_socket_there(loop, tmp_path):
    def scenario(loop):
        path = str(tmp_path / "none")
        loop.run_until_complete(loop.create_unix_connection(Recorder, path))

    assert like_asyncio(loop, scenario)[1] is FileNotFoundError


# -- connect_accepted_socket -------------------------------------------------------


async def test_connect_accepted_socket(loop):
    left, right = free_pair(socket.AF_INET)
    transport, protocol = await loop.connect_accepted_socket(Echo, sock=left)
    await loop.sock_sendall(right, b"hi")
    assert await loop.sock_recv(right, 10) == b"hi"
    right.close()
    await protocol.saw("lost")


def test_a_socket_that_is_no_stream(loop):
    def scenario(loop):
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            loop.run_until_complete(loop.connect_accepted_socket(Echo, sock))

    assert like_asyncio(loop, scenario)[1] is ValueError


# -- Streams on top ----------------------------------------------------------------


async def test_asyncios_streams(loop):
    async def handle(reader, writer):
        line = await reader.readline()
        writer.write(line.upper())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"hello\n")
    assert await reader.read() == b"HELLO\n"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_a_server_forgotten_by_its_maker_serves_on(loop):
    """The loop keeps what listens alive."""
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    sockets = server.sockets
    del server
    gc.collect()
    assert await talk(loop, address) == b"hello"
    for sock in sockets:
        loop._stop_serving(sock._sock)


async def test_a_connection_while_another_is_busy(loop):
    async with connected(loop) as (transport, _, _):
        transport.write(bytes(1 << 24))
        async with serving(loop) as (_, address):
            assert await talk(loop, address) == b"hello"


# -- Descriptors come and go -------------------------------------------------------


async def test_serving_goes_on_after_running_out(loop, reports, monkeypatch):
    """EMFILE is reported; after a pause, the server accepts again."""
    monkeypatch.setattr("asyncio.constants.ACCEPT_RETRY_DELAY", 0.01)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving(loop) as (_, address):
        with socket.socket() as client:
            client.setblocking(False)
            taken = [os.dup(0)]
            resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 1, hard))
            try:
                with contextlib.suppress(OSError):
                    while True:
                        taken.append(os.dup(0))
                await loop.sock_connect(client, address)
                await until(lambda: reports)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                for fd in taken:
                    os.close(fd)
            await loop.sock_sendall(client, b"hello")
            assert await loop.sock_recv(client, 10) == b"hello"
        # asyncio may have scheduled a hundred retries, none of which must find the
        # server closed. Timers fire in order: theirs come before this one.
        await asyncio.sleep(0.01)
    for report in reports.take():
        assert report["message"] == "socket.accept() out of system resource"
        assert report["exception"].errno == errno.EMFILE


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_a_factory_may_close_its_server(loop):
    """Whose descriptor may be somebody else's at once."""
    calls = []

    def factory():
        calls.append(server.close())
        raise OSError("enough")

    async with serving(loop, factory) as (server, address):
        with socket.create_connection(address) as client:
            client.setblocking(False)
            assert await loop.sock_recv(client, 10) == b""
    assert calls == [None]


@pytest.mark.skipif(PY < (3, 12), reason="wait_closed waits from 3.12 on")
async def test_a_server_forgets_a_connection_that_could_not_be_made(loop, loop_name):
    if loop_name == "asyncio":
        pytest.skip("asyncio leaves it to the collector, and fails in it")
    async with serving(loop, object) as (server, address):
        with socket.create_connection(address) as client:
            client.setblocking(False)
            assert await loop.sock_recv(client, 10) == b""
        server.close()
        await asyncio.wait_for(server.wait_closed(), 5)


async def test_a_connection_may_get_the_number_of_a_watched_descriptor(loop):
    """In the turn in which that one was withdrawn and closed."""
    victim, other = free_pair()
    number = victim.fileno()
    made = []

    class Closer(asyncio.Protocol):
        def data_received(self, data):
            loop.remove_reader(victim)
            victim.close()

    def factory():
        made.append(Echo())
        return made[-1]

    with victim, other:
        async with connected(loop, Closer) as (_, _, peer):
            async with serving(loop, factory) as (_, address):
                loop.add_reader(victim, print)
                await turns(2)
                with socket.socket() as client:
                    peer.send(b"now")
                    client.connect(address)
                    await until(lambda: made)
                    client.setblocking(False)
                    await loop.sock_sendall(client, b"hello")
                    assert await loop.sock_recv(client, 10) == b"hello"
                    assert made[0].transport.get_extra_info("socket").fileno() == number


async def test_a_transport_reads_on_after_a_cancelled_sendfile(loop):
    with tempfile.TemporaryFile() as file:
        file.write(bytes(20_000_000))
        async with connected(loop, Recorder, socket.AF_INET) as (
            transport,
            protocol,
            peer,
        ):
            task = loop.create_task(loop.sendfile(transport, file))
            await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            peer.send(b"hello")
            assert await protocol.received(5) == b"hello"


async def test_a_datagram_socket_goes_on_after_an_error(loop):
    """Nobody listens at first: ICMP says so to the sender, once."""
    events = []

    class Client(asyncio.DatagramProtocol):
        def error_received(self, error):
            events.append(type(error))

        def datagram_received(self, data, address):
            events.append(data)

    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        address = sock.getsockname()
    transport, _ = await loop.create_datagram_endpoint(Client, remote_addr=address)
    transport.sendto(b"anybody?")
    await until(lambda: events)
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(address)
        sock.sendto(b"me", transport.get_extra_info("sockname"))
        await until(lambda: len(events) > 1)
    transport.close()
    await turns(2)
    assert events == [ConnectionRefusedError, b"me"]
