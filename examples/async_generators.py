"""Async generators: a stream of items that is fetched page by page, as it is read.

Teaches `async for` over an async generator, generators that feed each other, an
async comprehension, and why aclosing() belongs around a generator that is left
early: its `finally` then runs at once and not some time later.

Prints the first temperatures above a limit, with the pages that had to be fetched
for them, then all days with frost.

    python examples/async_generators.py
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import asyncfast

READINGS = [-3, -1, 2, 5, 8, 12, 17, 19, 21, 18, 14, 9]
PAGE = 3


async def fetch_page(number: int) -> list[int]:
    await asyncio.sleep(0.01)
    print(f"  page {number} fetched")
    return READINGS[number * PAGE : (number + 1) * PAGE]


async def readings() -> AsyncGenerator[int, None]:
    """All readings; to the reader it looks like one long list."""
    number = 0
    try:
        while page := await fetch_page(number):
            for reading in page:
                yield reading
            number += 1
    finally:
        print("  connection given back")


async def above(limit: int, source: AsyncIterator[int]) -> AsyncGenerator[int, None]:
    async for reading in source:
        if reading > limit:
            yield reading


async def main() -> None:
    print("two readings above 7:")
    found: list[int] = []
    async with aclosing(readings()) as source, aclosing(above(7, source)) as warm:
        async for reading in warm:
            found.append(reading)
            if len(found) == 2:
                break
    print(f"{found}, and the rest was never fetched")

    print("frost:")
    frost = [reading async for reading in readings() if reading < 0]
    print(f"{frost}")


if __name__ == "__main__":
    asyncfast.run(main())
