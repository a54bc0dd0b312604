"""Processes: put work that computes on every CPU, and keep the loop free.

Teaches run_in_executor() with a ProcessPoolExecutor: what computes in Python holds
the interpreter's lock, so threads do not help; processes do. Functions and arguments
travel by pickle, so they stand at the top of the module.

Prints how many primes lie in each range, and that other processes counted them.

    python examples/process_pool.py
"""

import asyncio
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import asyncfast

RANGES = [(0, 5_000), (5_000, 10_000), (10_000, 15_000), (15_000, 20_000)]


def is_prime(number: int) -> bool:
    return number > 1 and all(
        number % divisor for divisor in range(2, int(number**0.5) + 1)
    )


def count_primes(begin: int, end: int) -> tuple[int, int]:
    """The count, and the process that did the counting."""
    return sum(map(is_prime, range(begin, end))), os.getpid()


async def main() -> None:
    loop = asyncio.get_running_loop()
    # A forked child would get a copy of the running loop and of its descriptors; a
    # spawned one starts clean.
    clean = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=clean) as pool:
        results = await asyncio.gather(
            *(loop.run_in_executor(pool, count_primes, *span) for span in RANGES)
        )

    for (begin, end), (count, _) in zip(RANGES, results, strict=True):
        print(f"{begin:>6,} to {end:>6,}: {count} primes")
    counted_here = any(process == os.getpid() for _, process in results)
    print(f"{sum(count for count, _ in results)} in all")
    print(f"counted in this process: {counted_here}")


if __name__ == "__main__":
    asyncfast.run(main())
