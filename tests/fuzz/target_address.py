"""Addresses of every shape: of senders, of receivers, to look up, to connect to.

Nothing leaves the machine: what would be another one's address, or would have to be
asked of a name server, is replaced.
"""

import asyncio
import contextlib
import os
import socket
import tempfile

from both import Log, awaited, differential, outcome, turns
from draw import Draw, Int, Str, odd

HERE = ("127.0.0.1", "::1", "0.0.0.0", "::", "127.1", "127.255.255.255")
HERE += ("::ffff:127.0.0.1", "::1%lo", "::1%1", "::1%", "0:0:0:0:0:0:0:1")
HERE += ("127.0.0.1\0", "127.0.0.1 ", "0x7f.1", "127.000.000.001", "127.0.0.1%lo")
PORTS = (0, 1, 9, 65535, 65536, -1, 2**31, 2**64, "9", "", "http", "-1", b"9", None)
PORTS += (True, 9.0, Int(9), Str("9"), "\0", "９", 10**40)
FAMILIES = (0, socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, -1, 9999)
TYPES = (0, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, -1)
PROTOCOLS = (0, socket.IPPROTO_TCP, socket.IPPROTO_UDP, 250, -1)
FLAGS = (0, socket.AI_PASSIVE, socket.AI_CANONNAME, socket.AI_V4MAPPED, 1 << 30)
NUMBERS = (0, 0, 1, 0xFFFFF, 0x100000, 2**32 - 1, 2**32, -1, None, True, "0")
NUMERIC = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV


def is_harmless(host):
    """Whether it means this machine, or nothing at all."""
    if not isinstance(host, (str, bytes, bytearray)):
        return True
    try:
        found = socket.getaddrinfo(host, 0, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return not host
    except Exception:
        return True
    return all(
        address[0].startswith(("127.", "::ffff:127.", "0.")) or address[0] in HERE
        for *_, address in found
    )


def host_of(draw):
    kind = draw.number(6)
    if kind == 0:
        host = odd(draw)
    elif kind == 1:
        host = draw.text(20)
    elif kind == 2:
        # One character more, less or another.
        host = draw.pick(HERE)
        begin = draw.number(len(host) + 1)
        host = host[:begin] + draw.text(2) + host[begin + draw.number(3) :]
    else:
        host = draw.pick(HERE)
        host = host.encode() if kind == 3 else Str(host) if kind == 4 else host
    return host if is_harmless(host) else "127.0.0.1"


def port_of(draw):
    return odd(draw) if not draw.number(6) else draw.pick(PORTS)


def path_of(draw):
    """A path in this folder, or an abstract name."""
    # Without one the kernel makes up a name.
    name = draw.bytes(120).replace(b"/", b"").replace(b"\0", b"") or b"name"
    kind = draw.number(5)
    if kind == 0:
        return b"\0" + name
    if kind == 1:
        return "\0" + name.decode("utf-8", "surrogateescape")
    if kind == 2:
        return name + b"\0" + name
    return name if kind == 3 else os.fsdecode(name)


def address_of(draw):
    kind = draw.number(8)
    if kind == 0:
        # By itself it would be a path.
        value = odd(draw)
        return 5 if isinstance(value, (str, bytes, bytearray)) else value
    if kind == 1:
        return path_of(draw)
    address = host_of(draw), port_of(draw)
    more = draw.number(4) if kind < 5 else 0
    address += tuple(draw.pick(NUMBERS) for _ in range(more))
    return list(address) if kind == 2 else address


async def finished(awaitable):
    """The outcome of something that ends by itself."""
    task = asyncio.ensure_future(awaitable)
    await asyncio.wait([task], timeout=10)
    return outcome(task.result)


async def getaddrinfo(loop, draw):
    host, port = host_of(draw), port_of(draw)
    found = await finished(
        loop.getaddrinfo(
            host,
            port,
            family=draw.pick(FAMILIES),
            type=draw.pick(TYPES),
            proto=draw.pick(PROTOCOLS),
            flags=draw.pick(FLAGS) | socket.AI_NUMERICHOST,
        )
    )
    return found


async def getnameinfo(loop, draw):
    return await finished(loop.getnameinfo(address_of(draw), NUMERIC))


def socket_of(draw, kind):
    family = draw.pick((socket.AF_INET, socket.AF_INET6, socket.AF_UNIX))
    sock = socket.socket(family, kind)
    sock.setblocking(False)
    return sock


async def sock_connect(loop, draw):
    with socket_of(draw, socket.SOCK_STREAM) as sock:
        return await finished(loop.sock_connect(sock, address_of(draw)))


async def sock_sendto(loop, draw):
    with socket_of(draw, socket.SOCK_DGRAM) as sock:
        return await awaited(loop.sock_sendto(sock, b"data", address_of(draw)))


async def sendto(loop, draw):
    """From a datagram transport; errors that the kernel tells of later are chance."""
    sock = socket_of(draw, socket.SOCK_DGRAM)
    transport, log = await loop.create_datagram_endpoint(Log, sock=sock)
    found = [
        outcome(transport.sendto, b"data", address_of(draw))
        for _ in range(1 + draw.number(4))
    ]
    closing = transport.is_closing()
    transport.abort()
    while not log.lost:
        await asyncio.sleep(0)
    return found, closing, log.events[-1]


def remove(path):
    # The kernel ends a path at a null.
    with contextlib.suppress(OSError):
        os.unlink(os.fsencode(path).partition(b"\0")[0])


async def named_sender(loop, draw):
    """What a receiver is told of a sender with any name."""
    here, there = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in "ab")
    with there:
        name = path_of(draw)
        try:
            there.bind(name)
            here.bind(b"")
            there.connect(here.getsockname())
        except (OSError, ValueError):
            here.close()
            remove(name)
            return None
        transport, log = await loop.create_datagram_endpoint(Log, sock=here)
        there.send(b"from there")
        await turns()
        found = outcome(transport.sendto, b"back", name)
        transport.abort()
        remove(name)
        while not log.lost:
            await asyncio.sleep(0)
        return log.events, found


async def listen(loop, draw):
    """A server, and somebody who asks it."""
    path = path_of(draw)
    try:
        server = await loop.create_unix_server(Log, path)
    except Exception as error:
        return type(error)
    found = [one.getsockname() for one in server.sockets]
    transport, log = await loop.create_unix_connection(Log, path)
    found.append(transport.get_extra_info("peername"))
    transport.abort()
    server.close()
    remove(path)
    await turns()
    return found


async def create_connection(loop, draw):
    host, port = host_of(draw), port_of(draw)
    found = await finished(
        loop.create_connection(
            Log, host, port, family=draw.pick(FAMILIES), flags=socket.AI_NUMERICHOST
        )
    )
    return found[0]


WAYS = (
    getaddrinfo,
    getaddrinfo,
    getnameinfo,
    sock_connect,
    sock_sendto,
    sendto,
    sendto,
    named_sender,
    listen,
    create_connection,
)


def run(draw):
    def scenario(loop, draw):
        way = draw.pick(WAYS)
        return way.__name__, loop.run_until_complete(way(loop, draw))

    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            differential(scenario, lambda: (Draw(draw.data),))
        finally:
            os.chdir(before)
