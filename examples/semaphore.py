"""Semaphore: start everything, but let only so many run at the same time.

Teaches the shortest limit on concurrency: a semaphore held around the costly part.
All tasks exist from the start; the semaphore decides how many are past its door.

Prints how many photos were resized and how many were worked on at once at most,
first without and then with the limit.

    python examples/semaphore.py
"""

import asyncio
import contextlib

import asyncfast

PHOTOS = [f"holiday-{number:02}.jpg" for number in range(1, 13)]


class Resizer:
    """Resizes photos, and remembers how many it had in hand at once."""

    def __init__(self) -> None:
        self.busiest = 0
        self._in_hand = 0

    async def resize(self, photo: str) -> str:
        self._in_hand += 1
        self.busiest = max(self.busiest, self._in_hand)
        await asyncio.sleep(0.02)
        self._in_hand -= 1
        return photo.replace(".jpg", "-small.jpg")


async def resize_all(door: contextlib.AbstractAsyncContextManager[None]) -> str:
    resizer = Resizer()

    async def resize(photo: str) -> str:
        async with door:
            return await resizer.resize(photo)

    small = await asyncio.gather(*map(resize, PHOTOS))
    return f"{len(small)} photos up to {small[-1]}, at most {resizer.busiest} at once"


async def main() -> None:
    print(f"no limit: {await resize_all(contextlib.nullcontext())}")
    print(f"limit of 3: {await resize_all(asyncio.Semaphore(3))}")


if __name__ == "__main__":
    asyncfast.run(main())
