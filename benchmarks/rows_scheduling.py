"""Callbacks, timers and watched descriptors: what the loop does without tasks."""

import socket
from itertools import repeat

from registry import timed

BATCH = 1000
FAR = 3600.0
# uvloop takes a delay that rounds to no millisecond for call_soon: this one does not.
SOON = 0.001


def noop():
    pass


def every_turn(loop, turns, work):
    """Run `work` once in each of this many iterations of the loop."""

    def turn():
        nonlocal turns
        work()
        turns -= 1
        if turns:
            loop.call_soon(turn)
        else:
            loop.stop()

    loop.call_soon(turn)
    loop.run_forever()


@timed("call_soon, one callback per iteration", exact=True, quick=True)
def call_soon_chain(loop, operations):
    left = operations

    def step():
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            loop.stop()

    loop.call_soon(step)
    loop.run_forever()


@timed("call_soon, 1000 per iteration", batch=BATCH, exact=True, quick=True)
def call_soon_batch(loop, operations):
    def work():
        for _ in repeat(None, BATCH):
            loop.call_soon(noop)

    every_turn(loop, operations // BATCH, work)


@timed("call_later, create", batch=BATCH, limit=200_000, exact=True)
def call_later_create(loop, operations):
    timers = []

    def work():
        for _ in repeat(None, BATCH):
            timers.append(loop.call_later(FAR, noop))

    yield
    every_turn(loop, operations // BATCH, work)
    yield
    for timer in timers:
        timer.cancel()
    # `work` is in a cycle, and would keep them for a collection in a later stretch.
    timers.clear()
    every_turn(loop, 1, noop)


@timed("call_later, create and cancel", batch=BATCH, exact=True, quick=True)
def call_later_cancel(loop, operations):
    def work():
        for _ in repeat(None, BATCH):
            loop.call_later(FAR, noop).cancel()

    every_turn(loop, operations // BATCH, work)


@timed("call_later, create and fire", batch=BATCH, quick=True)
def call_later_fire(loop, operations):
    left = operations

    def fired():
        nonlocal left
        left -= 1
        if left == 0:
            loop.stop()
        elif left % BATCH == 0:
            start()

    def start():
        for _ in repeat(None, BATCH):
            loop.call_later(SOON, fired)

    loop.call_soon(start)
    loop.run_forever()


@timed("call_at, due at once, per timer", batch=BATCH, exact=True)
def call_at_due(loop, operations):
    """Timers that fire without a wait, in another order than they were made in."""
    past = loop.time() - 1
    moments = [past + (turn * 389 % BATCH) / BATCH / 2 for turn in range(BATCH)]

    def work():
        for moment in moments:
            loop.call_at(moment, noop)

    every_turn(loop, operations // BATCH, work)
    every_turn(loop, 2, noop)


@timed("call_later(0), one per iteration", exact=True)
def call_later_zero(loop, operations):
    left = operations

    def step():
        nonlocal left
        left -= 1
        if left:
            loop.call_later(0, step)
        else:
            loop.stop()

    loop.call_later(0, step)
    loop.run_forever()


@timed("add_reader + remove_reader", exact=True)
def reader_add_remove(loop, operations):
    left, right = socket.socketpair()
    fd = left.fileno()

    def work():
        loop.add_reader(fd, noop)
        loop.remove_reader(fd)

    with left, right:
        yield
        every_turn(loop, operations, work)
        yield


@timed("add_reader, ready, remove_reader", exact=True)
def reader_ready(loop, operations):
    """A loop may put off what the row above asks for until it is undone again."""
    left, right = socket.socketpair()
    fd = left.fileno()
    turns = operations

    def ready():
        nonlocal turns
        loop.remove_reader(fd)
        turns -= 1
        if turns:
            loop.call_soon(loop.add_reader, fd, ready)
        else:
            loop.stop()

    with left, right:
        right.send(b"x")
        yield
        loop.add_reader(fd, ready)
        loop.run_forever()
        yield
