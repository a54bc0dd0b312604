"""io/transport*.c: what stream and datagram transports have in common."""

import asyncio
import socket

import pytest
from support import Recorder, drain, free_pair, turns


class Both(Recorder, asyncio.DatagramProtocol):
    """A recorder of streams and of datagrams."""

    def __init__(self):
        super().__init__()
        self.errors = []

    def datagram_received(self, data, address):
        self.data_received(data)

    def error_received(self, error):
        self.errors.append(error)


async def stream(loop):
    sock, peer = free_pair()
    return await loop.connect_accepted_socket(Both, sock), sock, peer


async def datagram(loop):
    sock, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    peer.setblocking(False)
    return await loop.create_datagram_endpoint(Both, sock=sock), sock, peer


@pytest.fixture(params=[stream, datagram], ids=lambda make: make.__name__)
def make(request):
    return request.param


async def test_nothing_goes_to_the_next_owner_of_the_descriptor(loop):
    """Whoever closes a transport's socket; the number is taken again at once."""
    sock, peer = free_pair()
    transport, protocol = await loop.connect_accepted_socket(Recorder, sock)
    number = sock.fileno()
    sock.close()
    stranger, other = free_pair()
    with peer, stranger, other:
        assert number in (stranger.fileno(), other.fileno())
        transport.write(b"for the peer")
        await protocol.saw("lost")
        assert isinstance(protocol.exception, OSError)
        assert drain(stranger) + drain(other) == b""


async def test_nothing_is_read_for_the_former_owner(loop, make):
    """What the descriptor's next owner is sent is for that owner."""
    (transport, protocol), sock, peer = await make(loop)
    sock.close()
    stranger, other = free_pair()
    with peer, stranger, other:
        for mine, its in [(stranger, other), (other, stranger)]:
            its.send(b"not for the transport")
            await turns(3)
            assert drain(mine) == b"not for the transport"
        transport.abort()
        await protocol.saw("lost")
        assert protocol.data == b""


async def test_callbacks_come_after_what_was_scheduled_before(loop, make):
    """Readiness takes its turn in the queue, as asyncio has it."""
    (transport, protocol), _, peer = await make(loop)
    with peer:
        await turns(2)
        order = []
        protocol.data_received = lambda data: order.append("data")
        peer.send(b"x")
        loop.call_soon(order.append, "scheduled before")
        await turns(1)
        loop.call_soon(order.append, "scheduled after")
        await turns(3)
        assert order == ["scheduled before", "data", "scheduled after"]
        transport.abort()
        await protocol.saw("lost")
