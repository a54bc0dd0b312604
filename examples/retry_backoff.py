"""Retries: try again after a failure, later each time, and know when to give up.

Teaches exponential backoff with jitter: the wait doubles from attempt to attempt,
and a random part keeps a thousand clients from coming back in the same moment. Only
failures that may pass are tried again; others are raised at once.

Prints each attempt of three requests: one that succeeds at the third attempt, one
that never does, and one that no retry can help.

    python examples/retry_backoff.py
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncfast

T = TypeVar("T")
# Seeded so that every run prints the same; leave the seed out in real use.
jitter = random.Random(2024)


async def retry(
    call: Callable[[], Awaitable[T]], attempts: int = 4, first: float = 0.02
) -> T:
    """Await call() until it succeeds; a ConnectionError may pass."""
    for attempt in range(1, attempts):
        try:
            return await call()
        except ConnectionError as error:
            ceiling = first * 2 ** (attempt - 1)
            delay = jitter.uniform(ceiling / 2, ceiling)
            print(f"  attempt {attempt}: {error}; again in {delay * 1000:.0f} ms")
            await asyncio.sleep(delay)
    return await call()


class Service:
    """Fails as often as it is told to before it answers."""

    def __init__(self, failures: int) -> None:
        self._failures = failures

    async def balance(self, account: str) -> int:
        await asyncio.sleep(0.001)
        if not account.isdigit():
            raise ValueError(f"{account!r} is no account number")
        if self._failures > 0:
            self._failures -= 1
            raise ConnectionError("connection refused")
        return 1250


async def show_balance(service: Service, account: str) -> None:
    print(f"account {account}:")
    try:
        print(f"  balance {await retry(lambda: service.balance(account))}")
    except (ConnectionError, ValueError) as error:
        print(f"  given up: {error}")


async def main() -> None:
    await show_balance(Service(failures=2), "4711")
    await show_balance(Service(failures=99), "4712")
    await show_balance(Service(failures=0), "12-34")


if __name__ == "__main__":
    asyncfast.run(main())
