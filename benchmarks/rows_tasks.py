"""Tasks, futures and the primitives that make tasks wait for one another."""

import asyncio

from registry import timed

BATCH = 1000
FAR = 3600.0
RIVALS = 10
GROUP = 100


async def noop():
    pass


@timed("sleep(0)", exact=True, quick=True)
async def sleep_zero(loop, operations):
    for _ in range(operations):
        await asyncio.sleep(0)


@timed("create_task and await", exact=True, quick=True)
async def create_task_await(loop, operations):
    for _ in range(operations):
        await asyncio.create_task(noop())


@timed("gather(1000), per task", exact=True, batch=BATCH, quick=True)
async def gather_1000(loop, operations):
    for _ in range(operations // BATCH):
        await asyncio.gather(*[noop() for _ in range(BATCH)])


@timed("future ping-pong, per hand-over", exact=True, batch=2, quick=True)
async def future_ping_pong(loop, operations):
    ping, pong = loop.create_future(), loop.create_future()

    async def partner():
        nonlocal ping
        for _ in range(operations // 2):
            await ping
            ping = loop.create_future()
            pong.set_result(None)

    other = loop.create_task(partner())
    for _ in range(operations // 2):
        ping.set_result(None)
        await pong
        pong = loop.create_future()
    await other


@timed("Queue ping-pong, per hand-over", exact=True, batch=2, quick=True)
async def queue_ping_pong(loop, operations):
    ping, pong = asyncio.Queue(1), asyncio.Queue(1)

    async def partner():
        for _ in range(operations // 2):
            await pong.put(await ping.get())

    other = loop.create_task(partner())
    for turn in range(operations // 2):
        await ping.put(turn)
        await pong.get()
    await other


@timed("Event ping-pong, per hand-over", exact=True, batch=2)
async def event_ping_pong(loop, operations):
    ping, pong = asyncio.Event(), asyncio.Event()

    async def partner():
        for _ in range(operations // 2):
            await ping.wait()
            ping.clear()
            pong.set()

    other = loop.create_task(partner())
    for _ in range(operations // 2):
        ping.set()
        await pong.wait()
        pong.clear()
    await other


@timed("Lock, ten tasks contend", exact=True, batch=RIVALS)
async def lock_contended(loop, operations):
    lock = asyncio.Lock()

    async def rival():
        for _ in range(operations // RIVALS):
            async with lock:
                await asyncio.sleep(0)

    await asyncio.gather(*[rival() for _ in range(RIVALS)])


@timed("timeout() around sleep(0)", exact=True, since=(3, 11))
async def timeout_context(loop, operations):
    for _ in range(operations):
        async with asyncio.timeout(FAR):
            await asyncio.sleep(0)


@timed("wait_for(coroutine)", exact=True)
async def wait_for(loop, operations):
    for _ in range(operations):
        await asyncio.wait_for(noop(), FAR)


@timed("Lock, nobody contends", exact=True)
async def lock_free(loop, operations):
    lock = asyncio.Lock()
    for _ in range(operations):
        async with lock:
            pass


@timed("Semaphore(5), ten tasks contend", batch=RIVALS, exact=True)
async def semaphore_contended(loop, operations):
    semaphore = asyncio.Semaphore(RIVALS // 2)

    async def rival():
        for _ in range(operations // RIVALS):
            async with semaphore:
                await asyncio.sleep(0)

    await asyncio.gather(*[rival() for _ in range(RIVALS)])


@timed("Condition ping-pong, per hand-over", batch=2, exact=True)
async def condition_ping_pong(loop, operations):
    condition = asyncio.Condition()
    turn = 0

    async def player(mine):
        nonlocal turn
        for _ in range(operations // 2):
            async with condition:
                while turn % 2 != mine:
                    await condition.wait()
                turn += 1
                condition.notify()

    await asyncio.gather(player(0), player(1))


@timed("TaskGroup of 100, per task", batch=GROUP, since=(3, 11), exact=True)
async def task_group(loop, operations):
    for _ in range(operations // GROUP):
        async with asyncio.TaskGroup() as group:
            for _ in range(GROUP):
                group.create_task(noop())
