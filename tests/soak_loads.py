"""The loads of soak.py: each is one round of something that a program does all day.

A round ends by itself, checks every byte that it gets, and leaves nothing open.  The
servers it talks to are `World`'s, on the loop under test, and a peer's, on asyncio in
another process; both answer by `serve`, so that either side of a connection may be the
one that ends, waits or resets it.
"""

import asyncio
import contextlib
import hashlib
import os
import random
import signal
import socket
import ssl
import struct
import sys

from support import client_context, free_pair, reset, server_context, tls_files

BLOCK = 1 << 16


class Mismatch(AssertionError):
    """Bytes were lost, changed or made up."""


def same(got, wanted):
    if got == wanted:
        return
    pairs = zip(got, wanted, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), "their end")
    raise Mismatch(f"{len(got)} bytes for {len(wanted)}, different at {at}")


def some_bytes(rng, most=300_000):
    """Now a few, now many."""
    return rng.randbytes(int(most * rng.random() ** 3) + 1)


def digest(data):
    return hashlib.sha256(data).digest()


# -- What servers answer -----------------------------------------------------------


async def answer_echo(reader, writer):
    while data := await reader.read(BLOCK):
        writer.write(data)
        await writer.drain()


async def answer_digest_at_end(reader, writer):
    writer.write(digest(await reader.read()))
    writer.write_eof()


async def answer_digest_slowly(reader, writer):
    left = struct.unpack("!q", await reader.readexactly(8))[0]
    found = hashlib.sha256()
    while left:
        data = await reader.readexactly(min(left, BLOCK))
        found.update(data)
        left -= len(data)
        await asyncio.sleep(0.001)
    writer.write(found.digest())


async def answer_much(reader, writer):
    seed, size = struct.unpack("!qq", await reader.readexactly(16))
    writer.write(random.Random(seed).randbytes(size))
    await writer.drain()


async def answer_reset(reader, writer):
    await reader.read(BLOCK)
    linger = struct.pack("ii", 1, 0)
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


ANSWERS = {
    b"e": answer_echo,
    b"d": answer_digest_at_end,
    b"s": answer_digest_slowly,
    b"m": answer_much,
    b"r": answer_reset,
}


async def serve(reader, writer):
    """Answer one connection; its first byte says how."""
    try:
        await ANSWERS[await reader.readexactly(1)](reader, writer)
    except (ConnectionError, asyncio.IncompleteReadError):
        pass  # loads do this
    finally:
        await close(writer)


async def close(writer):
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def peer():
    """Serve in a process of its own until standard input ends."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


# -- Protocols ---------------------------------------------------------------------


class Echo(asyncio.Protocol):
    """Sends back what it gets, and reads no faster than it can send."""

    open = 0

    def connection_made(self, transport):
        self.transport = transport
        Echo.open += 1

    def data_received(self, data):
        self.transport.write(data)

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()

    def connection_lost(self, exception):
        Echo.open -= 1


class Client(asyncio.Protocol):
    """Collects what it gets."""

    def __init__(self):
        self.data = bytearray()
        self.arrived = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.data += data
        self.arrived.set()

    def pause_writing(self):
        self.writable.clear()

    def resume_writing(self):
        self.writable.set()

    def connection_lost(self, exception):
        self.lost.set_result(exception)
        self.arrived.set()

    async def received(self, count):
        while len(self.data) < count and not self.lost.done():
            self.arrived.clear()
            await self.arrived.wait()
        return self.data


class BufferedClient(asyncio.BufferedProtocol, Client):
    def __init__(self):
        Client.__init__(self)
        self.buffer = bytearray(4096)

    def get_buffer(self, hint):
        return self.buffer

    def buffer_updated(self, count):
        self.data_received(self.buffer[:count])


class Datagrams(asyncio.DatagramProtocol):
    """Keeps what it gets, or sends it back."""

    def __init__(self, echo=False):
        self.echo = echo
        self.queue = asyncio.Queue()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        if self.echo:
            self.transport.sendto(data, address)
        else:
            self.queue.put_nowait(data)

    def connection_lost(self, exception):
        self.lost.set_result(exception)


# -- The servers -------------------------------------------------------------------


class World:
    """Where the loads find their servers."""

    def __init__(self, folder, peer_port):
        self.folder = folder
        self.peer = ("127.0.0.1", peer_port)
        self.certificate = tls_files(folder)
        self.tls_client = client_context(self.certificate)
        self.unix_path = str(folder / "serve")
        self.file = folder / "file"
        self.file.write_bytes(random.Random(1).randbytes(200_000))
        self.servers = []

    async def start(self):
        loop = asyncio.get_running_loop()
        tls = server_context(self.certificate)
        self.echo = self._add(await loop.create_server(Echo, "127.0.0.1", 0))
        self.tcp = self._add(await asyncio.start_server(serve, "127.0.0.1", 0))
        self.tls = self._add(await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls))
        self._add(await asyncio.start_unix_server(serve, self.unix_path))

    def _add(self, server):
        self.servers.append(server)
        return server.sockets[0].getsockname()

    async def stop(self):
        for server in self.servers:
            server.close()
            await server.wait_closed()

    async def connect(self, where):
        """A stream to one of: tcp, peer, unix, tls."""
        if where == "unix":
            return await asyncio.open_unix_connection(self.unix_path)
        if where == "tls":
            return await asyncio.open_connection(
                *self.tls, ssl=self.tls_client, server_hostname="localhost"
            )
        return await asyncio.open_connection(*getattr(self, where))


# -- The loads: connections --------------------------------------------------------


async def write_in_pieces(client, data, rng):
    """By write() and writelines(), in pieces of all sizes, minding flow control."""
    transport, view = client.transport, memoryview(data)
    while view:
        size = int(len(data) * rng.random() ** 4) + 1
        if rng.random() < 0.5:
            transport.write(view[:size])
        else:
            transport.writelines([view[: size // 2], view[size // 2 : size]])
        view = view[size:]
        await client.writable.wait()


async def protocols(world, rng):
    loop = asyncio.get_running_loop()
    kind = rng.choice([Client, BufferedClient])
    transport, client = await loop.create_connection(kind, *world.echo)
    data = some_bytes(rng)
    if rng.random() < 0.3:
        transport.pause_reading()
        loop.call_later(0.01 * rng.random(), transport.resume_reading)
    await write_in_pieces(client, data, rng)
    same(await client.received(len(data)), data)
    rng.choice([transport.close, transport.abort, transport.write_eof])()
    assert await client.lost is None


async def streams(world, rng, where=None):
    where = where or rng.choice(["tcp", "peer", "unix"])
    reader, writer = await world.connect(where)
    writer.write(b"e")
    for _ in range(rng.randrange(1, 8)):
        data = some_bytes(rng, 100_000)
        writer.write(data)
        answer, _ = await asyncio.gather(reader.readexactly(len(data)), writer.drain())
        same(answer, data)
    await close(writer)


async def tls(world, rng):
    await streams(world, rng, "tls")


async def start_tls(world, rng):
    """Two ends of a connection go over to TLS, and one ends it."""
    loop = asyncio.get_running_loop()
    left, right = free_pair(rng.choice([socket.AF_UNIX, socket.AF_INET]))
    one, _ = await loop.connect_accepted_socket(asyncio.Protocol, left)
    two, _ = await loop.connect_accepted_socket(asyncio.Protocol, right)
    client, server = Client(), Client()
    one, two = await asyncio.gather(
        loop.start_tls(one, client, world.tls_client, server_hostname="localhost"),
        loop.start_tls(
            two, server, server_context(world.certificate), server_side=True
        ),
    )
    client.transport, server.transport = one, two
    for sender, receiver in ((client, server), (server, client)):
        data = some_bytes(rng, 100_000)
        await write_in_pieces(sender, data, rng)
        same(await receiver.received(len(data)), data)
    rng.choice([one, two]).close()
    await client.lost, await server.lost


async def half_closes(world, rng):
    reader, writer = await world.connect(rng.choice(["tcp", "peer", "unix"]))
    data = some_bytes(rng)
    writer.write(b"d" + data)
    writer.write_eof()
    same(await reader.read(), digest(data))
    await close(writer)


async def slow_peers(world, rng):
    reader, writer = await world.connect(rng.choice(["tcp", "peer", "unix", "tls"]))
    data = some_bytes(rng, 4_000_000)
    writer.write(b"s" + struct.pack("!q", len(data)))
    for start in range(0, len(data), BLOCK):
        writer.write(data[start : start + BLOCK])
        await writer.drain()
    same(await reader.readexactly(32), digest(data))
    await close(writer)


async def slow_readers(world, rng):
    reader, writer = await world.connect(rng.choice(["tcp", "peer", "unix", "tls"]))
    seed, size = rng.randrange(1 << 30), rng.randrange(2_000_000)
    writer.write(b"m" + struct.pack("!qq", seed, size))
    data = bytearray()
    while chunk := await reader.read(BLOCK):
        data += chunk
        await asyncio.sleep(0.001)
    same(data, random.Random(seed).randbytes(size))
    await close(writer)


async def resets_of_the_peer(world, rng):
    """The other side resets while we write; the end must reach us, as an error or
    as the end, whichever comes first."""
    reader, writer = await world.connect(rng.choice(["tcp", "peer"]))
    with contextlib.suppress(ConnectionError):
        writer.write(b"r" + some_bytes(rng))
        await writer.drain()
        same(await reader.read(), b"")
    await close(writer)


async def resets_of_ours(world, rng):
    """A socket of ours sends something, and goes without reading the echo."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    try:
        await loop.sock_connect(sock, world.echo)
        data = some_bytes(rng)
        sender = loop.create_task(loop.sock_sendall(sock, data))
        same(await loop.sock_recv(sock, 1), data[:1])
        sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)
    finally:
        reset(sock)


async def servers(world, rng):
    """A server comes, serves and goes."""
    path = world.unix_path + "-for-a-while"
    if rng.random() < 0.5:
        server = await asyncio.start_unix_server(serve, path)
        reader, writer = await asyncio.open_unix_connection(path)
    else:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address)
    data = some_bytes(rng, 10_000)
    writer.write(b"d" + data)
    writer.write_eof()
    same(await reader.read(), digest(data))
    await close(writer)
    server.close()
    await server.wait_closed()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


async def sendfile(world, rng):
    reader, writer = await world.connect(rng.choice(["tcp", "peer", "unix"]))
    data = world.file.read_bytes()[rng.randrange(100_000) :]
    writer.write(b"d")
    with open(world.file, "rb") as file:
        offset = 200_000 - len(data)
        await asyncio.get_running_loop().sendfile(writer.transport, file, offset)
    writer.write_eof()
    same(await reader.read(), digest(data))
    await close(writer)


async def datagrams(world, rng):
    """A few under way at a time: more than fit may be dropped by the system."""
    loop = asyncio.get_running_loop()
    server, echo = await loop.create_datagram_endpoint(
        lambda: Datagrams(echo=True), ("127.0.0.1", 0)
    )
    address = server.get_extra_info("sockname")
    client, protocol = await loop.create_datagram_endpoint(
        Datagrams, remote_addr=address
    )
    for _ in range(20):
        sent = [some_bytes(rng, 2000) for _ in range(8)]
        for data in sent:
            client.sendto(data)
        for data in sent:
            same(await protocol.queue.get(), data)
    client.close()
    rng.choice([server.close, server.abort])()
    await echo.lost, await protocol.lost


# -- The loads: descriptors --------------------------------------------------------


async def socket_operations(world, rng):
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as left:
        listener.setblocking(False)
        left.setblocking(False)
        (right, _), _ = await asyncio.gather(
            loop.sock_accept(listener), loop.sock_connect(left, listener.getsockname())
        )
        with right:
            data = some_bytes(rng)
            sender = loop.create_task(loop.sock_sendall(left, data))
            received, buffer = bytearray(), bytearray(5000)
            while len(received) < len(data):
                if rng.random() < 0.5:
                    received += await loop.sock_recv(right, 5000)
                else:
                    count = await loop.sock_recv_into(right, buffer)
                    received += buffer[:count]
            await sender
            same(received, data)


async def watches(world, rng):
    """add_writer() sends, add_reader() receives, until all is there."""
    loop = asyncio.get_running_loop()
    left, right = free_pair()
    data, received, done = some_bytes(rng), bytearray(), loop.create_future()
    view = memoryview(data)

    def send():
        nonlocal view
        view = view[left.send(view[: rng.randrange(1, BLOCK)]) :]
        if not view:
            loop.remove_writer(left)

    def receive():
        received.extend(right.recv(BLOCK))
        if len(received) == len(data):
            done.set_result(loop.remove_reader(right))

    with left, right:
        loop.add_reader(right, receive)
        loop.add_writer(left, send)
        assert await done
        same(received, data)


# -- The loads: processes, threads, time -------------------------------------------


async def processes(world, rng):
    data = some_bytes(rng)
    process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    try:
        if rng.random() < 0.7:
            output, _ = await process.communicate(data)
            same(output, data)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
            # It may have ended by itself meanwhile, if we were cancelled late.
            assert process.returncode in (0, -signal.SIGKILL)


async def executors(world, rng):
    loop = asyncio.get_running_loop()
    jobs = [some_bytes(rng) for _ in range(10)]
    found = await asyncio.gather(
        *(loop.run_in_executor(None, digest, data) for data in jobs)
    )
    assert found == [digest(data) for data in jobs]


async def threads(world, rng):
    """What a thread schedules runs, in its order."""
    loop = asyncio.get_running_loop()
    seen, done = [], loop.create_future()

    def schedule():
        for number in range(300):
            loop.call_soon_threadsafe(seen.append, number)
        loop.call_soon_threadsafe(done.set_result, None)

    await loop.run_in_executor(None, schedule)
    await done
    assert seen == list(range(300))


async def timers(world, rng):
    """Each fires once, none early, and none that was cancelled."""
    loop = asyncio.get_running_loop()
    fired, early = [], []

    def fire(number, when):
        fired.append(number)
        if loop.time() < when:
            early.append(number)

    handles = []
    for number in range(300):
        when = loop.time() + 0.05 * rng.random()
        handles.append(loop.call_at(when, fire, number, when))
    cancelled = {n for n in range(300) if rng.random() < 0.5}
    for number in cancelled:
        handles[number].cancel()
    await asyncio.sleep(0.051)
    while len(fired) < 300 - len(cancelled):
        await asyncio.sleep(0.001)
    assert sorted(fired) == sorted(set(range(300)) - cancelled)
    assert not early


async def signals(world, rng):
    loop = asyncio.get_running_loop()
    for _ in range(5):
        arrived = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR2, arrived.set_result, None)
        os.kill(os.getpid(), signal.SIGUSR2)
        await arrived
        assert loop.remove_signal_handler(signal.SIGUSR2)


async def cancellations(world, rng):
    """Everything that waits is cancelled, now sooner, now later."""
    loop = asyncio.get_running_loop()
    left, right = free_pair()
    with left, right:
        reader, writer = await world.connect("tcp")
        waits = [
            loop.sock_recv(left, 10),
            reader.read(10),
            asyncio.sleep(100),
            asyncio.wait_for(asyncio.Event().wait(), 100),
            loop.sock_sendall(right, bytes(1 << 20)),
            loop.getaddrinfo("localhost", 80),
            close_when_connected(world, "tcp"),
            close_when_connected(world, "tls"),
            processes(world, rng),
        ]
        tasks = [loop.create_task(wait) for wait in waits]
        await asyncio.sleep(0.02 * rng.random() ** 2)
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await close(writer)
        for found in outcomes:
            expected = (asyncio.CancelledError, ConnectionError, ssl.SSLError)
            if isinstance(found, BaseException) and not isinstance(found, expected):
                raise found


async def close_when_connected(world, where):
    _, writer = await world.connect(where)
    await close(writer)


LOADS = [
    protocols,
    streams,
    tls,
    start_tls,
    half_closes,
    slow_peers,
    slow_readers,
    resets_of_the_peer,
    resets_of_ours,
    servers,
    sendfile,
    datagrams,
    socket_operations,
    watches,
    processes,
    executors,
    threads,
    timers,
    signals,
    cancellations,
]
