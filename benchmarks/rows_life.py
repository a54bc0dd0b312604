"""The life of a loop: what a short program pays before and after its work."""

import asyncio

from registry import timed


async def noop():
    pass


@timed("new loop, close", makes_loops=True)
def loop_create_close(new_loop, operations):
    for _ in range(operations):
        new_loop().close()


@timed("asyncio.run(noop())", makes_loops=True, quick=True)
def run_noop(new_loop, operations):
    run = run_on(new_loop)
    for _ in range(operations):
        run(noop())


def run_on(new_loop):
    """asyncio.run, on loops of this kind."""
    if not hasattr(asyncio, "Runner"):
        return run_by_policy(new_loop)

    def run(main):
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(main)

    return run


def run_by_policy(new_loop):
    class Policy(asyncio.DefaultEventLoopPolicy):
        _loop_factory = staticmethod(new_loop)

    asyncio.set_event_loop_policy(Policy())
    return asyncio.run
