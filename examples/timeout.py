"""timeout: give up on what takes too long, and decide what happens to it.

Teaches asyncio.timeout() (wait_for() on Python 3.10, which has no timeout()), that
what runs out of time is cancelled and may clean up, and how shield() lets work go on
that must not be cut short although nobody waits for it any longer.

Prints a price that comes in time, one that does not, and a payment that outlives
the wait for it.

    python examples/timeout.py
"""

import asyncio
import sys
from collections.abc import Awaitable
from typing import TypeVar

import asyncfast

T = TypeVar("T")


async def within(seconds: float, work: Awaitable[T]) -> T:
    if sys.version_info >= (3, 11):
        async with asyncio.timeout(seconds):
            return await work
    return await asyncio.wait_for(work, seconds)


async def ask_price(shop: str, seconds: float) -> float:
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        print(f"  {shop}: request cancelled, connection closed")
        raise
    return 19.90


async def price_or_last_known(shop: str, seconds: float, patience: float) -> str:
    try:
        return f"{await within(patience, ask_price(shop, seconds)):.2f}"
    # Only since 3.11 is this the built-in TimeoutError.
    except asyncio.TimeoutError:
        return "21.50, as of yesterday"


async def pay(approved: asyncio.Event) -> str:
    await approved.wait()
    return "paid, receipt 2024-117"


async def main() -> None:
    print(f"corner shop: {await price_or_last_known('corner shop', 0.01, 5)}")
    print(f"mail order: {await price_or_last_known('mail order', 60, 0.1)}")

    approved = asyncio.Event()
    payment = asyncio.create_task(pay(approved))
    try:
        await within(0.05, asyncio.shield(payment))
    except asyncio.TimeoutError:
        print(f"payment: no answer yet, cancelled: {payment.cancelled()}")
    approved.set()
    print(f"payment: {await payment}")


if __name__ == "__main__":
    asyncfast.run(main())
