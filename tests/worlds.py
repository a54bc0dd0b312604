"""Worlds of connections, timers and jobs: one on asyncio, one on asyncfast, side by side.

A world does operations, which are tuples of a name and of choices, and holds what
happens against a model of it: that of tests/sides.py for connections, and that timers
fire once and in their order.  `Worlds` does each operation in both and waits until both
look the same; asyncio's is the oracle.

A connection that is loose (tests/sides.py) is not compared.
"""

import asyncio
import socket
import sys
import threading
import time

from sides import KINDS, DatagramEnd, End, Link, Planned, Raw
from support import (
    finish,
    free_pair,
    new_loop,
    normalise,
    small_buffers,
    until,
)

LIMIT = 10.0  # seconds in which two worlds must have come to the same
MOST_SIDES = 12
MOST_OPERATIONS = 8  # in one go
QUIET = 3  # turns in which nothing happens are taken for rest
LONG = 3600.0  # seconds: a timer that doesn't fire

# The operations: the choices for each argument, after the number of a side.

SIZES = (1, 100, 4096, 16384, 65536, 65537, 131073, 400_000)
SPLITS = ((1, 2, 3), (0, 5), (100,) * 40, (65536, 1), (1, 200_000, 1), ())
LIMITS = (None, 0, 1, 1000, 65536, 1 << 20, -1)
FLAGS = (False, True)
COUNTS = (1, 2, 3, 20)
SIDES = ("protocol", "protocol", "keeps open", "buffered", "buffered keeps open", "raw")
EVENTS = ("data", "eof", "pause", "resume", "lost")

TO_SEND = {
    "write": (SIZES, KINDS),
    "writelines": (SPLITS,),
    "sendall": (SIZES,),
}
TO_LIVE = {
    "pause": (),
    "resume": (),
    "limits": (LIMITS, LIMITS),
    "swap": (FLAGS,),
    "look": (),
    "recv": (SIZES,),
    "receive": (FLAGS,),
    "cancel": (),
}
TO_END = {"write_eof": (), "close": (), "abort": ()}
ON_THE_LOOP = {
    "soon": (COUNTS, FLAGS),
    "threadsafe": (COUNTS, FLAGS),
    "stop": (),
    "later": ((0, 0.001, 0.003, LONG),),
    "cancel_timer": (),
    "job": (FLAGS,),
    "cancel_job": (),
}
# These run the loop, so no callback can do them.
MAKING = {
    "pair": ((socket.AF_UNIX, socket.AF_INET), SIDES, SIDES, FLAGS),
    "dial": ((1, 2, 4), SIDES[:-1], SIDES[:-1]),
    "datagrams": (FLAGS,),
    "close_server": (),
}


class Timer:
    def __init__(self, world, delay):
        self.world, self.fired, self.delay = world, 0, delay
        self.inside = asyncio._get_running_loop() is not None
        self.handle = world.loop.call_later(delay, self.fire)

    def waits(self):
        return not self.fired and not self.handle.cancelled()

    def fire(self):
        world = self.world
        world.stirred += 1
        self.fired += 1
        if self.handle.cancelled() or self.fired > 1:
            world.failures.append(f"{world.name}: a timer fired that must not")
        if self.handle.when() > world.loop.time() + 0.001:
            world.failures.append(f"{world.name}: a timer fired too early")
        # One that a callback has made may be due before what is ready already.
        before = [t for t in world.timers if t.waits() and not t.inside]
        if not self.inside and any(
            t.handle.when() < self.handle.when() for t in before
        ):
            world.failures.append(f"{world.name}: timers fired out of order")


class World:
    """All that happens on one loop."""

    def __init__(self, name):
        self.name, self.loop = name, new_loop(name)
        self.loop.set_exception_handler(self.report)
        self.links, self.sides, self.accepted = [], [], []
        self.server, self.failures, self.reports = None, [], []
        self.timers, self.order = [], []
        self.jobs, self.raced = [], set()
        self.stirred = self.scheduled = 0
        self.next = asyncio.Handle(print, (), self.loop)

    def report(self, loop, context):
        exception = context.get("exception")
        told = context["message"], type(exception)
        for side in self.sides:
            transport = getattr(side, "transport", None)
            if transport is not None and transport is context.get("transport"):
                side.reports.append(told)
                return
        self.reports.append((normalise(told[0]), told[1]))

    # Doing

    def run(self, operations, first):
        for side in self.sides:
            side.over = getattr(side, "events", ["lost"])[-1] == "lost" and side.gone
        self.perform_all(operations[:first])
        if operations[first:]:
            self.loop.call_soon(self.perform_all, operations[first:])
        self.turns()

    def perform_all(self, operations):
        for name, which, *args in operations:
            method = getattr(self, f"do_{name}", None)
            if method is not None:
                method(which, *args)
            elif self.sides:
                self.sides[which % len(self.sides)].perform(name, args)

    def turns(self):
        """As many as something happens in, and a few; an operation may stop them."""
        self.quiet, self.seen = 0, self.stirred
        while self.quiet < QUIET:
            tick = self.loop.call_soon(self.tick)
            self.loop.run_forever()
            if self.quiet < QUIET:
                self.order.append("stopped")
                tick.cancel()
                self.next.cancel()

    def tick(self):
        self.quiet = self.quiet + 1 if self.seen == self.stirred else 0
        self.seen = self.stirred
        self.next = self.loop.call_soon(self.tick)
        if self.quiet == QUIET:
            self.next.cancel()
            self.loop.stop()

    def wait(self):
        """For whatever comes in a millisecond."""
        self.loop.call_later(0.001, self.loop.stop)
        self.loop.run_forever()
        self.turns()

    # Connections

    def side(self, kind, sock=None):
        return Raw(self, sock) if kind == "raw" else End(self, kind)

    def add(self, left, right):
        self.links.append(Link(left, right))
        self.sides += left, right

    def do_pair(self, which, family, left, right, small):
        if len(self.sides) >= MOST_SIDES:
            return
        if left == right == "raw":
            left = "protocol"
        socks = free_pair(family)
        sides = [
            self.side(kind, sock)
            for kind, sock in zip((left, right), socks, strict=True)
        ]
        self.add(*sides)
        for side, sock in zip(sides, socks, strict=True):
            if small and family == socket.AF_UNIX:
                small_buffers(sock)
            if isinstance(side, End):
                self.loop.run_until_complete(
                    self.loop.connect_accepted_socket(lambda s=side: s.protocol, sock)
                )

    def do_datagrams(self, which, small):
        # Without a name of the peer's asyncio can't send; abstract ones are Linux's.
        if len(self.sides) >= MOST_SIDES or sys.platform != "linux":
            return
        socks = [socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
        for sock in socks:
            sock.bind("")
        for sock, other in zip(socks, reversed(socks), strict=True):
            sock.connect(other.getsockname())
        self.add(DatagramEnd(self), DatagramEnd(self))
        for side, sock in zip(self.sides[-2:], socks, strict=True):
            sock.setblocking(False)
            if small:
                small_buffers(sock, 70_000)
            making = self.loop.create_datagram_endpoint(
                lambda s=side: s.protocol, sock=sock
            )
            self.loop.run_until_complete(making)

    def accept(self, kind):
        self.accepted.append(End(self, kind))
        return self.accepted[-1].protocol

    def do_dial(self, which, count, asks, answers):
        if len(self.sides) + 2 * count <= MOST_SIDES:
            self.loop.run_until_complete(self.dial(count, asks, answers))

    async def dial(self, count, asks, answers):
        self.answers = answers
        if self.server is None:
            self.server = await self.loop.create_server(
                lambda: self.accept(self.answers), "127.0.0.1", 0
            )
        address = self.server.sockets[0].getsockname()
        asking = [End(self, asks) for _ in range(count)]
        await asyncio.gather(
            *(
                self.loop.create_connection(lambda e=end: e.protocol, *address)
                for end in asking
            )
        )
        await until(lambda: len([e for e in self.accepted if e.events]) == count)
        answering = {e.transport.get_extra_info("peername"): e for e in self.accepted}
        for end in asking:
            self.add(end, answering.pop(end.transport.get_extra_info("sockname")))
        self.accepted.clear()

    def do_close_server(self, which):
        if self.server is not None:
            self.server.close()
            self.server = None

    # Callbacks, timers, jobs

    def do_soon(self, which, count, nested):
        for _ in range(count):
            self.loop.call_soon(self.called, self.scheduled, nested)
            self.scheduled += 1

    def called(self, number, nested):
        self.order.append(number)
        self.stirred += 1
        if nested:
            self.do_soon(0, 1, False)

    def do_threadsafe(self, which, count, other_thread):
        first, self.scheduled = self.scheduled, self.scheduled + count

        def schedule():
            for number in range(first, first + count):
                self.loop.call_soon_threadsafe(self.called, number, False)

        if other_thread:
            thread = threading.Thread(target=schedule)
            thread.start()
            thread.join()
        else:
            schedule()

    def do_stop(self, which):
        self.loop.stop()

    def do_later(self, which, delay):
        self.timers.append(Timer(self, delay))

    def do_cancel_timer(self, which):
        if self.timers:
            self.timers[which % len(self.timers)].handle.cancel()

    def do_job(self, which, fails):
        self.jobs.append(self.loop.run_in_executor(None, self.job, fails, which))

    @staticmethod
    def job(fails, which):
        if fails:
            raise Planned
        return which

    def do_cancel_job(self, which):
        """Whether it was in time is chance; what counts is that it ends."""
        if self.jobs:
            job = self.jobs[which % len(self.jobs)]
            job.cancel()
            self.raced.add(job)

    # What must be so at rest

    def missing(self):
        found = [f"{s.name()}: {s.missing()}" for s in self.sides if s.missing()]
        if any(t.waits() and t.delay != LONG for t in self.timers):
            found.append(f"{self.name}: a timer")
        if not all(job.done() for job in self.jobs):
            found.append(f"{self.name}: a job")
        return found

    def view(self):
        """What two worlds are compared by."""
        jobs = [
            "raced" if job in self.raced else repr(job.exception() or job.result())
            for job in self.jobs
        ]
        timers = [(t.fired, t.handle.cancelled()) for t in self.timers]
        return {"jobs": jobs, "timers": timers, "order": self.order} | {
            f"link {i}": [side.view() for side in link.sides]
            for i, link in enumerate(self.links)
        }

    def end(self):
        """End everything; each connection is lost once, which its side checks."""
        for timer in self.timers:
            timer.handle.cancel()
        self.do_close_server(0)
        for side in self.sides:
            side.end()
        deadline = time.monotonic() + LIMIT
        while [side for side in self.sides if not side.ended()]:
            assert time.monotonic() < deadline, "connections are not lost"
            self.wait()

    def close(self):
        for side in self.sides:
            if isinstance(side, Raw):
                side.sock.close()
        finish(self.loop)


class Worlds:
    """One on each loop."""

    def __init__(self):
        self.worlds = World("asyncio"), World("asyncfast")

    def do(self, operations, first=MOST_OPERATIONS):
        """Do the first of these while the loop rests, and then all others in a callback,
        before the loop has seen what came of the first.
        """
        for world in self.worlds:
            world.run(operations, first)
        self.rest()

    def rest(self):
        deadline = time.monotonic() + LIMIT
        while wrong := self.differences():
            assert time.monotonic() < deadline, "\n".join(wrong)
            for world in self.worlds:
                world.wait()

    def differences(self):
        for world in self.worlds:
            assert not world.failures, "\n".join(world.failures)
        missing = [thing for world in self.worlds for thing in world.missing()]
        if missing:
            return missing
        expected, found = (world.view() for world in self.worlds)
        pairs = zip(*(world.links for world in self.worlds), strict=True)
        for i, links in enumerate(pairs):
            if any(link.loose for link in links):
                found[f"link {i}"] = expected[f"link {i}"]
        return [
            f"{key}:\n  asyncio   {expected[key]}\n  asyncfast {found[key]}"
            for key in expected
            if expected[key] != found[key]
        ]

    def end(self):
        for world in self.worlds:
            world.end()
            assert not world.failures, "\n".join(world.failures)
        # Those that are of no connection; asyncio's are its own affair.
        assert not self.worlds[1].reports, self.worlds[1].reports

    def close(self):
        for world in self.worlds:
            world.close()
