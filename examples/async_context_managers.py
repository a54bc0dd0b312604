"""Async context managers: what is opened gets closed, whatever happens in between.

Teaches the three ways to write `async with`: a function with
@asynccontextmanager, a class with __aenter__ and __aexit__, and AsyncExitStack for a
number of resources that is known only at run time. They close in reverse order.

Prints a transfer between accounts that succeeds, one that is rolled back, and the
order in which several resources are opened and closed.

    python examples/async_context_managers.py
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType

import asyncfast


@asynccontextmanager
async def connection(host: str) -> AsyncIterator[str]:
    await asyncio.sleep(0.01)
    print(f"  {host} connected")
    try:
        yield f"connection to {host}"
    finally:
        await asyncio.sleep(0.01)
        print(f"  {host} disconnected")


class Transaction:
    """Changes to accounts that happen all together or not at all."""

    def __init__(self, accounts: dict[str, int]) -> None:
        self._accounts = accounts

    async def __aenter__(self) -> dict[str, int]:
        await asyncio.sleep(0.01)
        self._draft = dict(self._accounts)
        return self._draft

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.sleep(0.01)
        if error is None:
            self._accounts.update(self._draft)
        print(f"  {'committed' if error is None else 'rolled back'}")


async def transfer(accounts: dict[str, int], amount: int) -> None:
    async with Transaction(accounts) as draft:
        draft["rent"] += amount
        draft["savings"] -= amount
        if draft["savings"] < 0:
            raise ValueError(f"cannot transfer {amount}")


async def main() -> None:
    accounts = {"savings": 500, "rent": 0}
    await transfer(accounts, 300)
    print(f"after 300: {accounts}")
    try:
        await transfer(accounts, 400)
    except ValueError as error:
        print(f"{error}: {accounts}")

    hosts = ["primary", "replica-1", "replica-2"]
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(connection(host)) for host in hosts]
        print(f"{len(opened)} open, the last is the {opened[-1]}")


if __name__ == "__main__":
    asyncfast.run(main())
