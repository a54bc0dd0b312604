"""wait: react to the first result, the first error, or the end of your patience.

Teaches the three ways in which asyncio.wait() returns: FIRST_COMPLETED to race
mirrors, FIRST_EXCEPTION to stop at a failure, and timeout= to take what is there.
It cancels nothing by itself: what is still pending is yours to stop.

Prints the winner of a race, the failure that stopped a migration, and the replies
to a survey that came before it closed.

    python examples/wait.py
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import asyncfast


async def stop(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel, and wait until the cancelled have cleaned up."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def download(mirror: str, seconds: float) -> str:
    await asyncio.sleep(seconds)
    return f"archive from {mirror}"


async def migrate(table: str, seconds: float) -> None:
    await asyncio.sleep(seconds)
    if table == "invoices":
        raise ValueError(f"{table}: row 118 has no customer")


async def ask(voter: str, seconds: float) -> str:
    await asyncio.sleep(seconds)
    return voter


async def race_mirrors() -> None:
    mirrors = {"Tokyo": 5, "Frankfurt": 0.02, "Toronto": 5}
    downloads = [
        asyncio.create_task(download(mirror, seconds))
        for mirror, seconds in mirrors.items()
    ]
    done, pending = await asyncio.wait(downloads, return_when=asyncio.FIRST_COMPLETED)
    print(f"race: {done.pop().result()}, {len(pending)} slower ones stopped")
    await stop(pending)


async def migrate_until_error() -> None:
    tables = {"customers": 0.01, "invoices": 0.03, "payments": 5}
    moves = {
        asyncio.create_task(migrate(table, seconds)): table
        for table, seconds in tables.items()
    }
    done, pending = await asyncio.wait(moves, return_when=asyncio.FIRST_EXCEPTION)
    moved = [moves[move] for move in done if move.exception() is None]
    errors = [str(move.exception()) for move in done if move.exception()]
    print(f"migration: {', '.join(moved)} moved, then {errors[0]}")
    print(f"migration: {', '.join(moves[move] for move in pending)} not moved")
    await stop(pending)


async def survey() -> None:
    voters = {"Ana": 0.01, "Bao": 5, "Chidi": 0.02}
    replies = [
        asyncio.create_task(ask(voter, seconds)) for voter, seconds in voters.items()
    ]
    done, pending = await asyncio.wait(replies, timeout=0.3)
    # `done` is a set: it has no order of its own.
    names = sorted(reply.result() for reply in done)
    print(f"survey: {' and '.join(names)} replied, {len(pending)} did not")
    await stop(pending)


async def main() -> None:
    await race_mirrors()
    await migrate_until_error()
    await survey()


if __name__ == "__main__":
    asyncfast.run(main())
