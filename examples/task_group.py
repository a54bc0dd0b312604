"""TaskGroup: tasks that succeed together or are stopped together (Python 3.11+).

Teaches structured concurrency: no task outlives the `async with` block, results are
read after it, and when one task fails the others are cancelled and may clean up.

Prints a trip that is booked, then one that falls through because the hotel is full.
On Python 3.10, which has no TaskGroup, prints one sentence that says so.

    python examples/task_group.py
"""

import asyncio
import builtins
import platform

import asyncfast


async def book(what: str, seconds: float, available: bool = True) -> str:
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        print(f"  {what}: reservation released")
        raise
    if not available:
        raise LookupError(f"{what} is fully booked")
    print(f"  {what}: booked")
    return f"{what} confirmed"


async def trip_to_lisbon() -> None:
    async with asyncio.TaskGroup() as group:
        flight = group.create_task(book("flight TP941", 0.06))
        hotel = group.create_task(book("Hotel Alfama", 0.03))
    print(f"Lisbon: {flight.result()}, {hotel.result()}")


async def trip_to_porto() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(book("flight TP1945", 5))
        group.create_task(book("Hotel Ribeira", 0.03, available=False))


async def main() -> None:
    if not hasattr(asyncio, "TaskGroup"):
        print(f"TaskGroup needs Python 3.11; this is {platform.python_version()}.")
        return
    await trip_to_lisbon()
    try:
        await trip_to_porto()
    # `except* LookupError` reads better where 3.10, which cannot parse it, is of no
    # concern; there, the name needs no `builtins` either.
    except builtins.ExceptionGroup as group:
        print(f"Porto: off, because {' and '.join(map(str, group.exceptions))}")


if __name__ == "__main__":
    asyncfast.run(main())
