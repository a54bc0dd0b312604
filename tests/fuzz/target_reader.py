"""asyncio's StreamReader, fed in C with pieces of every size, asked in every way."""

import asyncio
import contextlib

from both import differential_main, free_pair, outcome, reports, turns
from draw import odd

LIMITS = (1, 2, 10, 100, 1000, 65536)
# A paused reader leaves what came meanwhile to one read on asyncio's loop, and to
# several of 64 KiB here.
MOST = 60  # pieces, of at most 1000 bytes
SEPARATORS = (b"\n", b"\r\n", b"ab", b"aab", b"", b"a" * 20, None, "text")


async def ask(reader, draw):
    """One call of the reader's, which may wait for data."""
    ways = (
        lambda: reader.readline(),
        lambda: reader.read(draw.number(300)),
        lambda: reader.readexactly(draw.number(300)),
        lambda: reader.readuntil(draw.pick(SEPARATORS)),
        lambda: reader.read(),
        lambda: reader.__anext__(),
        lambda: reader.read(odd(draw)),
        lambda: reader.readexactly(odd(draw)),
    )
    return await draw.pick(ways)()


def feed(draw, peer):
    """Send a piece, or end."""
    kind = draw.number(10)
    if kind == 0:
        with contextlib.suppress(OSError):
            peer.shutdown(1)
        return
    data = draw.pick((b"\n", b"aab\r\n", b"ab" * 60)) if kind < 4 else draw.bytes(50)
    if kind == 4:
        data *= 20
    with contextlib.suppress(OSError):
        peer.send(data)


def meddle(draw, reader, writer):
    """What a program may do to a reader from outside."""
    kind = draw.number(12)
    if kind == 0:
        reader.feed_data(draw.bytes(20))
    elif kind == 1:
        reader.feed_eof()
    elif kind == 2:
        reader.set_exception(ValueError("set"))
    elif kind == 3:
        writer.transport.pause_reading()
    elif kind == 4:
        writer.transport.resume_reading()
    elif kind == 5:
        del reader._buffer[:3]
    elif kind == 6:
        reader.feed_data = reader.feed_data
    elif kind == 7:
        writer.transport.abort()


async def main(loop, draw):
    sock, peer = free_pair()
    reader, writer = await asyncio.open_connection(sock=sock, limit=draw.pick(LIMITS))
    found, waiting = [], None
    for _ in range(MOST):
        if not draw.more():
            break
        feed(draw, peer)
        if draw.flag():
            found.append(outcome(meddle, draw, reader, writer))
        if waiting is None and draw.flag():
            waiting = asyncio.ensure_future(ask(reader, draw))
        if not draw.number(6) and waiting is not None:
            waiting.cancel()
        await turns()
        if waiting is not None and waiting.done():
            found.append(said(waiting))
            waiting = None
        found.append(state(reader, writer))
    peer.close()
    await turns()
    if waiting is not None:
        found.append(said(waiting))
    found.append(state(reader, writer))
    found.append(reports(loop))
    writer.transport.abort()
    await turns()
    return found


def said(task):
    if not task.done():
        task.cancel()
        return "waits"
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    if error is None:
        return outcome(task.result)
    return type(error), str(error), getattr(error, "partial", None)


def state(reader, writer):
    return (
        bytes(reader._buffer),
        reader.at_eof(),
        type(reader.exception()),
        reader._paused,
        writer.transport.is_closing(),
    )


def run(draw):
    differential_main(main, draw)
