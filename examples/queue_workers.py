"""Queue: a fixed crew of workers behind a queue that holds back its producer.

Teaches the pipeline of most servers: put() on a bounded queue waits while it is
full, each worker takes the next order by get(), join() waits until every order is
done, and one bad order does not take its worker down.

Prints what was packed, what was refused, and how long the line became.

    python examples/queue_workers.py
"""

import asyncio
from dataclasses import dataclass, field

import asyncfast

WORKERS = 3
LONGEST_LINE = 4


@dataclass(frozen=True)
class Order:
    number: int
    item: str
    pieces: int


@dataclass
class Ledger:
    packed: dict[int, str] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    longest_line: int = 0


ORDERS = [
    Order(number, item, pieces)
    for number, (item, pieces) in enumerate(
        [("kettle", 1), ("tea, 1 kg", 2), ("cup", 6), ("spoon", 0), ("tray", 1)] * 2,
        start=4001,
    )
]


async def pack(order: Order) -> str:
    if order.pieces < 1:
        raise ValueError(f"{order.item}: nothing to pack")
    await asyncio.sleep(0.01)
    return f"{order.pieces} x {order.item}"


async def worker(orders: asyncio.Queue[Order], ledger: Ledger) -> None:
    while True:
        order = await orders.get()
        try:
            ledger.packed[order.number] = await pack(order)
        except ValueError as error:
            ledger.refused[order.number] = str(error)
        finally:
            orders.task_done()


async def take_orders(orders: asyncio.Queue[Order], ledger: Ledger) -> None:
    for order in ORDERS:
        await orders.put(order)
        ledger.longest_line = max(ledger.longest_line, orders.qsize())


async def main() -> None:
    ledger = Ledger()
    orders: asyncio.Queue[Order] = asyncio.Queue(maxsize=LONGEST_LINE)
    crew = [asyncio.create_task(worker(orders, ledger)) for _ in range(WORKERS)]
    await take_orders(orders, ledger)
    await orders.join()
    for member in crew:
        member.cancel()
    await asyncio.gather(*crew, return_exceptions=True)

    for number, parcel in sorted(ledger.packed.items()):
        print(f"{number}: packed {parcel}")
    for number, why in sorted(ledger.refused.items()):
        print(f"{number}: refused, {why}")
    print(f"at most {ledger.longest_line} orders were waiting")


if __name__ == "__main__":
    asyncfast.run(main())
