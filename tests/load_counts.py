"""A great many timers and tasks at once, for load.py."""

import asyncio


class Wrong(AssertionError):
    """Something was lost, came twice, too early, or in another order."""


def expect(what, found, wanted):
    if found != wanted:
        raise Wrong(f"{what}: {found:,} instead of {wanted:,}")


# -- Timers ------------------------------------------------------------------------


class Timers:
    """`count` timers of random delays, half of them at once.

    Each that ends makes another until all were made; every third that fires cancels
    any one that waits. Deadlines are whole milliseconds, so many are equal.
    """

    A_SECOND = 200_000  # timers are spread thus, so that the loop has time for them

    def __init__(self, count, rng):
        self.loop = asyncio.get_running_loop()
        self.count, self.rng = count, rng
        self.spread = int(1000 * (0.2 + count / self.A_SECOND))  # milliseconds
        self.begin = self.loop.time()
        self.waiting = {}  # {number: handle}
        self.made = self.fired = self.cancelled = 0
        self.last = (0, 0)
        self.done = self.loop.create_future()

    async def run(self):
        for _ in range(self.count // 2):
            self.make()
        await self.done
        expect("fired and cancelled", self.fired + self.cancelled, self.count)
        left = [timer for timer in self.loop._scheduled if not timer.cancelled()]
        expect("left in the loop", len(left), 0)

    def make(self):
        now = int(1000 * (self.loop.time() - self.begin))
        due = now + 1 + self.rng.randrange(self.spread)
        number = self.made
        self.made += 1
        when = self.begin + due / 1000
        self.waiting[number] = self.loop.call_at(when, self.fire, due, number, when)

    def fire(self, due, number, when):
        try:
            self.check(due, number, when)
        except Wrong as error:
            self.fail(error)
            return
        self.fired += 1
        if self.fired % 3 == 0:
            self.cancel_any()
        self.go_on()

    def check(self, due, number, when):
        if self.waiting.pop(number, None) is None:
            raise Wrong(f"timer {number} fired twice, or was cancelled")
        if self.loop.time() < when:
            raise Wrong(f"timer {number} fired too early")
        # Where deadlines are equal, the order is ours to promise, not asyncio's.
        order = (due, number if self.loop_is_ours() else 0)
        if order < self.last:
            raise Wrong(f"timer {number} of {due} ms fired after {self.last}")
        self.last = order

    def loop_is_ours(self):
        return type(self.loop).__module__.startswith("asyncfast")

    def cancel_any(self):
        handle = self.waiting.pop(self.rng.randrange(self.made), None)
        if handle is not None:
            handle.cancel()
            self.cancelled += 1
            self.go_on()

    def go_on(self):
        if self.made < self.count:
            self.make()
        elif not self.waiting and not self.done.done():
            self.done.set_result(None)

    def fail(self, error):
        for handle in self.waiting.values():
            handle.cancel()
        self.waiting.clear()
        if not self.done.done():
            self.done.set_exception(error)


async def timers(count, rng):
    """What was done, as a text."""
    found = Timers(count, rng)
    await found.run()
    return f"{count:,}, {found.cancelled:,} of them cancelled"


# -- Tasks -------------------------------------------------------------------------


async def square(number):
    """Some end at once, some wait for others."""
    for _ in range(number % 4):
        await asyncio.sleep(0)
    return number * number


async def gathered(count, rng):
    """All at once."""
    results = await asyncio.gather(*map(square, range(count)))
    expect("sum of results", sum(results), sum(n * n for n in range(count)))
    expect("results in order", sum(r == n * n for n, r in enumerate(results)), count)
    return f"{count:,} at once"


async def stubborn(gate, number):
    """Waits to be cancelled, or for its end; some of them clean up slowly."""
    try:
        await gate
    except asyncio.CancelledError:
        if number % 3 == 0:
            await asyncio.sleep(0)
        raise
    return number


async def cancelled(count, rng):
    """Half of those that wait are cancelled, some before they have begun."""
    loop, chosen = asyncio.get_running_loop(), set()
    gates = [loop.create_future() for _ in range(count)]
    tasks = [loop.create_task(stubborn(gate, n)) for n, gate in enumerate(gates)]
    for share in (0.1, 0.2, 0.3):
        for number in rng.sample(range(count), int(share * count)):
            tasks[number].cancel()
            chosen.add(number)
        await asyncio.sleep(0)
    for gate in gates:
        if not gate.done():
            gate.set_result(None)
    found = await asyncio.gather(*tasks, return_exceptions=True)
    for number, result in enumerate(found):
        was_cancelled = isinstance(result, asyncio.CancelledError)
        if was_cancelled != (number in chosen) or not (
            was_cancelled or result == number
        ):
            raise Wrong(f"task {number} ended with {result!r}")
    return f"{count:,}, {len(chosen):,} of them cancelled"


async def fail_in_group(number):
    await asyncio.sleep(0)
    raise KeyError(number)


async def one_group(number, size):
    """Every tenth group has one that fails, and cancels the rest."""
    fails, never = number % 10 == 0, asyncio.get_running_loop().create_future()
    tasks = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks += [group.create_task(square(n)) for n in range(size - 1)]
            if fails:
                tasks.append(group.create_task(stubborn(never, 1)))
                tasks.append(group.create_task(fail_in_group(number)))
    except BaseException as error:
        names = [type(each).__name__ for each in getattr(error, "exceptions", [error])]
        if not fails or names != ["KeyError"]:
            raise Wrong(f"group {number} ended with {error!r}") from error
        expect(
            "cancelled in a group", sum(task.cancelled() for task in tasks) > 0, True
        )
        return len(tasks)
    if fails:
        raise Wrong(f"group {number} did not fail")
    results = [task.result() for task in tasks]
    expect("sum in a group", sum(results), sum(n * n for n in range(size - 1)))
    return len(tasks)


async def groups(count, rng):
    """Groups of a hundred tasks, ten groups side by side."""
    size, made = 100, 0
    for first in range(0, -(-count // size), 10):
        numbers = range(first, first + 10)
        made += sum(await asyncio.gather(*(one_group(n, size) for n in numbers)))
    return f"{made:,} in groups of {size}"


TASKS = {"gather": gathered, "cancellations": cancelled}
if hasattr(asyncio, "TaskGroup"):  # from 3.11 on
    TASKS["groups"] = groups
