"""Methods of loops, transports and futures, with arguments of every kind."""

import asyncio
import contextlib
import contextvars
import signal
import socket
import tempfile

from both import awaited, connected, differential, outcome, received, reports
from draw import FLOATS, INTS, Draw, Number, odd

CALLS = 6
# Numbers that are somebody's: descriptors of this process, signals of libFuzzer's.
TAKEN = range(3, 4096)
SIGNALS = signal.SIGUSR1, signal.SIGUSR2


class Stage:
    """What there is to call, and good arguments."""

    def __init__(self, loop, draw, transport, file):
        self.loop, self.draw, self.transport, self.file = loop, draw, transport, file
        self.left, self.right = socket.socketpair()
        self.left.setblocking(False)
        self.right.setblocking(False)
        self.calls = 0
        self.future = loop.create_future()
        self.objects = {"loop": loop, "transport": transport, "future": self.future}

    def function(self, *args):
        self.calls += 1

    async def coroutine(self):
        self.calls += 1

    def good(self, kind):
        return {
            "function": lambda: self.function,
            "coroutine": lambda: self.coroutine(),
            "seconds": lambda: self.draw.pick((0, 0.0, 1e-9, 3600)),
            "moment": lambda: self.loop.time() - self.draw.pick((0, 1, 1e9, -3600)),
            "sock": lambda: self.left,
            "fd": lambda: self.left.fileno(),
            "signal": lambda: self.draw.pick(SIGNALS),
            "data": lambda: self.draw.bytes(30),
            "pieces": lambda: [b"ab", bytearray(b"c"), b""],
            "size": lambda: self.draw.pick((0, 1, 5, 70_000)),
            "buffer": lambda: bytearray(10),
            "file": lambda: self.file,
            "transport": lambda: self.transport,
            "none": lambda: None,
            "text": lambda: "peername",
            "error": lambda: ValueError("given"),
            "report": lambda: {"message": "fuzz"},
            "context": contextvars.copy_context,
            "flag": self.draw.flag,
        }[kind]()

    def argument(self, kind):
        if self.draw.number(3) or kind == "flag":
            return self.good(kind)
        if kind in ("seconds", "moment"):
            # asyncio takes anything that adds up, and its loop fails later. Where NaN
            # stands in its heap depends on what else does.
            return self.draw.pick(INTS[:-1] + NUMBERS)
        value = odd(self.draw)
        number = value.value if isinstance(value, Number) else value
        return -5 if isinstance(number, int) and number in TAKEN else value


NUMBERS = tuple(number for number in FLOATS if number == number)

# The kinds of their arguments; those after "?" may be left out.
METHODS = {
    "loop": {
        "call_soon": "function ? data",
        "call_soon_threadsafe": "function ? data",
        "call_later": "seconds function ? data",
        "call_at": "moment function ? data",
        "add_reader": "sock function ? data",
        "add_writer": "fd function ? data",
        "remove_reader": "fd",
        "remove_writer": "sock",
        "add_signal_handler": "signal function ? data",
        "remove_signal_handler": "signal",
        "sock_recv": "sock size",
        "sock_recv_into": "sock buffer",
        "sock_recvfrom": "sock size",
        "sock_recvfrom_into": "sock buffer ? size",
        "sock_sendall": "sock data",
        "sock_sendto": "sock data none",
        "sock_accept": "sock",
        "sock_connect": "sock text",
        "sock_sendfile": "sock file ? size size",
        "sendfile": "transport file ? size size",
        "run_in_executor": "none function ? data",
        "create_task": "coroutine",
        "create_future": "",
        "set_debug": "flag",
        "set_task_factory": "none",
        "set_exception_handler": "none",
        "call_exception_handler": "report",
        "set_default_executor": "none",
        "start_tls": "transport function none",
        "run_until_complete": "coroutine",
        "get_debug": "",
        "is_closed": "",
        "close": "",
    },
    "transport": {
        "write": "data",
        "writelines": "pieces",
        "set_write_buffer_limits": "? size size",
        "get_extra_info": "text ? none",
        "pause_reading": "",
        "resume_reading": "",
        "is_closing": "",
        "write_eof": "",
        "close": "",
        "abort": "",
        "get_write_buffer_size": "",
    },
    "future": {
        "set_result": "data",
        "set_exception": "error",
        "add_done_callback": "function",
        "remove_done_callback": "function",
        "cancel": "? text",
        "result": "",
        "exception": "",
        "done": "",
    },
}
KEYWORDS = ("context", "name", "msg", "fallback", "offset", "count", "high", "x")
WRONG = ("raised", TypeError)
# The loop of 3.10 has no calls for datagrams.
ALL = [
    (owner, name)
    for owner, names in METHODS.items()
    for name in names
    if owner != "loop" or hasattr(asyncio.SelectorEventLoop, name)
]


def arguments(stage, kinds):
    draw = stage.draw
    needed, _, optional = kinds.partition("?")
    given = [stage.argument(kind) for kind in needed.split()]
    if not draw.number(8):
        given = given[:-1] if draw.flag() else [*given, odd(draw)]
    elif draw.flag():
        given += [stage.argument(kind) for kind in optional.split()]
    named = {}
    while not draw.number(4) and draw.more():
        named[draw.pick(KEYWORDS)] = odd(draw)
    return given, named


def is_wrong(name, given, found):
    """Whether arguments are of wrong types, of which either may be met first."""
    if found == ("raised", AttributeError):
        return True
    sock = given[0] if given else None
    no_socket = name.startswith("sock_") and not isinstance(sock, socket.socket)
    return no_socket and found[0] == "raised"


async def call(stage, owner, name):
    given, named = arguments(stage, METHODS[owner][name])
    if name == "create_task" and named.get("context") is not None:
        # In anything else a task can't begin, and is never done.
        named["context"] = contextvars.copy_context()
    method = getattr(stage.objects[owner], name)
    kept = []
    found = outcome(lambda: kept.append(method(*given, **named)))
    result = kept[0] if kept else None
    if name == "run_in_executor" and kept:
        # Whether its thread is ready after so many turns is chance.
        with contextlib.suppress(Exception):
            await asyncio.wait_for(result, 10)
        found = outcome(result.exception)
    elif asyncio.iscoroutine(result) or asyncio.isfuture(result):
        found = await awaited(result)
    elif kept and not isinstance(result, asyncio.Handle):
        found = outcome(lambda: result)
    for thing in given:
        if asyncio.iscoroutine(thing):
            thing.close()
    return name, WRONG if is_wrong(name, given, found) else found


async def main(loop, draw, file):
    found = []
    async with connected(loop) as (transport, log, peer):
        stage = Stage(loop, draw, transport, file)
        with stage.left, stage.right:
            for _ in range(CALLS):
                if draw.more():
                    found.append(await call(stage, *draw.pick(ALL)))
            with contextlib.suppress(OSError):
                peer.send(b"ping")
            found += [await received(peer), await received(stage.right)]
            found += [stage.calls, bytes(log.data), log.events, reports(loop)]
            loop.remove_reader(stage.left)
            loop.remove_writer(stage.left)
        put_right(loop, transport, log)
    return found


def put_right(loop, transport, log):
    loop.set_debug(False)
    loop.set_task_factory(None)
    loop.set_exception_handler(loop.reports)
    for number in (*SIGNALS, signal.SIGHUP, signal.SIGINT):
        loop.remove_signal_handler(number)
    transport.set_protocol(log)


def run(draw):
    def scenario(loop, draw, file):
        with file:
            found = loop.run_until_complete(main(loop, draw, file))
        loop.reports.clear()
        return found

    def make():
        file = tempfile.TemporaryFile()
        file.write(b"0123456789" * 3)
        file.seek(0)
        return Draw(draw.data), file

    differential(scenario, make)
