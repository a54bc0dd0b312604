"""What things take of memory while they wait, as the resident size grows by them."""

import asyncio
import socket

from registry import sized
from usage import raise_descriptor_limit

FAR = 3600.0
TASKS = 20_000
TIMERS = 100_000
CONNECTIONS = 2000
LOOPS = 50


def noop():
    pass


@sized("sleeping task", TASKS)
def memory_task(loop, count):
    async def sleep():
        await asyncio.sleep(FAR)

    yield
    tasks = [loop.create_task(sleep()) for _ in range(count)]
    loop.run_until_complete(asyncio.sleep(0))
    yield
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.wait(tasks))


@sized("pending timer", TIMERS)
def memory_timer(loop, count):
    yield
    timers = [loop.call_later(FAR, noop) for _ in range(count)]
    yield
    for timer in timers:
        timer.cancel()


def connected(loop, count, connect):
    """Connect one end of each of these pairs; the other end waits outside."""
    raise_descriptor_limit()
    pairs = [socket.socketpair() for _ in range(count)]
    for pair in pairs:
        pair[0].setblocking(False)

    async def connect_all():
        return [await connect(pair[0]) for pair in pairs]

    yield
    ends = loop.run_until_complete(connect_all())
    yield
    for transport in ends:
        transport.close()
    loop.run_until_complete(asyncio.sleep(0))


@sized("idle connection with a protocol", CONNECTIONS)
def memory_connection(loop, count):
    async def connect(sock):
        return (await loop.connect_accepted_socket(asyncio.Protocol, sock))[0]

    yield from connected(loop, count, connect)


@sized("idle connection with streams", CONNECTIONS)
def memory_streams(loop, count):
    kept = []

    async def connect(sock):
        kept.append(await asyncio.open_connection(sock=sock))
        return kept[-1][1]

    yield from connected(loop, count, connect)


@sized("idle loop", LOOPS, makes_loops=True)
def memory_loop(new_loop, count):
    yield
    loops = [new_loop() for _ in range(count)]
    yield
    for loop in loops:
        loop.close()
