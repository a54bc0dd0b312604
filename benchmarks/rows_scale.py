"""How cost grows with how many there are: tasks that are alive, timers that wait."""

import asyncio
import random

from registry import scaled
from rows_scheduling import every_turn, noop

COUNTS = (1000, 10_000, 100_000, 1_000_000)
BATCH = 1000
FAR = 3600.0


@scaled("create a task and run it in two steps, so many at once", COUNTS)
def scale_tasks(loop, operations, count):
    async def step():
        await asyncio.sleep(0)

    async def main():
        for _ in range(operations // count):
            tasks = [loop.create_task(step()) for _ in range(count)]
            await tasks[-1]

    yield
    loop.run_until_complete(main())
    yield


@scaled("call_later and cancel, beside so many timers", COUNTS, batch=BATCH)
def scale_timers(loop, operations, count):
    chance = random.Random(1)
    standing = [
        loop.call_later(FAR + chance.random() * FAR, noop) for _ in range(count)
    ]
    delays = [FAR + chance.random() * FAR for _ in range(BATCH)]

    def work():
        for delay in delays:
            loop.call_later(delay, noop).cancel()

    yield
    every_turn(loop, operations // BATCH, work)
    yield
    for timer in standing:
        timer.cancel()
