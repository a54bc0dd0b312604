"""Work handed to threads, and callbacks handed over by them.

On one core like the others: on two, what a system decides from second to second about
which thread runs where changes the cost of a hand-over fivefold, for every loop alike.
"""

import asyncio
import queue
import threading

from registry import timed

BATCH = 1000


def noop():
    pass


@timed("run_in_executor, one by one", quick=True)
async def executor_sequential(loop, operations):
    for _ in range(operations):
        await loop.run_in_executor(None, noop)


@timed("to_thread, one by one")
async def to_thread(loop, operations):
    for _ in range(operations):
        await asyncio.to_thread(noop)


@timed("run_in_executor, 1000 at once", batch=BATCH)
async def executor_1000(loop, operations):
    for _ in range(operations // BATCH):
        jobs = [loop.run_in_executor(None, noop) for _ in range(BATCH)]
        await asyncio.gather(*jobs)


@timed("call_soon_threadsafe, flood", batch=BATCH, limit=200_000)
def threadsafe_flood(loop, operations):
    def flood():
        for _ in range(operations):
            loop.call_soon_threadsafe(noop)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=flood)
    # From within the loop, so that it runs while the flood rises.
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()


@timed("call_soon_threadsafe, ping-pong")
def threadsafe_ping_pong(loop, operations):
    ball = queue.SimpleQueue()

    def partner():
        for _ in range(operations):
            ball.get()
            loop.call_soon_threadsafe(ball.put, None)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=partner)
    thread.start()
    loop.call_soon(ball.put, None)
    loop.run_forever()
    thread.join()


@timed("call_soon_threadsafe from the loop's own thread", exact=True)
def threadsafe_chain(loop, operations):
    left = operations

    def step():
        nonlocal left
        left -= 1
        if left:
            loop.call_soon_threadsafe(step)
        else:
            loop.stop()

    loop.call_soon(step)
    loop.run_forever()
