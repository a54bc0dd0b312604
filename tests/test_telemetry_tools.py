"""telemetry: the watchdog, and the dump of tasks."""

import asyncio
import gc
import io
import json
import logging
import sys
import threading
import time
import warnings

import pytest
from support import PY, new_loop, once, python, until

import asyncfast


@pytest.fixture
def loop_name():
    return "asyncfast"


# -- The watchdog ------------------------------------------------------------------


class Blocks(list):
    """An `on_block` by which whoever blocks can wait for so many reports."""

    def __init__(self):
        self.came = threading.Condition()

    def __call__(self, block):
        with self.came:
            self.append(block)
            self.came.notify_all()

    def block_until(self, count):
        with self.came:
            assert self.came.wait_for(lambda: len(self) >= count, 20)


def test_a_block_is_reported_while_it_lasts(loop):
    blocks = Blocks()

    async def blocking():
        blocks.block_until(1)

    with asyncfast.watchdog(0.02, blocks, loop):
        loop.run_until_complete(loop.create_task(blocking(), name="the task"))
    block = blocks[0]
    assert block.task == "the task"
    assert 0.02 <= block.seconds < 10
    assert block.thread_id == threading.get_ident()
    # Nothing of what is outside of the loop.
    assert block.stack[0].name == "blocking"
    assert "block_until" in [frame.name for frame in block.stack]
    assert str(block).startswith("Event loop blocked for 0.")
    assert "in task 'the task', at:\n  File " in str(block)
    assert "    blocks.block_until(1)\n" in str(block)


def test_a_block_is_reported_again_when_it_has_doubled(loop):
    blocks = Blocks()
    loop.call_soon(blocks.block_until, 3)
    with asyncfast.watchdog(0.02, blocks, loop):
        once(loop)
    assert blocks[0].task is None
    for number in (1, 2):
        assert blocks[number].seconds >= 0.02 * 2**number


def test_the_next_block_is_reported(loop):
    blocks = Blocks()
    with asyncfast.watchdog(0.02, blocks, loop) as dog:
        for count in (1, 2):
            loop.call_soon(blocks.block_until, count)
            once(loop)
    assert dog.threshold == 0.02


def test_neither_a_loop_that_waits_nor_one_that_does_not_run_is_blocked(loop):
    blocks = Blocks()
    woken = loop.create_future()

    def wake():
        while loop._heartbeat() is not None:
            time.sleep(0.001)
        waiting = len(blocks)
        time.sleep(0.3)
        assert len(blocks) == waiting
        loop.call_soon_threadsafe(woken.set_result, None)

    with asyncfast.watchdog(0.05, blocks, loop):
        time.sleep(0.15)
        assert not blocks
        thread = threading.Thread(target=wake)
        thread.start()
        loop.run_until_complete(woken)
    thread.join()


def test_a_block_is_logged(loop, caplog):
    logged = threading.Event()

    class Handler(logging.Handler):
        def emit(self, record):
            logged.set()

    handler = Handler()
    logging.getLogger("asyncfast").addHandler(handler)
    loop.call_soon(logged.wait, 20)
    with asyncfast.watchdog(0.02, loop=loop):
        once(loop)
    logging.getLogger("asyncfast").removeHandler(handler)
    record = caplog.records[0]
    assert (record.name, record.levelname) == ("asyncfast", "WARNING")
    assert record.getMessage().startswith("Event loop blocked for 0.")


def test_an_exception_of_on_block_is_logged(loop, caplog):
    blocks = Blocks()

    def on_block(block):
        blocks(block)
        raise ValueError("no")

    loop.call_soon(blocks.block_until, 2)
    with asyncfast.watchdog(0.02, on_block, loop) as dog:
        once(loop)
        assert dog.running
    assert caplog.records[0].message.startswith("Exception in the watchdog of <Loop")


def test_it_stops_and_may_be_stopped_by_on_block(loop):
    blocks = Blocks()

    def on_block(block):
        dog.stop()
        blocks(block)

    loop.call_soon(blocks.block_until, 1)
    dog = asyncfast.watchdog(0.02, on_block, loop)
    once(loop)
    dog.stop()
    dog.stop()
    assert not dog.running


def ended(dog):
    dog._thread.join(20)
    return not dog.running


def test_it_ends_with_its_loop(new):
    closed, forgotten = new(), new()
    dogs = [asyncfast.watchdog(0.02, loop=loop) for loop in (closed, forgotten)]
    closed.close()
    assert ended(dogs[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a loop that isn't closed
        del forgotten
        gc.collect()
    assert ended(dogs[1])


# -- Tasks -------------------------------------------------------------------------


def dumped(loop=None):
    file = io.StringIO()
    asyncfast.dump_tasks(file, loop, format="json")
    return {task["name"]: task for task in json.loads(file.getvalue())}


def text_of_tasks(loop=None):
    file = io.StringIO()
    asyncfast.dump_tasks(file, loop)
    return file.getvalue()


def functions(task):
    return [entry["function"].rpartition(".")[2] for entry in task["stack"]]


async def innermost(future):
    await future


async def middle(future):
    await innermost(future)


async def test_where_a_task_waits(loop):
    future = loop.create_future()
    task = loop.create_task(middle(future), name="waiter")
    assert dumped()["waiter"]["state"] == "ready"
    await asyncio.sleep(0)
    found = dumped()["waiter"]
    assert found["coroutine"] == "middle"
    assert found["state"] == "waiting"
    assert found["waits_for"].startswith("<Future pending")
    assert functions(found) == ["middle", "innermost"]
    entry = found["stack"][-1]
    assert entry["file"] == __file__ and entry["text"] == "await future"
    assert entry["line"] == innermost.__code__.co_firstlineno + 1
    future.set_result(None)
    await task
    assert "waiter" not in dumped()


async def test_who_waits_for_whom(loop):
    future = loop.create_future()

    async def gathering(*tasks):
        await asyncio.gather(*tasks)

    one = loop.create_task(innermost(future), name="one")
    two = loop.create_task(innermost(one), name="two")
    all_ = loop.create_task(gathering(one, two), name="all")
    await asyncio.sleep(0)
    found = dumped()
    assert found["two"]["waits_for"] == "task 'one'"
    assert sorted(found["one"]["awaited_by"]) == ["all", "two"]
    assert found["all"]["waits_for"] in (
        "task 'one', task 'two'",
        "task 'two', task 'one'",
    )
    text = text_of_tasks()
    assert "two: innermost, waiting\n  waits for task 'one'\n" in text
    assert f'  File "{__file__}", line ' in text
    future.set_result(None)
    await all_


async def test_the_running_task_is_shown_down_to_the_call(loop):
    def deep():
        return dumped()

    async def inner():
        return deep()

    async def outer():
        return await inner()

    found = (await loop.create_task(outer(), name="me"))["me"]
    assert found["state"] == "running" and found["waits_for"] is None
    assert functions(found)[:3] == ["outer", "inner", "deep"]
    assert not [e for e in found["stack"] if "telemetry/tasks.py" in e["file"]]


async def test_asynchronous_generators(loop):
    future = loop.create_future()

    async def numbers():
        await future
        yield 1

    async def reader():
        async for _ in numbers():
            pass

    task = loop.create_task(reader(), name="reader")
    await asyncio.sleep(0)
    assert functions(dumped()["reader"])[0] == "reader"
    future.set_result(None)
    await task


async def test_a_task_that_is_being_cancelled(loop):
    release = loop.create_future()

    async def stubborn():
        try:
            await loop.create_future()
        except asyncio.CancelledError:
            await release

    task = loop.create_task(stubborn(), name="stubborn")
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert dumped()["stubborn"]["cancelling"] is (PY >= (3, 11))
    if PY >= (3, 11):
        assert "stubborn, waiting, being cancelled\n" in text_of_tasks()
    release.set_result(None)
    await task


async def test_names_come_in_the_order_of_their_numbers(loop):
    tasks = [loop.create_task(asyncio.sleep(0), name=f"n-{i}") for i in (10, 9, 1)]
    assert [name for name in dumped() if name[:2] == "n-"] == ["n-1", "n-9", "n-10"]
    await asyncio.gather(*tasks)


async def test_from_another_thread(loop):
    task = loop.create_task(asyncio.sleep(1000), name="sleeper")
    await asyncio.sleep(0)
    found = await asyncio.to_thread(dumped, loop)
    assert found["sleeper"]["state"] == "waiting"
    task.cancel()
    await until(task.done)


def test_on_asyncios_loop():
    loop = new_loop("asyncio")
    assert loop.run_until_complete(asyncio.to_thread(dumped, loop))
    loop.close()


async def test_to_stderr(loop, capsys):
    asyncfast.dump_tasks()
    text = capsys.readouterr().err
    assert "test_to_stderr, running\n" in text and "asyncfast.dump_tasks()\n" in text


def test_bad_format(loop):
    with pytest.raises(ValueError, match="must be 'text' or 'json', got 'xml'"):
        asyncfast.dump_tasks(loop=loop, format="xml")


def test_no_tasks(loop):
    assert text_of_tasks(loop) == ""
    assert dumped(loop) == {}


def test_importing_asyncfast_does_not_import_telemetry():
    code = "import asyncfast, sys; print([m for m in sys.modules if 'telemetry' in m])"
    assert python("-c", code).stdout == "[]\n"


def test_all_names_are_there():
    for name in asyncfast.__all__:
        assert getattr(asyncfast, name) is not None
    from asyncfast import telemetry

    assert set(telemetry.__all__) == set(asyncfast.__all__) - {
        "EventLoopPolicy",
        *vars(asyncfast),
    }
    with pytest.raises(AttributeError):
        _ = asyncfast.telemetry_of_nothing
    assert sys.modules["asyncfast.telemetry"] is telemetry
