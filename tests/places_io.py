"""Places of deeds: what a loop calls for transports, descriptors and children."""

import asyncio
import contextlib
import functools
import gc
import socket
import subprocess
import sys

from deeds import MUCH, Telling, TellingBuffered, name_of
from support import drain, free_pair, small_buffers


def connect(world, factory):
    ours, theirs = free_pair()
    small_buffers(ours)
    small_buffers(theirs)
    world.ends.callback(theirs.close)
    task = world.loop.create_task(world.loop.create_connection(factory, sock=ours))
    world.drive()
    if not task.done():
        task.cancel()
        world.drive()
    world.note("connected", not task.cancelled() and name_of(task.exception()))
    return theirs


def drained(peer):
    try:
        return drain(peer)
    except ConnectionError:
        return b""


def life_of_a_stream(factory, place, world):
    """All that happens to a connection, in the same order whatever the deed does."""

    def on_transport(method, *args):
        if world.transport is not None:
            world.inside(functools.partial(getattr(world.transport, method), *args))

    def from_peer(method, *args):
        with contextlib.suppress(OSError):
            getattr(peer, method)(*args)
        world.drive()

    world.cancel = lambda: world.transport.abort()
    peer = connect(world, lambda: factory(world, place=place))
    from_peer("send", b"hello")
    from_peer("send", b"again")
    on_transport("write", bytes(MUCH))
    got = bytearray()
    while more := drained(peer):
        got += more
        world.drive(2)
    world.note("peer got", len(got), bytes(got).replace(bytes(1), b""))
    from_peer("shutdown", socket.SHUT_WR)
    on_transport("write", b"after")
    world.note("peer got", drained(peer)[:100])
    on_transport("close")


def in_stream(call):
    return functools.partial(life_of_a_stream, Telling, call)


def in_buffered_stream(call):
    return functools.partial(life_of_a_stream, TellingBuffered, call)


def datagrams(sock, world):
    while True:
        try:
            yield sock.recv(4096)
        except BlockingIOError:
            return
        world.drive(2)


def life_of_a_datagram_endpoint(place, world):
    loop = world.loop
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for sock in (ours, theirs):
        sock.setblocking(False)
        small_buffers(sock)
    world.ends.callback(theirs.close)
    world.cancel = lambda: world.transport.abort()
    endpoint = loop.create_datagram_endpoint(
        lambda: Telling(world, place=place), sock=ours
    )
    task = loop.create_task(endpoint)
    world.drive()
    if not task.done():
        task.cancel()
        world.drive()
    with contextlib.suppress(ConnectionRefusedError):
        theirs.send(b"hello")
        theirs.send(b"again")
    world.drive()
    transport = world.transport
    if transport is not None and not transport.is_closing():
        transport.set_write_buffer_limits(2000, 1000)
        for _ in range(40):
            transport.sendto(bytes(1000))
    got = [len(data) for data in datagrams(theirs, world)]
    world.note("peer got", got)
    theirs.close()
    if transport is not None and not transport.is_closing():
        transport.sendto(b"to nobody")
        world.drive()
        transport.close()
    world.drive()


def in_datagrams(call):
    return functools.partial(life_of_a_datagram_endpoint, call)


def in_reader(world):
    ours, theirs = free_pair()
    world.ends.callback(ours.close)
    world.ends.callback(theirs.close)
    theirs.send(b"x")

    def ready():
        world.note("reader", len(drain(ours)))
        world.act()

    world.cancel = lambda: world.loop.remove_reader(ours)
    world.loop.add_reader(ours, ready)
    world.drive()
    theirs.send(b"x")
    world.drive()
    world.note("removed", world.loop.remove_reader(ours))


def in_writer(world):
    ours, theirs = free_pair()
    world.ends.callback(ours.close)
    world.ends.callback(theirs.close)

    def ready():
        world.note("writer")
        world.act()

    world.cancel = lambda: world.loop.remove_writer(ours)
    world.loop.add_writer(ours, ready)
    world.drive(3)
    world.note("removed", world.loop.remove_writer(ours))


def in_death_of_a_protocol(world):
    class Mortal(Telling):
        def __del__(self):
            self.world.act()

    peer = connect(world, lambda: Mortal(world))
    world.cancel = lambda: None
    transport = world.transport
    second = Telling(world, "second")
    second.transport = world.transport = transport

    def swap():
        transport.set_protocol(second)
        gc.collect()

    world.inside(swap)
    with contextlib.suppress(BrokenPipeError):
        peer.send(b"hello")
    world.drive()


def in_protocol_factory(world):
    def factory():
        world.note("factory")
        world.act()
        return Telling(world)

    starting = world.loop.create_server(factory, "127.0.0.1", 0)
    server = world.loop.run_until_complete(starting)
    world.cancel = server.close
    address = server.sockets[0].getsockname()
    peers = []
    for _ in range(2):
        with contextlib.suppress(OSError):
            peers.append(socket.create_connection(address))
        world.drive()
    world.note("transport", world.transport is not None)
    for peer in peers:
        peer.close()
    server.close()
    world.drive()


def in_iteration_of_writelines(world):
    def pieces():
        yield b"one"
        world.act()
        yield b"two"

    peer = connect(world, lambda: Telling(world))
    world.cancel = world.transport.abort
    transport = world.transport
    world.inside(lambda: transport.writelines(pieces()))
    world.note("peer got", drained(peer))
    transport.abort()
    world.drive()


def in_child(call, world):
    async def start():
        world.transport, _ = await world.loop.subprocess_exec(
            lambda: Telling(world, place=call),
            sys.executable,
            "-Sc",
            "print('out', end='')",
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    world.cancel = lambda: world.transport.close()
    task = world.loop.create_task(start())
    world.drive_until(lambda: any("connection_lost" in entry for entry in world.log))
    if not task.done():
        task.cancel()
    if world.transport is not None:
        world.transport.close()
    world.drive()
    # The end of the pipe and that of the process race.
    world.log.sort(key=repr)


def life_of_tls(place, world):
    ours, theirs = free_pair(socket.AF_INET)
    loop = world.loop

    class Serving(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(data.upper())

    def ended():
        return any("connection_lost" in entry for entry in world.log)

    world.cancel = lambda: world.transport.abort()
    tasks = [
        loop.create_task(
            loop.connect_accepted_socket(Serving, theirs, ssl=world.tls[0])
        ),
        loop.create_task(
            loop.create_connection(
                lambda: Telling(world, place=place),
                sock=ours,
                ssl=world.tls[1],
                server_hostname="localhost",
            )
        ),
    ]
    world.drive_until(lambda: world.acted or all(task.done() for task in tasks))
    [transport] = {protocol.transport for protocol in world.protocols}
    world.drive()
    connected = all(task.done() and not task.exception() for task in tasks)
    if connected and not transport.is_closing():
        transport.write(b"hello")
        world.drive_until(
            lambda: ended() or any(b"HELLO" in entry for entry in world.log)
        )
        transport.close()
    if connected:
        world.drive_until(ended)
    world.transport = None
    for task in tasks:
        if task.done() and not task.cancelled() and not task.exception():
            task.result()[0].abort()
        task.cancel()
    tasks.clear()
    del transport, task
    world.drive()
