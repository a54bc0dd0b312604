"""as_completed: use each result as soon as it is there.

Teaches how as_completed() yields results by arrival and not by the order in which
the work was begun, so that a user sees the first offer while the slowest seller is
still searching.

Prints each offer as it arrives, with the best price so far.

    python examples/as_completed.py
"""

import asyncio
from dataclasses import dataclass

import asyncfast


@dataclass(frozen=True)
class Offer:
    seller: str
    price: float


SELLERS = {
    "Marlowe & Sons": (0.10, 11.20),
    "Rue des Livres": (0.02, 14.00),
    "Harbour Books": (0.06, 12.50),
    "Second Chapter": (0.14, 12.90),
}


async def ask(seller: str) -> Offer:
    seconds, price = SELLERS[seller]
    await asyncio.sleep(seconds)
    return Offer(seller, price)


async def main() -> None:
    searches = [ask(seller) for seller in SELLERS]
    best: Offer | None = None
    for number, search in enumerate(asyncio.as_completed(searches), start=1):
        offer = await search
        if best is None or offer.price < best.price:
            best = offer
        print(
            f"{number} of {len(SELLERS)}: {offer.seller} asks {offer.price:.2f}, "
            f"best so far: {best.seller}"
        )


if __name__ == "__main__":
    asyncfast.run(main())
