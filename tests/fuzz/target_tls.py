"""TLS with a peer that speaks it well up to some record, and then sends anything.

The peer is the ssl module's own, over memory; what it says is changed on its way to
the transport.  What the protocol gets, and how its connection ends, must be the same
on both loops; it must end when the peer's end has come.
"""

import asyncio
import contextlib
import functools
import pathlib
import socket
import ssl
import tempfile

from both import Log, differential_main, free_pair, turns
from support import client_context, drain, server_context, tls_files

ROUNDS = 30
HEADER = 5  # bytes of a record before its body


class Echo(Log):
    def data_received(self, data):
        super().data_received(data)
        if len(self.data) < 1 << 20:
            self.transport.write(data)


@functools.cache
def contexts():
    """(of a server, of a client), made once."""
    with tempfile.TemporaryDirectory() as folder:
        files = tls_files(pathlib.Path(folder))
        return server_context(files), client_context(files)


class Peer:
    """A client without a socket, and the socket that its records go through."""

    def __init__(self, draw, sock, older):
        self.draw, self.sock = draw, sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = contexts()[1]
        context.maximum_version = getattr(
            ssl.TLSVersion, "TLSv1_2" if older else "MAXIMUM_SUPPORTED"
        )
        self.tls = context.wrap_bio(
            self.incoming, self.outgoing, server_hostname="localhost"
        )
        self.ready = False

    def listen(self):
        with contextlib.suppress(OSError):
            self.incoming.write(drain(self.sock))

    def speak(self, data=b""):
        """Go on with the handshake, or send data; what there is to be sent."""
        with contextlib.suppress(ssl.SSLError):
            if not self.ready:
                self.tls.do_handshake()
                self.ready = True
            while self.tls.read(65536):
                pass
        if self.ready and data:
            with contextlib.suppress(ssl.SSLError):
                self.tls.write(data)
        return self.outgoing.read()

    def send(self, data):
        with contextlib.suppress(OSError):
            self.sock.send(data)


def records(data):
    """The records of a piece of the stream, each as a whole."""
    found = []
    while data:
        size = HEADER + int.from_bytes(data[3:5], "big")
        found.append(data[:size])
        data = data[size:]
    return found


def change(draw, said):
    """Another stream out of records."""
    kind = draw.number(10)
    which = draw.number(len(said)) if said else 0
    raw = bytearray(said[which]) if said else bytearray()
    if kind == 0 and raw:
        raw[draw.number(len(raw))] ^= 1 << draw.number(8)
    elif kind == 1 and raw:
        del raw[draw.number(len(raw)) :]
    elif kind == 2 and raw:
        raw[draw.number(min(len(raw), HEADER))] = draw.byte()
    elif kind == 3:
        raw = raw + raw
    elif kind == 4:
        raw.clear()
    elif kind == 5:
        raw = raw + draw.bytes(80)
    elif kind == 6:
        raw = bytearray(draw.bytes(80)) + raw
    elif kind == 7:
        return b"".join(reversed(said))
    elif kind == 8:
        size = draw.number(1 << 16)
        raw += bytes([20 + draw.number(6), 3, 3]) + size.to_bytes(2, "big")
    return b"".join([*said[:which], bytes(raw), *said[which + 1 :]])


async def converse(draw, peer, log):
    """Rounds of talk; the first change is the last round that is meant well."""
    changed = False
    for _ in range(ROUNDS):
        data = draw.bytes(300) * (1 + 60 * draw.flag()) if peer.ready else b""
        said = records(peer.speak(data))
        changed = draw.more() and not draw.number(3)
        # A record that is cut in two comes by and by.
        stream = change(draw, said) if changed else b"".join(said)
        cut = draw.number(len(stream) + 1) if draw.flag() else len(stream)
        for piece in stream[:cut], stream[cut:]:
            peer.send(piece)
            await turns()
        peer.listen()
        if changed or log.lost or not draw.more():
            return


async def main(loop, draw):
    sock, other = free_pair()
    older, ends = draw.flag(), draw.number(4)
    peer, log = Peer(draw, other, older), Echo()
    making = asyncio.ensure_future(
        loop.connect_accepted_socket(lambda: log, sock, ssl=contexts()[0])
    )
    await turns()
    await converse(draw, peer, log)
    if ends == 0:
        with contextlib.suppress(ssl.SSLError):
            peer.tls.unwrap()
        peer.send(peer.outgoing.read())
    elif ends == 1:
        other.shutdown(socket.SHUT_WR)
        await turns()
    other.close()
    made = await asyncio.wait_for(settled(making), 10)
    deadline = loop.time() + 10
    while made is None and not log.lost:
        assert loop.time() < deadline, "the connection does not end"
        await asyncio.sleep(0.001)
    return made, bytes(log.data), log.events


async def settled(making):
    """None if the handshake went well, else the class of what it raised."""
    await asyncio.wait([making])
    return type(making.exception()) if making.exception() else None


def run(draw):
    differential_main(main, draw)
