"""Every way on which bytes go through a loop, for load.py.

The bytes of a stream are known by their place in it, so each piece is compared where
it arrives, however it was cut: nothing can be lost, doubled or moved unseen. Writers
change their water marks, readers stop and go on, at random moments.
"""

import asyncio
import contextlib
import functools
import os
import random
import socket
import struct
from unittest import mock

from soak_loads import Mismatch, close, same
from support import (
    PY,
    TLS_WAYS,
    client_context,
    free_pair,
    server_context,
    tls_files,
)

PERIOD = 1_048_573  # a prime: no size of a buffer divides it
_TWICE = random.Random(1).randbytes(PERIOD) * 2

PIECE = 300_000  # bytes that are written at once, at most
PAUSES = 1 / 32  # of what is received, so often a reader stops for a while
NEW_LIMITS = 1 / 64  # of what is written, so often a writer changes its marks
# In bytes; not 0, at which asyncio's TLS stays paused though nothing waits.
LIMITS = [1, 1000, 1 << 14, 1 << 16, 1 << 20]


def known(start, size):
    """`size` bytes of the stream, PERIOD at most, from `start` on."""
    at = start % PERIOD
    return _TWICE[at : at + size]


class Check:
    """Compares a stream, piece by piece, with what it should be."""

    def __init__(self):
        self.count = 0

    def add(self, data):
        same(data, known(self.count, len(data)))
        self.count += len(data)

    def end(self, total):
        if self.count != total:
            raise Mismatch(f"{self.count} bytes of {total} have arrived")


class Place:
    """What the ways need besides the loop."""

    def __init__(self, folder):
        self.folder = folder
        self.certificate = tls_files(folder)
        self.file = folder / "file"
        self.file.write_bytes(_TWICE[:PERIOD] * 8)

    def new_path(self):
        return str(self.folder / f"socket-{random.getrandbits(60)}")


# -- Protocols ---------------------------------------------------------------------

# By which a TLS transport of 3.10 fails from its end until that is told.
UNTOLD_END = [AttributeError] if PY < (3, 11) else []


class Flow:
    """The part of a protocol that tells when to write on, and of the end."""

    def __init__(self):
        self.transport = None
        self.writable = asyncio.Event()
        self.writable.set()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def pause_writing(self):
        self.writable.clear()

    def resume_writing(self):
        self.writable.set()

    def connection_lost(self, exception):
        # On 3.10 a TLS transport that its peer has ended would warn, when it dies.
        self.transport.close()
        self.writable.set()
        if not self.lost.done():
            self.lost.set_result(exception)


class Sender(Flow, asyncio.Protocol):
    """Only writes."""


class Receiver(Flow, asyncio.Protocol):
    """Compares what comes, and stops reading now and then."""

    def __init__(self, rng):
        super().__init__()
        self.rng = rng
        self.check = Check()

    def data_received(self, data):
        self.check.add(data)
        if self.rng.random() < PAUSES:
            self.pause()

    def pause(self):
        loop = asyncio.get_running_loop()
        self.transport.pause_reading()
        loop.call_later(0.001 * self.rng.random(), self.go_on)

    def go_on(self):
        if not self.lost.done():
            with contextlib.suppress(*UNTOLD_END):
                self.transport.resume_reading()


class BufferedReceiver(Receiver, asyncio.BufferedProtocol):
    """The same, by buffers of many sizes."""

    def get_buffer(self, hint):
        self.buffer = bytearray(self.rng.choice([1, 1000, 1 << 14, 1 << 18]))
        return self.buffer

    def buffer_updated(self, count):
        super().data_received(self.buffer[:count])


# -- Both ends of a transport ------------------------------------------------------


def write(transport, data, rng):
    """By any of the calls that write."""
    choice, half = rng.randrange(4), len(data) // 2
    if choice == 0:
        transport.write(memoryview(data))
    elif choice == 1:
        transport.write(bytearray(data))
    elif choice == 2:
        transport.writelines([data[:half], memoryview(data)[half:]])
    else:
        transport.write(data)


async def send(sender, total, rng):
    sent = 0
    while sent < total:
        size = min(total - sent, int(PIECE * rng.random() ** 3) + 1)
        write(sender.transport, known(sent, size), rng)
        sent += size
        if rng.random() < NEW_LIMITS:
            sender.transport.set_write_buffer_limits(high=rng.choice(LIMITS))
        await sender.writable.wait()
        if sender.lost.done():
            raise Mismatch(f"the connection ended: {sender.lost.result()!r}")


async def ended(sender, receiver, total):
    """Close the sender, and wait until all that it sent has arrived."""
    sender.transport.close()
    exception = await receiver.lost
    receiver.check.end(total)
    if exception is not None:
        raise exception
    await sender.lost


async def connect(place, family, receiver, *, tls=False):
    """A connected (sender, receiver)."""
    loop = asyncio.get_running_loop()
    left, right = free_pair(family)
    asked, served = {}, {}
    if tls:
        asked["ssl"] = client_context(place.certificate)
        asked["server_hostname"] = "localhost"
        served["ssl"] = server_context(place.certificate)
    (_, sender), (_, receiver) = await asyncio.gather(
        loop.create_connection(Sender, sock=left, **asked),
        loop.connect_accepted_socket(lambda: receiver, right, **served),
    )
    return sender, receiver


async def over_sockets(place, total, rng, *, family, kind=Receiver, tls=False):
    sender, receiver = await connect(place, family, kind(rng), tls=tls)
    await send(sender, total, rng)
    await ended(sender, receiver, total)


async def over_tls(place, total, rng, *, way=None):
    """By the way that asyncfast takes, or by one of support.TLS_WAYS."""
    with contextlib.ExitStack() as stack:
        if way is not None:
            from asyncfast import tls

            stack.enter_context(mock.patch.object(tls, *TLS_WAYS[way]))
        await over_sockets(place, total, rng, family=socket.AF_INET, tls=True)


async def over_pipes(place, total, rng):
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    _, sender = await loop.connect_write_pipe(Sender, os.fdopen(writing, "wb", 0))
    _, receiver = await loop.connect_read_pipe(
        lambda: Receiver(rng), os.fdopen(reading, "rb", 0)
    )
    await send(sender, total, rng)
    await ended(sender, receiver, total)


async def by_sendfile(place, total, rng):
    loop = asyncio.get_running_loop()
    sender, receiver = await connect(place, socket.AF_INET, Receiver(rng))
    sent = 0
    with open(place.file, "rb") as file:
        while sent < total:
            # The file has the bytes of the stream, as often as it fits.
            offset, count = sent % PERIOD, min(total - sent, rng.randrange(1, 5 << 20))
            sent += await loop.sendfile(sender.transport, file, offset, count)
    await ended(sender, receiver, total)


# -- Streams, sockets, processes, datagrams ----------------------------------------


async def receive_stream(reader, rng, check):
    while data := await reader.read(rng.choice([1, 1000, 1 << 16, 1 << 18])):
        check.add(data)


async def send_stream(writer, total, rng):
    sent = 0
    while sent < total:
        size = min(total - sent, int(PIECE * rng.random() ** 3) + 1)
        write(writer, known(sent, size), rng)
        sent += size
        await writer.drain()
    await close(writer)


async def over_streams(place, total, rng):
    left, right = free_pair(socket.AF_INET)
    _, writer = await asyncio.open_connection(sock=left)
    reader, other = await asyncio.open_connection(sock=right)
    check = Check()
    await asyncio.gather(
        send_stream(writer, total, rng), receive_stream(reader, rng, check)
    )
    check.end(total)
    await close(other)


async def send_by_sock(sock, total, rng):
    loop, sent = asyncio.get_running_loop(), 0
    with sock:
        while sent < total:
            size = min(total - sent, int(PIECE * rng.random() ** 2) + 1)
            await loop.sock_sendall(sock, known(sent, size))
            sent += size


async def receive_by_sock(sock, rng, check):
    loop, buffer = asyncio.get_running_loop(), bytearray(100_000)
    with sock:
        while True:
            if rng.random() < 0.5:
                data = await loop.sock_recv(sock, 1 << 17)
            else:
                data = buffer[: await loop.sock_recv_into(sock, buffer)]
            if not data:
                return
            check.add(data)


async def by_sock_calls(place, total, rng):
    left, right = free_pair(socket.AF_INET)
    check = Check()
    await asyncio.gather(
        send_by_sock(left, total, rng), receive_by_sock(right, rng, check)
    )
    check.end(total)


class Process(Receiver, asyncio.SubprocessProtocol):
    """What a child writes to its standard output."""

    def pipe_data_received(self, fd, data):
        self.data_received(data)

    def pause(self):
        pipe = self.transport.get_pipe_transport(1)
        pipe.pause_reading()
        asyncio.get_running_loop().call_later(0.001, self.go_on_with, pipe)

    def go_on_with(self, pipe):
        if not pipe.is_closing():
            pipe.resume_reading()


class Input:
    """The standard input of a child, as a sender."""

    def __init__(self, process):
        self.transport = process.transport.get_pipe_transport(0)
        self.writable, self.lost = process.writable, process.lost


async def through_a_process(place, total, rng):
    loop = asyncio.get_running_loop()
    transport, process = await loop.subprocess_exec(
        lambda: Process(rng), "cat", stderr=None
    )
    sender = Input(process)
    await send(sender, total, rng)
    sender.transport.close()
    if exception := await process.lost:
        raise exception
    process.check.end(total)
    if transport.get_returncode() != 0:
        raise Mismatch(f"the child ended with {transport.get_returncode()}")
    transport.close()


class Datagrams(Flow, asyncio.DatagramProtocol):
    """Each has a number: on a Unix socket none may be lost, or come too early."""

    HEAD = struct.Struct("!q")
    MOST = 20_000  # bytes

    def __init__(self, total):
        super().__init__()
        self.total = total
        self.number = 0
        self.check = Check()
        self.complete = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, address):
        try:
            self.take(data)
        except Mismatch as error:
            if not self.complete.done():
                self.complete.set_exception(error)

    def take(self, data):
        (number,) = self.HEAD.unpack(data[: self.HEAD.size])
        if number != self.number:
            raise Mismatch(f"datagram {number} instead of {self.number}")
        self.number += 1
        self.check.add(data[self.HEAD.size :])
        if self.check.count == self.total:
            self.complete.set_result(None)


async def send_datagrams(sender, total, rng):
    sent = number = 0
    while sent < total:
        size = min(total - sent, int(Datagrams.MOST * rng.random()) + 1)
        head = Datagrams.HEAD.pack(number)
        sender.transport.sendto(head + known(sent, size))
        sent += size
        number += 1
        if rng.random() < NEW_LIMITS:
            sender.transport.set_write_buffer_limits(high=rng.choice(LIMITS))
        await sender.writable.wait()


async def over_datagrams(place, total, rng):
    loop = asyncio.get_running_loop()
    path = place.new_path()
    _, receiver = await loop.create_datagram_endpoint(
        lambda: Datagrams(total), local_addr=path, family=socket.AF_UNIX
    )
    _, sender = await loop.create_datagram_endpoint(
        lambda: Datagrams(0), remote_addr=path, family=socket.AF_UNIX
    )
    await send_datagrams(sender, total, rng)
    await receiver.complete
    for protocol in (sender, receiver):
        protocol.transport.close()
        await protocol.lost
    os.unlink(path)


# -- All of them -------------------------------------------------------------------

_tcp = functools.partial(over_sockets, family=socket.AF_INET)

# {name: `await way(place, total, rng)`}
WAYS = {
    "tcp": _tcp,
    "buffered": functools.partial(_tcp, kind=BufferedReceiver),
    "unix": functools.partial(over_sockets, family=socket.AF_UNIX),
    "streams": over_streams,
    "tls": over_tls,
    "tls_by_ssl_module": functools.partial(over_tls, way="by_ssl_module"),
    "tls_by_asyncio": functools.partial(over_tls, way="by_asyncio"),
    "pipes": over_pipes,
    "sock_calls": by_sock_calls,
    "sendfile": by_sendfile,
    "process": through_a_process,
    "datagrams": over_datagrams,
}
