"""The two sides of a connection, and a model of what each must see.

A side does operations that change it, and holds what its protocol, or what its socket
receives, against the model: callbacks in an order that is allowed, bytes in theirs,
writing paused and resumed at the water marks.

Where bytes are on their way while a connection is cut off, how many arrive is nobody's
promise: such a connection is `loose` from then on.  Its callbacks and the order of its
bytes are still checked, only not that all come.
"""

import asyncio
import collections
import contextlib
import random
import socket

from support import outcome, reset

KINDS = (bytes, bytes, bytearray, memoryview)

_BLOCK = random.Random(1).randbytes(65521)
_BLOCKS = _BLOCK * 8


def content(position, size):
    """What stands in a direction there; a byte out of its place is another."""
    begin = position % len(_BLOCK)
    return _BLOCKS[begin : begin + size]


class Planned(Exception):
    """Raised by a callback because it was told to."""


class Flow:
    """One direction: how many bytes were given to it, and how many have come."""

    def __init__(self):
        self.sent = self.came = 0

    @property
    def rests(self):
        return self.came == self.sent

    def accept(self, data):
        assert data == content(self.came, len(data)), f"wrong bytes at {self.came}"
        self.came += len(data)
        assert self.came <= self.sent, f"{self.came} of {self.sent} bytes came"


class Link:
    """Two sides and the flows between them."""

    def __init__(self, left, right):
        self.sides = left, right
        self.loose = False
        there, back = Flow(), Flow()
        left.join(self, right, there, back)
        right.join(self, left, back, there)

    def rests(self):
        return all(side.out.rests for side in self.sides)


class Side:
    """One end of a connection."""

    def __init__(self, world):
        self.world = world
        self.gone = self.over = False  # told to end; ended before this operation
        self.outcomes, self.reports = [], []

    def join(self, link, peer, out, into):
        self.link, self.peer, self.out, self.into = link, peer, out, into

    def perform(self, name, args):
        method = getattr(self, f"do_{name}", None)
        if method is not None:
            self.outcomes.append((name, outcome(method, *args)))
            self.world.stirred += 1

    def loosen(self):
        self.link.loose = True

    def take(self, size):
        """The next bytes to send.  What a peer does not wait for may be lost."""
        if self.gone or (self.peer.gone and not (self.peer.over and self.link.rests())):
            self.loosen()
        return content(self.out.sent, size)

    @contextlib.contextmanager
    def sending(self, size):
        """Count bytes as sent, unless that raises."""
        self.out.sent += size
        try:
            yield
        except BaseException:
            self.out.sent -= size
            raise

    def leave(self, *flows):
        """Going while one of these is under way loses an unknown part of it."""
        self.gone = True
        if not all(flow.rests for flow in flows):
            self.loosen()


class Protocol(asyncio.Protocol):
    def __init__(self, end):
        self.end = end

    def connection_made(self, transport):
        self.end.transport = transport
        self.end.saw(self, "made")

    def data_received(self, data):
        self.end.saw(self, "data", data)

    def eof_received(self):
        self.end.saw(self, "eof")
        return self.end.keeps_open

    def pause_writing(self):
        self.end.saw(self, "pause")

    def resume_writing(self):
        self.end.saw(self, "resume")

    def connection_lost(self, exception):
        self.end.saw(self, "lost", exception)


class Buffered(Protocol, asyncio.BufferedProtocol):
    def __init__(self, end):
        super().__init__(end)
        self.buffer = bytearray(5000)

    def get_buffer(self, hint):
        return self.buffer

    def buffer_updated(self, count):
        self.end.saw(self, "data", bytes(self.buffer[:count]))


class End(Side):
    """A side that has a transport."""

    def __init__(self, world, kind):
        super().__init__(world)
        self.keeps_open = kind.endswith("keeps open")
        self.protocol = (Buffered if "buffered" in kind else Protocol)(self)
        self.transport = None
        self.events, self.plans = [], {}
        self.paused, self.resumed = False, 0
        self.low, self.high = 16384, 65536
        self.exception = None

    # What its protocol sees

    def saw(self, protocol, event, detail=None):
        self.world.stirred += 1
        try:
            assert protocol is self.protocol, f"{event} at a protocol replaced before"
            assert "lost" not in self.events, f"{event} after connection_lost()"
            getattr(self, f"check_{event}")(detail)
        except AssertionError as error:
            self.world.failures.append(f"{self.name()}: {error}; {self.events}")
            raise
        if event != "data" or self.events[-1] != "data":
            self.events.append(event)
        self.do_as_planned(event)

    def check_made(self, detail):
        assert not self.events, "connection_made() not first"

    def check_data(self, data):
        assert self.events, "data before connection_made()"
        assert "eof" not in self.events, "data after eof_received()"
        assert self.transport.is_reading(), "data while reading was paused"
        assert data, "no data"
        self.into.accept(data)

    def check_eof(self, detail):
        # Whoever resumes reading after the end reads the end again.
        assert self.events.count("eof") <= self.resumed, "one end too many"
        assert self.into.rests or self.link.loose, "the end before all data"

    def check_pause(self, detail):
        assert not self.paused, "paused twice"
        size = self.transport.get_write_buffer_size()
        assert size > self.high, f"paused at {size} of {self.high}"
        self.paused = True

    def check_resume(self, detail):
        assert self.paused, "resumed twice"
        size = self.transport.get_write_buffer_size()
        assert size <= self.low, f"resumed at {size} of {self.low}"
        self.paused = False

    def check_lost(self, exception):
        self.exception = type(exception)
        self.gone = True

    def do_as_planned(self, event):
        operations = self.plans.pop(event, ())
        if operations and event in ("pause", "resume"):
            # Whether it comes to that depends on how much the kernel takes.
            self.loosen()
        for name, *args in operations:
            if name == "raise":
                if event in ("data", "eof"):
                    self.leave(self.into, self.out)
                raise Planned
            self.perform(name, args)

    # What is done to it

    def do_plan(self, event, *operation):
        if event != "lost" or operation[0] != "raise":
            self.plans.setdefault(event, []).append(operation)

    def do_write(self, size, kind):
        data = kind(self.take(size))
        with self.sending(size):
            self.transport.write(data)
        self.check_marks()

    def do_writelines(self, split):
        data, begin = memoryview(self.take(sum(split))), 0
        pieces = []
        for size, kind in zip(split, KINDS * len(split), strict=False):
            pieces.append(kind(data[begin : begin + size]))
            begin += size
        with self.sending(len(data)):
            self.transport.writelines(pieces)
        self.check_marks()

    def check_marks(self):
        if self.transport.is_closing():
            return
        size = self.transport.get_write_buffer_size()
        if size > self.high and not self.paused:
            self.world.failures.append(f"{self.name()}: {size} buffered, not paused")

    def do_write_eof(self):
        self.transport.write_eof()

    def do_close(self):
        self.leave(self.into)
        self.transport.close()

    def do_abort(self):
        # One that had data to send when it was closed can't, on asyncio, later.
        if "lost" not in self.events:
            self.leave(self.into, self.out)
            self.transport.abort()

    def do_pause(self):
        self.transport.pause_reading()

    def do_resume(self):
        self.resumed += 1
        self.transport.resume_reading()

    def do_limits(self, high, low):
        marks = low, high
        if high is None:
            marks = (16384, 65536) if low is None else (low, 4 * low)
        elif low is None:
            marks = high // 4, high
        before, (self.low, self.high) = (self.low, self.high), marks
        try:
            self.transport.set_write_buffer_limits(high, low)
        except BaseException:
            self.low, self.high = before
            raise
        assert self.transport.get_write_buffer_limits() == marks

    def do_swap(self, buffered):
        if not self.gone:
            self.protocol = (Buffered if buffered else Protocol)(self)
            self.transport.set_protocol(self.protocol)

    def do_look(self):
        return [
            self.transport.is_closing(),
            self.transport.is_reading(),
            self.transport.can_write_eof(),
            self.transport.get_extra_info("no such thing"),
        ]

    # What must be so at rest

    def missing(self):
        """What has still to happen, or None."""
        if "made" not in self.events:
            return "connection_made()"
        buffered = self.transport.get_write_buffer_size()
        if self.transport.is_closing():
            if "lost" not in self.events and not buffered:
                return "connection_lost()"
            return None
        if self.paused and not buffered:
            return "resume_writing()"
        if self.reads() and not (self.into.rests or self.link.loose):
            return f"{self.into.sent - self.into.came} bytes"
        return None

    def reads(self):
        return self.transport.is_reading()

    def view(self):
        events = [e for e in self.events if e not in ("data", "pause", "resume")]
        return events, self.exception, self.do_look(), self.outcomes, self.reports

    def name(self):
        return f"{self.world.name} side {self.world.sides.index(self)}"

    def end(self):
        self.plans.clear()
        self.loosen()
        End.do_abort(self)

    def ended(self):
        return self.events[-1] == "lost"


class Datagrams(asyncio.DatagramProtocol):
    connection_made = Protocol.connection_made
    pause_writing = Protocol.pause_writing
    resume_writing = Protocol.resume_writing
    connection_lost = Protocol.connection_lost

    def __init__(self, end):
        self.end = end

    def datagram_received(self, data, address):
        self.end.saw(self, "data", data)

    def error_received(self, exception):
        self.end.saw(self, "error", exception)


class DatagramEnd(End):
    """A side that has a datagram transport; each datagram comes whole."""

    do_write_eof = do_pause = do_resume = None

    def __init__(self, world):
        super().__init__(world, "protocol")
        self.protocol = Datagrams(self)
        self.sizes = collections.deque()

    def check_data(self, data):
        assert self.events, "data before connection_made()"
        size = self.peer.sizes.popleft()
        assert len(data) == size, f"{len(data)} bytes of a datagram of {size}"
        self.into.accept(data)

    def check_error(self, exception):
        assert self.peer.gone, f"error_received({exception!r})"
        self.loosen()

    def do_plan(self, event, *operation):
        # What datagram_received() raises asyncio reports without its transport.
        if operation[0] != "raise":
            super().do_plan(event, *operation)

    # asyncio watches a socket for a datagram that is sent after close(), and goes on
    # watching it when one that was buffered fails; then its number is another's.

    def do_write(self, size, kind):
        if self.gone:
            return
        # More than the kernel takes at once is an error.
        size = min(size, 65537)
        data = kind(self.take(size))
        with self.sending(size):
            self.sizes.append(size)
            self.transport.sendto(data)
        self.check_marks()

    def do_writelines(self, split):
        for size in split:
            self.do_write(size or 1, bytes)

    def do_close(self):
        if self.into.rests:
            super().do_close()

    def do_abort(self):
        if self.into.rests:
            super().do_abort()

    def do_swap(self, buffered):
        if not self.gone:
            self.protocol = Datagrams(self)
            self.transport.set_protocol(self.protocol)

    def do_look(self):
        return self.transport.is_closing()

    def reads(self):
        return True


class Raw(Side):
    """A side that is a socket; "resume" watches it by add_reader."""

    def __init__(self, world, sock):
        super().__init__(world)
        self.sock = sock
        self.state, self.reads = "open", False
        self.finished = False  # its write side
        self.receiving = self.delivering = None

    def busy(self, task):
        return task is not None and not task.done()

    def on_readable(self):
        self.world.stirred += 1
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self.finish_reading(type(error).__name__)
            return
        if data:
            self.accept(data)
            return
        if not (self.into.rests or self.link.loose):
            self.world.failures.append(f"{self.name()}: the end before all data")
        self.finish_reading("end")

    def accept(self, data):
        self.world.stirred += 1
        try:
            self.into.accept(data)
        except AssertionError as error:
            self.world.failures.append(f"{self.name()}: {error}")

    def finish_reading(self, state):
        self.state = state
        self.do_pause()

    def do_resume(self):
        if self.state == "open" and not self.gone and not self.busy(self.receiving):
            self.reads = True
            self.world.loop.add_reader(self.sock, self.on_readable)

    def do_pause(self):
        if self.reads:
            self.reads = False
            self.world.loop.remove_reader(self.sock)

    def do_recv(self, size):
        if not self.gone:
            with contextlib.suppress(OSError):
                self.accept(self.sock.recv(size))

    def do_write(self, size, kind):
        if self.gone or self.delivering is not None:
            return
        data = kind(self.take(size))
        try:
            self.out.sent += self.sock.send(data)
        except BlockingIOError:
            pass

    def do_write_eof(self):
        if not self.gone:
            if self.busy(self.delivering):
                self.loosen()
            self.finished = True
            self.sock.shutdown(socket.SHUT_WR)

    def do_receive(self, into):
        if self.gone or self.reads or self.busy(self.receiving):
            return
        self.receiving = self.world.loop.create_task(self.receive(into))

    async def receive(self, into):
        loop = self.world.loop
        with contextlib.suppress(ConnectionError):
            if into:
                buffer = bytearray(3000)
                count = await loop.sock_recv_into(self.sock, buffer)
                self.accept(bytes(buffer[:count]))
            else:
                self.accept(await loop.sock_recv(self.sock, 70_000))

    def do_sendall(self, size):
        if self.gone or self.delivering is not None:
            return
        data = self.take(size)
        if self.finished:
            self.loosen()
        self.out.sent += size
        self.delivering = self.world.loop.create_task(self.deliver(data))

    async def deliver(self, data):
        try:
            await self.world.loop.sock_sendall(self.sock, data)
        except ConnectionError:
            self.loosen()
        else:
            self.delivering = None
        self.world.stirred += 1

    def do_cancel(self):
        if self.busy(self.delivering):
            # Nobody knows how much has left, so nothing may follow.
            self.loosen()
            self.delivering.cancel()
        if self.busy(self.receiving):
            self.receiving.cancel()

    def do_close(self):
        self.close(self.sock.close)

    def do_abort(self):
        if self.sock.family == socket.AF_INET:
            self.close(reset, self.sock)

    def close(self, how, *args):
        """As asyncio wants it: not while somebody waits for the socket."""
        self.do_cancel()
        if self.gone or self.busy(self.receiving) or self.busy(self.delivering):
            return
        self.do_pause()
        self.leave(self.into, *([self.out] if args else []))
        how(*args)

    def missing(self):
        if self.reads and not (self.into.rests or self.link.loose):
            return f"{self.into.sent - self.into.came} bytes"
        return None

    def view(self):
        return self.state, self.outcomes, self.reports

    def name(self):
        return f"{self.world.name} socket {self.world.sides.index(self)}"

    def end(self):
        self.loosen()
        self.do_close()

    def ended(self):
        self.end()
        return self.gone
