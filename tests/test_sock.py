"""io/sock.c: the sock_* methods, on sockets of every kind."""

import array
import asyncio
import contextlib
import os
import socket
import ssl

import pytest
from support import (
    PY,
    client_context,
    drain,
    fill,
    free_pair,
    like_asyncio,
    message,
    reset,
    turns,
)


@pytest.fixture(params=[socket.AF_UNIX, socket.AF_INET], ids=["unix", "tcp"])
def sockets(request):
    """Two connected non-blocking sockets, Unix or TCP."""
    left, right = free_pair(request.param)
    with left, right:
        yield left, right


@pytest.fixture
def datagrams():
    """Two bound non-blocking UDP sockets."""
    with contextlib.ExitStack() as stack:
        pair = []
        for _ in range(2):
            sock = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
            pair.append(sock)
        yield pair


@pytest.fixture
def has_datagram_methods(loop_name):
    """asyncio has sock_recvfrom and its kin from 3.11; asyncfast always."""
    if loop_name == "asyncio" and PY < (3, 11):
        pytest.skip("new in asyncio of 3.11")


# -- Receiving ---------------------------------------------------------------------


async def test_recv_what_is_there(loop, sockets):
    sockets[1].send(b"hello")
    assert await loop.sock_recv(sockets[0], 100) == b"hello"


async def test_recv_at_most_what_was_asked(loop, sockets):
    sockets[1].send(b"hello")
    assert await loop.sock_recv(sockets[0], 2) == b"he"
    assert await loop.sock_recv(sockets[0], 100) == b"llo"


async def test_recv_waits(loop, sockets):
    task = loop.create_task(loop.sock_recv(sockets[0], 100))
    await turns(3)
    assert not task.done()
    sockets[1].send(b"late")
    assert await task == b"late"


async def test_recv_at_the_end_is_empty(loop, sockets):
    sockets[1].close()
    assert await loop.sock_recv(sockets[0], 100) == b""


async def test_recv_nothing(loop, sockets):
    """There is nothing to wait for."""
    assert await loop.sock_recv(sockets[0], 0) == b""


async def test_recv_from_a_peer_that_resets(loop):
    left, right = free_pair(socket.AF_INET)
    with left:
        task = loop.create_task(loop.sock_recv(left, 100))
        await turns(2)
        reset(right)
        with pytest.raises(ConnectionResetError):
            await task


@pytest.mark.parametrize("kind", [bytearray, lambda data: memoryview(bytearray(data))])
async def test_recv_into(loop, sockets, kind):
    buffer = kind(bytes(10))
    sockets[1].send(b"hello")
    assert await loop.sock_recv_into(sockets[0], buffer) == 5
    assert bytes(buffer) == b"hello" + bytes(5)


async def test_recv_into_waits_and_ends(loop, sockets):
    buffer = bytearray(3)
    task = loop.create_task(loop.sock_recv_into(sockets[0], buffer))
    await turns(3)
    sockets[1].send(b"abcdef")
    assert await task == 3
    assert buffer == b"abc"
    sockets[1].close()
    assert await loop.sock_recv_into(sockets[0], buffer) == 3
    assert await loop.sock_recv_into(sockets[0], buffer) == 0


@pytest.mark.parametrize("buffer", [b"read only", 5, None, "text"])
def test_recv_into_what_cannot_be_written(loop, buffer):
    def scenario(loop):
        left, right = free_pair()
        with left, right:
            right.send(b"x")
            loop.run_until_complete(loop.sock_recv_into(left, buffer))

    kind = like_asyncio(loop, scenario)[1]
    assert issubclass(kind, (TypeError, BufferError))


async def test_recv_buffer_is_released(loop, sockets):
    """While it waits the buffer may be held; afterwards it may be resized."""
    buffer = bytearray(10)
    sockets[1].send(b"x")
    await loop.sock_recv_into(sockets[0], buffer)
    buffer.extend(b"more")
    task = loop.create_task(loop.sock_recv_into(sockets[0], buffer))
    await turns(2)
    task.cancel()
    await asyncio.wait([task])
    del task
    buffer.extend(b"more")


# -- Sending -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_sendall(loop, sockets, kind):
    assert await loop.sock_sendall(sockets[0], kind(b"hello")) is None
    assert drain(sockets[1]) == b"hello"


async def test_sendall_of_nothing(loop, sockets):
    await loop.sock_sendall(sockets[0], b"")
    assert drain(sockets[1]) == b""


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_sendall_of_more_than_fits(loop, sockets, kind):
    data = os.urandom(1 << 23)
    task = loop.create_task(loop.sock_sendall(sockets[0], kind(data)))
    await turns(2)
    assert not task.done()
    got = bytearray()
    while len(got) < len(data):
        got += await loop.sock_recv(sockets[1], 1 << 18)
    await task
    assert got == data


async def test_sendall_of_wide_items_counts_bytes(loop, loop_name, sockets):
    """A memoryview of 8-byte items is not len() bytes long."""
    if loop_name == "asyncio":
        pytest.skip("asyncio counts items, and never ends")
    numbers = array.array("q", range(100))
    await loop.sock_sendall(sockets[0], memoryview(numbers))
    got = await loop.sock_recv(sockets[1], 4096)
    assert got == numbers.tobytes()


async def test_both_directions_at_once(loop, sockets):
    data = bytes(1 << 21)

    async def receive(sock):
        count = 0
        while count < len(data):
            count += len(await loop.sock_recv(sock, 1 << 17))

    await asyncio.gather(
        *(loop.sock_sendall(sock, data) for sock in sockets),
        *(receive(sock) for sock in sockets),
    )


@pytest.mark.parametrize("data", [None, 5, "text", [1]])
def test_sendall_of_what_is_no_buffer(loop, data):
    def scenario(loop):
        left, right = free_pair()
        with left, right:
            loop.run_until_complete(loop.sock_sendall(left, data))

    assert like_asyncio(loop, scenario)[1] is TypeError


async def test_sendall_to_a_peer_that_went(loop, sockets):
    sockets[1].close()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        for _ in range(100):
            await loop.sock_sendall(sockets[0], bytes(10_000))


async def test_sendall_while_the_peer_goes(loop, sockets):
    fill(sockets[0])
    task = loop.create_task(loop.sock_sendall(sockets[0], bytes(1 << 20)))
    await turns(3)
    sockets[1].close()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        await task


# -- Datagrams ---------------------------------------------------------------------


@pytest.mark.usefixtures("has_datagram_methods")
class TestDatagrams:
    async def test_sendto_and_recvfrom(self, loop, datagrams):
        left, right = datagrams
        sent = await loop.sock_sendto(left, b"hello", right.getsockname())
        assert sent == 5
        data, address = await loop.sock_recvfrom(right, 100)
        assert (data, address) == (b"hello", left.getsockname())

    async def test_recvfrom_waits(self, loop, datagrams):
        left, right = datagrams
        task = loop.create_task(loop.sock_recvfrom(right, 100))
        await turns(3)
        assert not task.done()
        left.sendto(b"late", right.getsockname())
        assert await task == (b"late", left.getsockname())

    async def test_an_empty_datagram(self, loop, datagrams):
        left, right = datagrams
        assert await loop.sock_sendto(left, b"", right.getsockname()) == 0
        assert await loop.sock_recvfrom(right, 100) == (b"", left.getsockname())

    async def test_recvfrom_into(self, loop, datagrams):
        left, right = datagrams
        buffer = bytearray(10)
        left.sendto(b"hello", right.getsockname())
        got = await loop.sock_recvfrom_into(right, buffer)
        assert got == (5, left.getsockname())
        assert buffer == b"hello" + bytes(5)

    async def test_recvfrom_into_at_most_nbytes(self, loop, datagrams):
        left, right = datagrams
        buffer = bytearray(10)
        left.sendto(b"hello", right.getsockname())
        assert (await loop.sock_recvfrom_into(right, buffer, 2))[0] == 2
        assert buffer == b"he" + bytes(8)

    @pytest.mark.parametrize("none", [0, None, False, "", 0.0], ids=repr)
    async def test_recvfrom_into_all_that_the_buffer_takes(self, loop, datagrams, none):
        left, right = datagrams
        buffer = bytearray(4)
        left.sendto(b"hello", right.getsockname())
        assert (await loop.sock_recvfrom_into(right, buffer, none))[0] == 4
        assert buffer == b"hell"

    async def test_recvfrom_into_waits(self, loop, datagrams):
        left, right = datagrams
        buffer = bytearray(10)
        task = loop.create_task(loop.sock_recvfrom_into(right, buffer))
        await turns(3)
        left.sendto(b"late", right.getsockname())
        assert await task == (4, left.getsockname())

    @pytest.mark.skipif(PY < (3, 11), reason="asyncio has them since 3.11")
    def test_more_bytes_than_the_buffer_has(self, loop):
        def scenario(loop):
            with socket.socket(type=socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                coro = loop.sock_recvfrom_into(sock, bytearray(2), 5)
                loop.run_until_complete(coro)

        like_asyncio(loop, scenario)

    async def test_too_long_a_datagram(self, loop, datagrams):
        with pytest.raises(OSError) as info:
            await loop.sock_sendto(datagrams[0], bytes(1 << 20), ("127.0.0.1", 9))
        assert "Message too long" in message(info)

    @pytest.mark.skipif(PY < (3, 11), reason="asyncio has them since 3.11")
    @pytest.mark.parametrize("address", [None, "text", ("127.0.0.1",), (1, 2), 5])
    def test_sendto_a_bad_address(self, loop, address):
        def scenario(loop):
            with socket.socket(type=socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                loop.run_until_complete(loop.sock_sendto(sock, b"x", address))

        assert like_asyncio(loop, scenario)[0] == "raised"

    async def test_unix_datagrams(self, loop):
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with left, right:
            left.setblocking(False)
            right.setblocking(False)
            left.send(b"x")
            assert (await loop.sock_recvfrom(right, 10))[0] == b"x"


# -- Connecting and accepting ------------------------------------------------------


async def test_connect_and_accept(loop, listener):
    with socket.socket() as client:
        client.setblocking(False)
        accepting = loop.create_task(loop.sock_accept(listener))
        await turns(2)
        assert await loop.sock_connect(client, listener.getsockname()) is None
        server, address = await accepting
        with server:
            assert address == client.getsockname()
            assert server.gettimeout() == 0
            assert not os.get_inheritable(server.fileno())
            assert type(server) is socket.socket
            await loop.sock_sendall(client, b"hello")
            assert await loop.sock_recv(server, 10) == b"hello"


async def test_accept_what_waits_already(loop, listener):
    with socket.create_connection(listener.getsockname()):
        server, _ = await loop.sock_accept(listener)
        server.close()


async def test_accept_many(loop, listener):
    clients = [socket.create_connection(listener.getsockname()) for _ in range(20)]
    servers = [(await loop.sock_accept(listener))[0] for _ in clients]
    assert {s.getpeername() for s in servers} == {c.getsockname() for c in clients}
    for sock in clients + servers:
        sock.close()


async def test_connect_resolves_a_name(loop, listener):
    with socket.socket() as client:
        client.setblocking(False)
        port = listener.getsockname()[1]
        await loop.sock_connect(client, ("localhost", port))
        assert client.getpeername() == listener.getsockname()


async def test_connect_asks_the_loops_own_getaddrinfo(loop, listener):
    """Programs replace getaddrinfo on the instance."""
    asked = []

    async def getaddrinfo(host, port, **kwargs):
        asked.append((host, port))
        address = listener.getsockname()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address)]

    loop.getaddrinfo = getaddrinfo
    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, ("name.invalid", 80))
        assert client.getpeername() == listener.getsockname()
    assert asked == [("name.invalid", 80)]


async def test_connect_refused(loop):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = unused.getsockname()
    with socket.socket() as client:
        client.setblocking(False)
        with pytest.raises(ConnectionRefusedError) as info:
            await loop.sock_connect(client, address)
        assert message(info) == f"[Errno 111] Connect call failed {address}"


async def test_connect_over_a_unix_socket(loop, tmp_path):
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as c:
        server.setblocking(False)
        server.bind(path)
        server.listen()
        c.setblocking(False)
        await loop.sock_connect(c, path)
        accepted, address = await loop.sock_accept(server)
        accepted.close()
        assert address in ("", b"", None)


async def test_connect_to_no_unix_socket(loop, tmp_path):
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        with pytest.raises(FileNotFoundError):
            await loop.sock_connect(client, str(tmp_path / "nothing"))


async def test_connect_waits_for_the_handshake(loop):
    """A listener whose queue is full leaves the connection half made."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        clients = [socket.socket() for _ in range(3)]
        tasks = []
        for client in clients:
            client.setblocking(False)
            connecting = loop.sock_connect(client, full.getsockname())
            tasks.append(loop.create_task(connecting))
        done, pending = await asyncio.wait(tasks, timeout=0.05)
        for task in pending:
            task.cancel()
        await asyncio.wait(tasks)
        assert done
        for client in clients:
            client.close()


async def test_connect_a_datagram_socket(loop, datagrams):
    left, right = datagrams
    await loop.sock_connect(left, right.getsockname())
    await loop.sock_sendall(left, b"x")
    assert await loop.sock_recv(right, 10) == b"x"


# -- Cancelling --------------------------------------------------------------------


@pytest.mark.parametrize("what", ["recv", "recv_into", "accept", "sendall", "recvfrom"])
def test_cancel_stops_watching(loop, loop_name, run, listener, sockets, what):
    if what == "recvfrom" and loop_name == "asyncio" and PY < (3, 11):
        pytest.skip("new in asyncio of 3.11")
    calls = {
        "recv": lambda: loop.sock_recv(sockets[0], 10),
        "recv_into": lambda: loop.sock_recv_into(sockets[0], bytearray(10)),
        "recvfrom": lambda: loop.sock_recvfrom(sockets[0], 10),
        "accept": lambda: loop.sock_accept(listener),
        "sendall": lambda: loop.sock_sendall(sockets[0], bytes(1 << 22)),
    }

    async def main():
        task = loop.create_task(calls[what]())
        await turns(3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert loop.remove_reader(sockets[0]) is False
    assert loop.remove_writer(sockets[0]) is False
    assert loop.remove_reader(listener) is False
    if what.startswith("recv"):
        # What arrives afterwards is for the next one.
        sockets[1].send(b"next")
        assert run(loop.sock_recv(sockets[0], 10)) == b"next"


async def test_a_done_wait_stops_watching(loop, sockets):
    task = loop.create_task(loop.sock_recv(sockets[0], 10))
    await turns(2)
    sockets[1].send(b"x")
    await task
    await turns(2)
    assert loop.remove_reader(sockets[0]) is False


async def test_wait_for_times_out(loop, sockets):
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(loop.sock_recv(sockets[0], 10), 0.01)
    sockets[1].send(b"x")
    assert await loop.sock_recv(sockets[0], 10) == b"x"


async def test_data_and_cancel_in_the_same_iteration(loop, sockets):
    """Whoever wins, no data may vanish."""
    for _ in range(50):
        task = loop.create_task(loop.sock_recv(sockets[0], 10))
        await turns(2)
        sockets[1].send(b"x")
        task.cancel()
        try:
            assert await task == b"x"
        except asyncio.CancelledError:
            assert await loop.sock_recv(sockets[0], 10) == b"x"


async def test_the_socket_is_closed_while_it_is_waited_for(loop, sockets):
    task = loop.create_task(loop.sock_recv(sockets[0], 10))
    await turns(2)
    sockets[0].close()
    await turns(3)
    task.cancel()
    await asyncio.wait([task])


# -- Bad sockets -------------------------------------------------------------------

METHODS = {
    "sock_recv": lambda loop, sock: loop.sock_recv(sock, 10),
    "sock_recv_into": lambda loop, sock: loop.sock_recv_into(sock, bytearray(10)),
    "sock_sendall": lambda loop, sock: loop.sock_sendall(sock, b"x"),
    "sock_connect": lambda loop, sock: loop.sock_connect(sock, ("127.0.0.1", 9)),
    "sock_accept": lambda loop, sock: loop.sock_accept(sock),
}
if PY >= (3, 11):
    METHODS["sock_recvfrom"] = lambda loop, sock: loop.sock_recvfrom(sock, 10)
    METHODS["sock_recvfrom_into"] = lambda loop, sock: loop.sock_recvfrom_into(
        sock, bytearray(10)
    )
    METHODS["sock_sendto"] = lambda loop, sock: loop.sock_sendto(
        sock, b"x", ("127.0.0.1", 9)
    )


def blocking():
    return socket.socketpair()[0]


def closed():
    sock = socket.socket()
    sock.setblocking(False)
    sock.close()
    return sock


def unconnected():
    sock = socket.socket()
    sock.setblocking(False)
    return sock


BAD = {
    "none": lambda: None,
    "number": lambda: 1,
    "text": lambda: "sock",
    "closed": closed,
    "unconnected": unconnected,
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("debug", [False, True])
def test_a_bad_socket_is_refused_as_asyncio_does(loop, method, what, debug):
    def scenario(loop):
        loop.set_debug(debug)
        sock = BAD[what]()
        try:
            loop.run_until_complete(asyncio.wait_for(METHODS[method](loop, sock), 0.01))
        finally:
            if hasattr(sock, "close"):
                sock.close()

    expected = like_asyncio(loop, scenario)
    assert expected[0] == "raised" or method == "sock_sendto"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("method", METHODS)
def test_in_debug_mode_a_blocking_socket_is_refused(loop, method):
    def scenario(loop):
        loop.set_debug(True)
        with blocking() as sock:
            loop.run_until_complete(METHODS[method](loop, sock))

    assert like_asyncio(loop, scenario) == (
        "raised",
        ValueError,
        "the socket must be non-blocking",
    )


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("method", METHODS)
def test_a_tls_socket_is_refused(loop, method, certificate):
    def scenario(loop):
        context = client_context(certificate)
        with context.wrap_socket(unconnected(), server_hostname="localhost") as sock:
            assert isinstance(sock, ssl.SSLSocket)
            loop.run_until_complete(METHODS[method](loop, sock))

    kind, error, text = like_asyncio(loop, scenario)
    assert (error, text) == (TypeError, "Socket cannot be of type SSLSocket")


@pytest.mark.parametrize("count", [None, -1, "1", 1.5, 2**70])
def test_a_bad_count(loop, count):
    def scenario(loop):
        left, right = free_pair()
        with left, right:
            right.send(b"x")
            loop.run_until_complete(loop.sock_recv(left, count))

    assert like_asyncio(loop, scenario)[0] == "raised"


# -- What the caller does meanwhile ------------------------------------------------


async def test_sendall_holds_what_it_still_has_to_send(loop, sockets):
    left, right = sockets
    data = bytearray(b"x" * 8_000_000)
    task = loop.create_task(loop.sock_sendall(left, data))
    await turns(3)
    assert not task.done()
    with pytest.raises(BufferError):
        del data[10:]
    got = 0
    while got < len(data):
        chunk = await loop.sock_recv(right, 1 << 18)
        assert chunk.count(b"x") == len(chunk)
        got += len(chunk)
    await task


async def test_a_closed_socket_never_reads_its_successor(loop):
    """The number of a closed descriptor is the next one's at once."""
    former, gone = free_pair()
    number = former.fileno()
    task = loop.create_task(loop.sock_recv(former, 100))
    await turns(2)
    former.close()
    gone.close()
    left, right = free_pair()
    with left, right:
        mine, peer = (left, right) if left.fileno() == number else (right, left)
        assert mine.fileno() == number
        fill(mine)
        writing = loop.create_task(loop.sock_sendall(mine, b"more"))
        await turns(2)
        peer.send(b"for the successor only")
        await asyncio.sleep(0.01)
        assert mine.recv(100) == b"for the successor only"
        for each in task, writing:
            each.cancel()
        results = await asyncio.gather(task, writing, return_exceptions=True)
    assert all(isinstance(each, BaseException) for each in results)
