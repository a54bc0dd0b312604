"""Where a scenario runs: a loop, what was said on it, and a connection beside it."""

import asyncio
import contextlib
import hashlib
import logging
import socket
import sys
import threading

from support import free_pair, once

# Seconds in which a scenario may still end by itself after something was said.
GRACE = 0.05

# What its problems begin with.
BYSTANDER = "the bystander"


class Altered(AssertionError):
    """Bytes were lost, changed or made up."""


def same(got, wanted):
    if bytes(got) != wanted:
        raise Altered(f"{len(got)} bytes, other than the {len(wanted)} that were sent")


def some_bytes(size, seed=0):
    """The same for the same arguments, and no part like another."""
    block = hashlib.shake_128(b"%d" % seed).digest(min(size, 1 << 16))
    return (block * (size // len(block) + 1))[:size] if size else b""


class World:
    """One loop, and all that scenarios open on it."""

    def __init__(self, loop, settings):
        self.loop = loop
        self.settings = settings
        self.said = []
        self.task = None
        self.timers = []
        self.transports = []
        self.servers = []
        loop.set_exception_handler(self._report)

    def hear(self, what):
        """Somebody was told of a fault.  Whoever still waits need not wait long."""
        self.said.append(what)
        if self.task is not None:
            self.timers.append(self.loop.call_later(GRACE, self.task.cancel))
            self.timers.append(self.loop.call_later(4 * GRACE, self.loop.stop))

    def _report(self, loop, context):
        exception = context.get("exception")
        self.hear(f"report: {context['message']}: {exception!r}"[:200])

    def run(self, scenario):
        """Run a scenario to its end, or until it was cancelled after a report."""
        self.task = self.loop.create_task(scenario(self))
        try:
            self.loop.run_until_complete(self.task)
        except RuntimeError:
            if not self.said or self.task.done():
                raise
        finally:
            task, self.task = self.task, None
            task.cancel()
            for timer in self.timers:
                timer.cancel()

    def add(self, server):
        """Remember a server; its first address."""
        self.servers.append(server)
        if not server.sockets:
            # As asyncio does: those that can't be made are left out.
            raise OSError("a server without a socket")
        return server.sockets[0].getsockname()

    def close(self):
        """Give up what a scenario left."""
        once(self.loop)  # a stop() that came too late
        for server in self.servers:
            server.close()
        for transport in self.transports:
            abort = getattr(transport, "abort", transport.close)
            with contextlib.suppress(AttributeError):  # a pipe that is closed
                abort()
        for server in self.servers:
            if sys.version_info < (3, 12):
                self.loop.run_until_complete(server.wait_closed())
        self.transports.clear()
        self.servers.clear()

    def end(self):
        """End the tasks that can be ended, and close the loop."""
        loop = self.loop
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            # As in asyncio, a task whose step was reported never ends.
            loop.run_until_complete(asyncio.wait(tasks, timeout=0.2))
        loop.run_until_complete(loop.shutdown_asyncgens())
        if not getattr(loop, "_executor_shutdown_called", False):
            loop.run_until_complete(loop.shutdown_default_executor())
        for _ in range(3):
            once(loop)
        loop.close()


class Listener(logging.Handler):
    """What asyncio logs and Python cannot raise was said, too."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []
        # For MemoryErrors: nothing has to be made then.
        self.unraisable = 0
        logging.getLogger("asyncio").addHandler(self)
        sys.unraisablehook = self._unraisable

    def emit(self, record):
        self.lines.append(f"log: {record.getMessage()}"[:200])

    def handleError(self, record):
        self.unraisable += 1

    def _unraisable(self, info):
        self.unraisable += 1
        if not isinstance(info.exc_value, MemoryError):
            self.lines.append(
                f"unraisable: {info.exc_value!r} in {info.object!r}"[:200]
            )

    def take(self):
        lines = self.lines + ["unraisable"] * bool(self.unraisable)
        self.lines = []
        self.unraisable = 0
        return lines


# -- Protocols ---------------------------------------------------------------------


class Client(asyncio.Protocol):
    """Collects what it gets; waiting for more ends when the connection does."""

    def __init__(self, world):
        self.world = world
        self.data = bytearray()
        self.writable = asyncio.Event()
        self.writable.set()
        self.waiter = None
        self.lost = world.loop.create_future()
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport
        self.world.transports.append(transport)

    def data_received(self, data):
        self.data += data
        self._wake()

    def pause_writing(self):
        self.writable.clear()

    def resume_writing(self):
        self.writable.set()

    def connection_lost(self, exception):
        self.lost.set_result(exception)
        self.writable.set()
        self._wake()
        if exception is not None:
            self.world.hear(f"connection_lost: {exception!r}")

    def _wake(self):
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    async def received(self, size):
        """Take that many bytes; EOFError if the connection ends before."""
        while len(self.data) < size:
            if self.lost.done():
                raise self.lost.result() or EOFError("the connection ended")
            self.waiter = self.world.loop.create_future()
            await self.waiter
        taken = bytes(self.data[:size])
        del self.data[:size]
        return taken

    async def exchange(self, data):
        """Send it, and hold what comes back against it."""
        self.transport.write(data)
        same(await self.received(len(data)), data)


class Echo(Client):
    """Sends back what it gets, and reads no faster than it can send."""

    def data_received(self, data):
        self.transport.write(data)

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


class Buffered(Client, asyncio.BufferedProtocol):
    """A Client that is read into a buffer of its own."""

    buffer = None

    def get_buffer(self, hint):
        if self.buffer is None:
            self.buffer = bytearray(5000)
        return self.buffer

    def buffer_updated(self, count):
        self.data_received(self.buffer[:count])


class Datagrams(asyncio.DatagramProtocol):
    """Collects datagrams, or sends them back."""

    def __init__(self, world, echo=False):
        self.world = world
        self.echo = echo
        self.queue = asyncio.Queue()
        self.lost = world.loop.create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.world.transports.append(transport)

    def datagram_received(self, data, address):
        if self.echo:
            self.transport.sendto(data, address)
        else:
            self.queue.put_nowait(data)

    def error_received(self, exception):
        self.world.hear(f"error_received: {exception!r}")

    def connection_lost(self, exception):
        self.lost.set_result(exception)
        if exception is not None:
            self.world.hear(f"connection_lost: {exception!r}")


# -- The bystander -----------------------------------------------------------------


class BystanderEcho(asyncio.Protocol):
    """The end of the bystander that is on the loop."""

    def __init__(self, ended):
        self.ended = ended
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def connection_lost(self, exception):
        if not self.ended.done():
            self.ended.set_result(exception)


class Bystander:
    """A connection of the same loop, on which no fault is made.

    A thread at its other end sends blocks and holds each echo against it, first while
    the scenario runs, then once more.
    """

    BLOCKS = 8
    LIMIT = 20  # seconds for one echo

    def __init__(self, world, shim, busy=True):
        self.world = world
        self.shim = shim
        self.problem = None
        self.rest = threading.Event()
        self.near, self.far = free_pair(socket.AF_UNIX)
        self.far.settimeout(self.LIMIT)
        shim.spare(self.near.fileno())
        self.number = self.near.fileno()
        self.ended = world.loop.create_future()
        self.thread = threading.Thread(target=self._drive, args=[busy])

    def start(self):
        loop = self.world.loop
        protocol = BystanderEcho(self.ended)
        loop.run_until_complete(
            loop.connect_accepted_socket(lambda: protocol, self.near)
        )
        self.thread.start()

    def _drive(self, busy):
        try:
            for number in range(self.BLOCKS if busy else 0):
                self._exchange(number)
            self.rest.wait(60)
            self._exchange(self.BLOCKS)
        except Exception as error:
            self.problem = f"{BYSTANDER} got {error!r}"
        finally:
            self.far.close()

    def _exchange(self, number):
        data = some_bytes(3000 + 9000 * (number % 3), number)
        self.far.sendall(data)
        got = bytearray()
        while len(got) < len(data):
            piece = self.far.recv(1 << 16)
            if not piece:
                raise EOFError("its connection was lost")
            got += piece
        same(got, data)

    def finish(self):
        """Let it send once more; what went wrong, or None."""
        self.rest.set()
        exception = self.world.loop.run_until_complete(self.ended)
        self.thread.join(self.LIMIT)
        self.shim.spare(self.number, False)
        if exception is not None and self.problem is None:
            self.problem = f"{BYSTANDER} was lost: {exception!r}"
        return self.problem

    def give_up(self):
        """The loop is of no use any more."""
        self.rest.set()
        with contextlib.suppress(OSError):
            self.far.shutdown(socket.SHUT_RDWR)
        if self.thread.ident is not None:
            self.thread.join(self.LIMIT)
        self.shim.spare(self.number, False)
