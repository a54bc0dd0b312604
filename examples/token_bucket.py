"""Token bucket: at most so many calls a second, with short bursts allowed.

Teaches the limit that public services ask for. A semaphore limits how many calls
run at once; a token bucket limits how many begin in a time. The bucket fills at a
steady rate; each call takes one token and, where there is none, waits for it.

Prints that the calls were let through in order, and no faster than agreed.

    python examples/token_bucket.py
"""

import asyncio
import time

import asyncfast


class TokenBucket:
    """Lets `rate` calls begin in a second, and up to `burst` of them at once."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._filled_at = time.monotonic()
        # asyncio's lock is fair: who came first is served first, and only the
        # first in the line has to watch the clock.
        self._line = asyncio.Lock()

    async def take(self) -> float:
        """Wait for a token; return the time at which it was there."""
        async with self._line:
            self._fill()
            while self._tokens < 1:
                await asyncio.sleep((1 - self._tokens) / self._rate)
                self._fill()
            self._tokens -= 1
            return self._filled_at

    def _fill(self) -> None:
        now = time.monotonic()
        fresh = (now - self._filled_at) * self._rate
        self._tokens = min(self._burst, self._tokens + fresh)
        self._filled_at = now


async def send(bucket: TokenBucket, recipient: int, sent: dict[int, float]) -> None:
    sent[recipient] = await bucket.take()


def busiest(times: list[float], seconds: float) -> int:
    """The most calls that fell into any span of so many seconds."""
    return max(sum(0 <= t - begin < seconds for t in times) for begin in times)


async def main() -> None:
    rate, burst, messages, span = 50, 5, 20, 0.1
    sent: dict[int, float] = {}
    began = time.monotonic()
    bucket = TokenBucket(rate, burst)
    await asyncio.gather(*(send(bucket, who, sent) for who in range(messages)))
    took = time.monotonic() - began

    allowed = burst + int(rate * span)
    shortest = (messages - burst) / rate
    print(f"{len(sent)} messages sent, in order: {list(sent) == sorted(sent)}")
    fits = busiest(list(sent.values()), span) <= allowed
    print(f"never more than {allowed} in {span} s: {fits}")
    print(f"not done in less than {shortest} s: {took >= shortest - 0.001}")


if __name__ == "__main__":
    asyncfast.run(main())
