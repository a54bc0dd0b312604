"""Asynchronous generators: the hooks, the finalizer, shutdown_asyncgens."""

import asyncio
import gc
import sys
import threading
import warnings

import pytest
from support import turns, until


async def numbers(log):
    try:
        for number in range(1000):
            yield number
    finally:
        await asyncio.sleep(0)
        log.append("finalized")


async def start(generator):
    """Run it to its first yield, on the loop, whose hooks then know it."""
    return await generator.__anext__()


async def test_one_that_is_run_to_its_end(loop):
    assert [n async for n in numbers([])] == list(range(1000))


async def test_a_forgotten_one_is_finalized(loop):
    log = []

    async def peek():
        async for _ in numbers(log):
            break

    await peek()
    gc.collect()
    await until(lambda: log)
    assert log == ["finalized"]


async def test_one_forgotten_in_another_thread_is_finalized_on_the_loop(loop):
    log = []
    box = [numbers(log)]
    await box[0].__anext__()
    thread = threading.Thread(target=lambda: (box.clear(), gc.collect()))
    thread.start()
    await until(lambda: log)
    thread.join()


def test_shutdown_asyncgens_closes_what_is_open(loop):
    log = []
    generators = [numbers(log) for _ in range(3)]

    for generator in generators:
        loop.run_until_complete(start(generator))
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert log == ["finalized"] * 3
    loop.run_until_complete(loop.shutdown_asyncgens())


def test_one_that_fails_to_close_is_reported(loop, reports):
    async def stubborn():
        try:
            yield 1
        finally:
            raise LookupError("will not close")

    generator = stubborn()
    loop.run_until_complete(start(generator))
    loop.run_until_complete(loop.shutdown_asyncgens())
    report = reports.take_one()
    assert str(report["exception"]) == "will not close"
    assert report["asyncgen"] is generator
    assert (
        "error occurred during closing of asynchronous generator" in report["message"]
    )


def test_one_started_after_the_shutdown_warns(loop):
    loop.run_until_complete(loop.shutdown_asyncgens())
    generator = numbers([])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.run_until_complete(start(generator))
    assert len(caught) == 1 and caught[0].category is ResourceWarning
    assert "was scheduled after loop.shutdown_asyncgens() call" in str(
        caught[0].message
    )
    loop.run_until_complete(generator.aclose())


def test_the_hooks_are_put_back(loop, run):
    mine = (lambda generator: None, lambda generator: None)
    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(*mine)
    try:

        async def main():
            hooks = sys.get_asyncgen_hooks()
            assert hooks.firstiter == loop._asyncgen_firstiter_hook
            assert hooks.finalizer == loop._asyncgen_finalizer_hook

        run(main())
        assert tuple(sys.get_asyncgen_hooks()) == mine
    finally:
        sys.set_asyncgen_hooks(*before)


def test_the_hooks_are_put_back_after_an_interrupt(loop):
    before = sys.get_asyncgen_hooks()

    def interrupt():
        raise KeyboardInterrupt

    loop.call_soon(interrupt)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert sys.get_asyncgen_hooks() == before


def test_one_forgotten_after_close_does_no_harm(new):
    async def plain():
        yield 1

    loop = new()
    generator = plain()
    loop.run_until_complete(start(generator))
    loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del generator
        gc.collect()


async def test_a_context_manager_in_a_generator(loop):
    """aclose() runs on the loop, so it may wait."""
    log = []
    generator = numbers(log)
    await generator.__anext__()
    await generator.aclose()
    await turns(1)
    assert log == ["finalized"]
