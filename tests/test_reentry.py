"""Code that runs where nobody expects any: destructors, the collector, overridden
methods, a task that is initialized while it waits."""

import asyncio


def settled(loop, value):
    future = loop.create_future()
    future.set_result(value)
    return future


# -- Destructors -------------------------------------------------------------------


async def test_what_dies_with_a_result_may_await_another(loop):
    async def wait(future):
        return await future

    class Last:
        def __del__(self):
            try:
                wait(settled(loop, "wrong")).send(None)
            except StopIteration as stop:
                seen.append(stop.value)

    seen = []
    for number in range(3):
        await settled(loop, Last())
        assert await settled(loop, number) == number
    await asyncio.sleep(0)
    assert seen == ["wrong"] * 3
