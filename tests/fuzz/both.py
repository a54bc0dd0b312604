"""The same on asyncio and on asyncfast."""

import asyncio
import contextlib

import support
from draw import Draw
from support import drain, finish, free_pair, normalise, reporting_loop

# In which all that is there to be read is read: a busy loop may look at descriptors in
# every sixteenth turn only, and a reader that pauses reads what came, then the end.
TURNS = 40


def turns(count=TURNS):
    return support.turns(count)


def shown(value):
    """A result in a form by which two loops can be compared."""
    if isinstance(value, (type(None), bool, int, float, str, bytes, bytearray)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return [shown(one) for one in value]
    return "object"


def outcome(call, *args, **kwargs):
    """("returned", value) or ("raised", type) of a call."""
    try:
        return "returned", shown(call(*args, **kwargs))
    except (Exception, asyncio.CancelledError) as error:
        return "raised", type(error)


def reports(loop):
    return [
        (report_text(one.get("message")), type(one.get("exception")))
        if isinstance(one, dict)
        else type(one)
        for one in loop.reports.take()
    ]


def report_text(message):
    """A message without what each loop calls its callbacks."""
    if isinstance(message, str):
        return normalise(message).split(" callback ")[0]
    return type(message)


def on(name, scenario, *args):
    loop = reporting_loop(name)
    try:
        return scenario(loop, *args)
    finally:
        finish(loop)


def differential(scenario, make=None):
    """Run `scenario(loop, *make())` on both; what it returns must be the same."""
    expected, found = (
        on(name, scenario, *(make() if make else ()))
        for name in ("asyncio", "asyncfast")
    )
    assert expected == found, "\n".join(difference(expected, found))


def differential_main(main, draw):
    """Run `main(loop, draw)`, a coroutine, on both; what is reported doesn't count."""

    def scenario(loop, draw):
        found = loop.run_until_complete(main(loop, draw))
        loop.reports.clear()
        return found

    differential(scenario, lambda: (Draw(draw.data),))


def difference(expected, found, where="result"):
    """Where two results part, in lines that can be read."""
    if (
        isinstance(expected, (list, tuple))
        and isinstance(found, (list, tuple))
        and len(expected) == len(found)
    ):
        for i, pair in enumerate(zip(expected, found, strict=True)):
            if pair[0] != pair[1]:
                yield from difference(*pair, f"{where}[{i}]")
    else:
        yield f"{where}: asyncio {expected!r:.300}, asyncfast {found!r:.300}"


async def awaited(awaitable):
    """The outcome of something that may never come."""
    try:
        task = asyncio.ensure_future(awaitable)
    except Exception as error:
        return "raised", type(error)
    for _ in range(TURNS):
        if task.done():
            break
        await asyncio.sleep(0)
    if not task.done():
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task
        return "pending"
    return outcome(task.result)


class Log(asyncio.Protocol):
    def __init__(self):
        self.events, self.data, self.lost = [], bytearray(), False

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.data += data

    def eof_received(self):
        self.events.append("eof")

    def datagram_received(self, data, address):
        self.events.append((bytes(data), address))

    def error_received(self, error):
        self.events.append(type(error))

    def connection_lost(self, error):
        self.events.append(type(error))
        self.lost = True


@contextlib.asynccontextmanager
async def connected(loop, protocol=Log):
    """(transport, protocol, the other socket)."""
    sock, peer = free_pair()
    transport, log = await loop.connect_accepted_socket(protocol, sock)
    try:
        yield transport, log, peer
    finally:
        # On asyncio it fails if the transport was closed with data to send.
        with contextlib.suppress(AttributeError):
            transport.abort()
        peer.close()
        while not log.lost:
            await asyncio.sleep(0)


async def received(peer):
    """All that the other socket gets, until nothing comes any more."""
    data, idle = b"", 0
    while idle < 2:
        await turns()
        more = b""
        with contextlib.suppress(OSError):
            more = drain(peer)
        data += more
        idle = 0 if more else idle + 1
    return data
