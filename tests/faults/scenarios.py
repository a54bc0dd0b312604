"""What is done while faults are made: each scenario is something that programs do.

A coroutine function runs on the loop of its world, a plain function makes loops itself.
Both raise if a byte is wrong, and whatever the fault makes the loop raise.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from support import free_pair, new_loop, small_buffers
from world import Altered, Buffered, Client, Datagrams, Echo, same, some_bytes

LINE = b"one line of text\n"


# -- Connections -------------------------------------------------------------------


async def connect(world, kind=Client, served=Echo, **kwargs):
    """A client of a server that sends back what it gets."""
    tls = kwargs.pop("tls", {"server": None, "client": None})
    limits = {"ssl_handshake_timeout": 4} if tls["server"] else {}
    server = await world.loop.create_server(
        lambda: served(world), "127.0.0.1", 0, ssl=tls["server"], **limits
    )
    address = world.add(server)
    if tls["client"]:
        limits.update(ssl=tls["client"], server_hostname="localhost")
    _, client = await world.loop.create_connection(
        lambda: kind(world), *address, **limits
    )
    return client


async def finish(client):
    client.transport.close()
    await client.lost


async def echo(world):
    client = await connect(world)
    for size in (10, 30_000, 1):
        await client.exchange(some_bytes(size, size))
    client.transport.writelines([LINE, bytearray(LINE), memoryview(LINE)])
    same(await client.received(3 * len(LINE)), 3 * LINE)
    await finish(client)


async def buffered(world):
    client = await connect(world, Buffered)
    for size in (10, 30_000):
        await client.exchange(some_bytes(size, size))
    await finish(client)


async def backlog(world):
    """More than the sockets take: writing is paused, and what waits is flushed."""
    left, right = (small_buffers(sock) for sock in free_pair())
    loop = world.loop
    _, client = await loop.connect_accepted_socket(lambda: Client(world), left)
    await loop.connect_accepted_socket(lambda: Echo(world), right)
    data = some_bytes(120_000)
    for start in range(0, len(data), 40_000):
        client.transport.write(data[start : start + 40_000])
        await client.writable.wait()
    same(await client.received(len(data)), data)
    for piece in (LINE, LINE, bytearray(LINE)):
        client.transport.write(piece)
    client.transport.write_eof()
    same(await client.received(3 * len(LINE)), 3 * LINE)
    await client.lost


async def pieces(world):
    """A write that raises may be left out, but none may come in parts."""
    left, right = (small_buffers(sock) for sock in free_pair())
    loop = world.loop
    _, sender = await loop.connect_accepted_socket(lambda: Client(world), left)
    _, receiver = await loop.connect_accepted_socket(lambda: Client(world), right)
    written = [bytearray(some_bytes(20_000, number)) for number in range(5)]
    failed = [False] * len(written)
    for number, piece in enumerate(written):
        try:
            sender.transport.write(piece)
        except MemoryError:
            failed[number] = True
        await sender.writable.wait()
    sender.transport.close()
    lost = await sender.lost or await receiver.lost
    check_pieces(bytes(receiver.data), written, failed, lost)


def check_pieces(got, written, failed, lost):
    for piece, left_out in zip(written, failed, strict=True):
        if got.startswith(piece):
            got = got[len(piece) :]
        elif lost and piece.startswith(got):
            raise EOFError("the connection ended")
        elif not left_out:
            raise Altered(f"not what was written, with {len(got)} bytes to come")
    if got:
        raise Altered(f"{len(got)} bytes more than were written")


async def answer(reader, writer):
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


async def converse(reader, writer):
    try:
        for _ in range(3):
            writer.write(LINE)
            await writer.drain()
            line = await reader.readline()
            if not line.endswith(b"\n"):
                raise EOFError("the connection ended")
            same(line, LINE)
        writer.write_eof()
        same(await reader.read(), b"")
    finally:
        writer.close()
        await writer.wait_closed()


async def streams(world):
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    await converse(*await asyncio.open_connection(*world.add(server)))


async def unix(world):
    path = str(world.settings.folder / "socket")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    server = await asyncio.start_unix_server(answer, path)
    world.add(server)
    await converse(*await asyncio.open_unix_connection(path))


async def many(world):
    """Connections that come at once."""
    server = await world.loop.create_server(lambda: Echo(world), "127.0.0.1", 0)
    address = world.add(server)

    async def one(number):
        _, client = await world.loop.create_connection(lambda: Client(world), *address)
        await client.exchange(some_bytes(5000, number))
        await finish(client)

    await together(*(one(number) for number in range(6)))


async def tls(world):
    client = await connect(world, tls=world.settings.tls)
    for size in (10, 40_000):
        await client.exchange(some_bytes(size, size))
    client.transport.writelines([LINE, LINE])
    same(await client.received(2 * len(LINE)), 2 * LINE)
    await finish(client)


async def start_tls(world):
    left, right = free_pair()
    loop, contexts = world.loop, world.settings.tls
    one, _ = await loop.connect_accepted_socket(lambda: Client(world), left)
    two, _ = await loop.connect_accepted_socket(lambda: Client(world), right)
    client, server = Client(world), Echo(world)
    limit = {"ssl_handshake_timeout": 4}
    started = await together(
        loop.start_tls(
            one, client, contexts["client"], server_hostname="localhost", **limit
        ),
        loop.start_tls(two, server, contexts["server"], server_side=True, **limit),
    )
    for protocol, transport in zip((client, server), started, strict=True):
        protocol.connection_made(transport)
    await client.exchange(some_bytes(2000))
    await finish(client)


async def sendfile(world):
    client = await connect(world)
    with open(world.settings.file, "rb") as file:
        data = file.read()
        await world.loop.sendfile(client.transport, file, 100)
        same(await client.received(len(data) - 100), data[100:])
    await finish(client)


async def datagrams(world):
    loop = world.loop
    _, echo = await loop.create_datagram_endpoint(
        lambda: Datagrams(world, True), ("127.0.0.1", 0)
    )
    address = echo.transport.get_extra_info("sockname")
    if address is None:
        raise OSError("no address")
    await exchange_datagrams(world, None, remote_addr=address)
    await exchange_datagrams(world, address, local_addr=("127.0.0.1", 0))
    echo.transport.close()
    await echo.lost


async def exchange_datagrams(world, address, **where):
    _, client = await world.loop.create_datagram_endpoint(
        lambda: Datagrams(world), **where
    )
    for number in range(3):
        sent = [some_bytes(size, number) for size in (1, 100, 1000)]
        for data in sent:
            client.transport.sendto(data, address)
        for data in sent:
            got = await client.queue.get()
            if world.said:
                raise EOFError("a datagram was lost")
            same(got, data)
    client.transport.close()
    await client.lost


async def pipes(world):
    read, write = os.pipe()
    with os.fdopen(read, "rb", 0) as reader, os.fdopen(write, "wb", 0) as writer:
        _, client = await world.loop.connect_read_pipe(lambda: Client(world), reader)
        transport, _ = await world.loop.connect_write_pipe(asyncio.BaseProtocol, writer)
        world.transports.append(transport)
        data = some_bytes(100_000)
        transport.write(data)
        same(await client.received(len(data)), data)
        transport.write(LINE)
        transport.close()
        same(await client.received(len(LINE)), LINE)
        await client.lost


# -- Descriptors -------------------------------------------------------------------


async def together(*coroutines):
    """The results of all; if one fails, the others end."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def sockets(world):
    loop = world.loop
    with socket.socket() as listener, socket.socket() as left:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        left.setblocking(False)
        (right, _), _ = await together(
            loop.sock_accept(listener), loop.sock_connect(left, listener.getsockname())
        )
        with right:
            data = some_bytes(20_000)
            await together(loop.sock_sendall(left, data), receive(loop, right, data))


async def receive(loop, sock, data):
    """Half of it by sock_recv(), half by sock_recv_into()."""
    got, buffer = bytearray(), bytearray(4000)
    while len(got) < len(data) // 2:
        got += await received_by(loop.sock_recv(sock, 3000))
    while len(got) < len(data):
        count = await received_by(loop.sock_recv_into(sock, buffer))
        got += buffer[:count]
    same(got, data)


async def received_by(call):
    got = await call
    if not got:
        raise EOFError("the connection ended")
    return got


async def datagram_calls(world):
    loop = world.loop
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        for size in (10, 1000):
            data, buffer = some_bytes(size), bytearray(2000)
            await loop.sock_sendto(sock, data, sock.getsockname())
            same((await loop.sock_recvfrom(sock, 2000))[0], data)
            await loop.sock_sendto(sock, data, sock.getsockname())
            count, _ = await loop.sock_recvfrom_into(sock, buffer)
            same(buffer[:count], data)


async def file_calls(world):
    left, right = free_pair()
    with left, right, open(world.settings.file, "rb") as file:
        await together(
            world.loop.sock_sendfile(left, file),
            receive(world.loop, right, world.settings.file.read_bytes()),
        )


async def watches(world):
    left, right = free_pair()
    loop, data, got = world.loop, some_bytes(30_000), bytearray()
    view, done = memoryview(data), world.loop.create_future()

    def end(error):
        if not done.done():
            done.set_exception(error)

    def send():
        nonlocal view
        try:
            view = view[left.send(view[:4000]) :]
        except (BlockingIOError, InterruptedError):
            return
        except Exception as error:
            end(error)
        if not view or done.done():
            loop.remove_writer(left)

    def receive():
        try:
            got.extend(right.recv(8000))
        except (BlockingIOError, InterruptedError):
            return
        except Exception as error:
            end(error)
        if len(got) == len(data) and not done.done():
            done.set_result(None)

    with left, right:
        try:
            loop.add_reader(right, receive)
            loop.add_writer(left, send)
            await done
            same(got, data)
        finally:
            loop.remove_reader(right)
            loop.remove_writer(left)


# -- Processes, threads, signals, names --------------------------------------------


async def feed(child, data):
    child.stdin.write(data)
    await child.stdin.drain()
    child.stdin.close()
    await child.stdin.wait_closed()


async def process(world):
    data = some_bytes(100_000)
    child = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    try:
        _, output = await together(feed(child, data), child.stdout.read())
        if code := await child.wait():
            raise Altered(f"it returned {code}")
        if len(output) < len(data):
            raise EOFError("the output ended")
        same(output, data)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def executor(world):
    loop = world.loop
    jobs = [loop.run_in_executor(None, pow, number, 2) for number in range(8)]
    found = await asyncio.gather(*jobs)
    if found != [number**2 for number in range(8)]:
        raise Altered(found)
    if await asyncio.to_thread(len, LINE) != len(LINE):
        raise Altered("to_thread")
    with ThreadPoolExecutor(1) as own:
        if await loop.run_in_executor(own, len, LINE) != len(LINE):
            raise Altered("run_in_executor")
    await loop.shutdown_default_executor()


async def scheduling(world):
    loop = world.loop
    seen, done = [], loop.create_future()

    def last():
        seen.append("last")
        done.set_result(None)

    thread = threading.Thread(target=loop.call_soon_threadsafe, args=[seen.append, 3])
    loop.call_soon(seen.append, 1)
    loop.call_later(0.001, loop.call_soon_threadsafe, last)
    loop.call_later(100, seen.append, "never").cancel()
    thread.start()
    thread.join()
    results = await asyncio.gather(*(asyncio.sleep(0.001, n) for n in range(5)))
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(loop.create_future(), 0.001)
    await done
    async with asyncio.Lock():
        queue = asyncio.Queue(1)
        loop.create_task(queue.put(4))
        results.append(await queue.get())
    if results != [0, 1, 2, 3, 4, 4] or seen != [1, 3, "last"]:
        raise EOFError("a callback") if world.said else Altered((results, seen))


async def lookups(world):
    loop = world.loop
    found = await asyncio.gather(
        loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM),
        loop.getaddrinfo(None, 80, type=socket.SOCK_STREAM),
        loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST),
        return_exceptions=True,
    )
    for answered in found:
        if isinstance(answered, BaseException):
            raise answered
    if not found[0] or not found[1] or found[2][0] != "127.0.0.1":
        raise Altered(found)


async def signals(world):
    loop = world.loop
    arrived = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, arrived.set_result, None)
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        await arrived
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)


# -- Loops -------------------------------------------------------------------------


async def little():
    loop = asyncio.get_running_loop()
    await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0.001))
    left, right = free_pair()
    with left, right:
        await loop.sock_sendall(left, LINE)
        got = bytearray()
        while len(got) < len(LINE):
            got += await received_by(loop.sock_recv(right, 100))
        same(got, LINE)
    return await loop.run_in_executor(None, len, LINE)


def loops(settings):
    loop = new_loop(settings.loop)
    try:
        same(bytes(loop.run_until_complete(little())), bytes(len(LINE)))
    finally:
        loop.close()


def run(settings):
    if settings.loop == "asyncio":
        found = asyncio.run(little())
    else:
        import asyncfast

        found = asyncfast.run(little())
    same(bytes(found), bytes(len(LINE)))


SCENARIOS = {
    function.__name__: function
    for function in (
        echo,
        buffered,
        backlog,
        pieces,
        streams,
        unix,
        many,
        tls,
        start_tls,
        sendfile,
        datagrams,
        pipes,
        sockets,
        datagram_calls,
        file_calls,
        watches,
        process,
        executor,
        scheduling,
        lookups,
        signals,
        loops,
        run,
    )
}
if sys.version_info < (3, 11):
    del SCENARIOS["datagram_calls"]  # the loop of 3.10 has no such calls
