"""Child processes. The CPU is the parent's alone; the wall time is the whole."""

import asyncio
from asyncio.subprocess import PIPE

from registry import timed

BALLAST = 256 << 20
INPUT = b"x" * 65536


async def run_true():
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()


@timed("true, started and awaited", longer=3, quick=True)
async def subprocess_true(loop, operations):
    for _ in range(operations):
        await run_true()


@timed("cat, 64 KiB through its pipes", longer=3)
async def subprocess_pipes(loop, operations):
    for _ in range(operations):
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        output, _ = await process.communicate(INPUT)
        assert len(output) == len(INPUT)


@timed("true, ten at once", batch=10, longer=3)
async def subprocess_ten(loop, operations):
    for _ in range(operations // 10):
        await asyncio.gather(*[run_true() for _ in range(10)])


@timed("true, by a parent of 256 MiB", longer=3)
def subprocess_large(loop, operations):
    ballast = bytearray(BALLAST)
    # Written to, or the pages would not be there to be copied.
    ballast[::4096] = b"x" * len(ballast[::4096])

    async def run():
        for _ in range(operations):
            await run_true()

    yield
    loop.run_until_complete(run())
    yield
