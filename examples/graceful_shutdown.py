"""Graceful shutdown: on SIGTERM take nothing new, finish what is begun, then go.

Teaches what a service manager expects of a server: add_signal_handler() turns the
signal into an event, accepted work gets a time of grace, what is not done by then is
cancelled and says so, and the exit code is 0.

Prints the life of three orders around a SIGTERM, which the program sends to itself
in place of the service manager.

    python examples/graceful_shutdown.py
"""

import asyncio
import os
import signal

import asyncfast

GRACE = 0.3
ORDERS = {"tea": 0.0, "soup": 0.05, "roast": 60.0}


class Kitchen:
    """Cooks orders side by side until it is asked to close."""

    def __init__(self) -> None:
        self._open = True
        self._cooking: set[asyncio.Task[None]] = set()

    def order(self, dish: str, seconds: float) -> asyncio.Task[None]:
        if not self._open:
            raise RuntimeError("the kitchen is closing")
        # The set keeps the task alive: the loop holds tasks only weakly.
        task = asyncio.create_task(self._cook(dish, seconds))
        self._cooking.add(task)
        task.add_done_callback(self._cooking.discard)
        return task

    def take_no_more(self) -> None:
        self._open = False

    async def finish(self, grace: float) -> None:
        if not self._cooking:
            return
        _, unfinished = await asyncio.wait(self._cooking, timeout=grace)
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)

    async def _cook(self, dish: str, seconds: float) -> None:
        print(f"{dish}: begun")
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            print(f"{dish}: not done in time, kept for tomorrow")
            raise
        print(f"{dish}: served")


async def main() -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)

    kitchen = Kitchen()
    tea, *_ = [kitchen.order(dish, seconds) for dish, seconds in ORDERS.items()]
    await tea
    os.kill(os.getpid(), signal.SIGTERM)

    await stopping.wait()
    print("SIGTERM received, closing")
    kitchen.take_no_more()
    try:
        kitchen.order("coffee", 0.0)
    except RuntimeError as error:
        print(f"coffee: refused, {error}")
    await kitchen.finish(GRACE)
    print("closed in good order")


if __name__ == "__main__":
    asyncfast.run(main())
