"""What is written from buffers of every shape, by iterables that do things meanwhile."""

import contextlib
import socket

from both import (
    Log,
    awaited,
    connected,
    differential_main,
    outcome,
    received,
    reports,
)
from draw import List, odd, view

CALLS = 5


class Meddling(bytearray):
    """Does something with its transport when it is looked at."""

    deed = None

    def __len__(self):
        self.deed()
        return super().__len__()


class Writer:
    def __init__(self, loop, draw, transport, sock):
        self.loop, self.draw, self.transport, self.sock = loop, draw, transport, sock
        self.kept = bytearray(b"kept and changed")

    def deed(self):
        """What a generator may do while it is asked for its pieces."""
        deeds = (
            lambda: None,
            lambda: self.transport.write(b"inside"),
            lambda: self.transport.writelines([b"in", b"side"]),
            self.transport.close,
            self.transport.abort,
            self.transport.write_eof,
            lambda: self.kept.extend(b"more"),
            lambda: self.kept.clear(),
            lambda: self.transport.set_write_buffer_limits(0),
            lambda: 1 / 0,
        )
        self.draw.pick(deeds)()

    def piece(self):
        kind = self.draw.number(8)
        if kind == 0:
            return odd(self.draw)
        if kind == 1:
            return self.kept
        if kind == 2:
            meddling = Meddling(b"meddling")
            meddling.deed = self.deed
            return meddling
        return view(self.draw)

    def pieces(self):
        for _ in range(self.draw.number(6)):
            self.deed()
            yield self.piece()

    def iterable(self):
        return self.draw.pick((list, tuple, iter, List, lambda pieces: pieces))(
            self.pieces()
        )

    def write(self):
        found = outcome(self.transport.write, self.piece())
        # To asyncio before 3.12 a view with gaps is a wrong slice of a bytearray.
        return ("raised", TypeError) if found == ("raised", BufferError) else found

    def writelines(self):
        return outcome(lambda: self.transport.writelines(self.iterable()))

    def much(self):
        return outcome(self.transport.write, bytes(300_000))

    async def sock_sendall(self):
        """Where items aren't bytes, asyncio counts wrongly and waits for ever."""
        kind = self.draw.pick((bytes, bytearray, memoryview))
        data = kind(self.draw.bytes(100))
        return await awaited(self.loop.sock_sendall(self.sock, data))

    async def sock_recv_into(self):
        return await awaited(self.loop.sock_recv_into(self.sock, self.piece()))

    async def sendto(self):
        """To a socket that is connected, by a datagram transport."""
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        here.setblocking(False)
        there.setblocking(False)
        transport, log = await self.loop.create_datagram_endpoint(Log, sock=here)
        found = [outcome(transport.sendto, self.piece()) for _ in range(3)]
        transport.close()
        with there:
            for _ in range(3):
                with contextlib.suppress(OSError):
                    found.append(there.recv(1000))
        return found, log.events


WAYS = ("write", "write", "writelines", "writelines", "much")
WAITING = ("sock_sendall", "sock_recv_into", "sendto")


async def main(loop, draw):
    found = []
    sock, other = socket.socketpair()
    sock.setblocking(False)
    async with connected(loop) as (transport, log, peer):
        with sock, other:
            other.send(b"there is something to receive")
            writer = Writer(loop, draw, transport, sock)
            for _ in range(CALLS):
                if draw.more():
                    way = draw.pick(WAYS + WAITING)
                    result = getattr(writer, way)()
                    found.append((way, await result if way in WAITING else result))
            found += [await received(peer), log.events, reports(loop)]
    return found


def run(draw):
    differential_main(main, draw)
