"""base/poll.c: when a loop that is never idle looks at its descriptors."""

import asyncio
import time

import pytest
from support import connected, turns

# As docs/differences.md promises.
MOST_TURNS = 16
MOST_SLOW_TURNS = 4


async def turns_until(condition):
    """How many turns it takes, when there is something to run in each."""
    for count in range(1000):
        if condition():
            return count
        await asyncio.sleep(0)
    raise AssertionError("it never came")


@pytest.fixture
def fired(loop, pair):
    """What the reader of pair[0] was called with."""
    got = []
    loop.add_reader(pair[0], lambda: got.append(pair[0].recv(10)))
    yield got
    loop.remove_reader(pair[0])


async def test_the_first_turns_of_a_burst_see_every_event(loop, pair, fired):
    for _ in range(50):
        await turns(1)
    pair[1].send(b"x")
    assert await turns_until(lambda: fired) <= 2


async def test_a_burst_sees_events_before_long(loop, pair, fired):
    for _ in range(10):
        await turns(1000)
        pair[1].send(b"x")
        assert await turns_until(lambda: fired) <= MOST_TURNS + 2
        fired.clear()


async def test_slow_turns_see_every_event(loop, pair, fired):
    def burn():
        end = time.perf_counter() + 100e-6
        while time.perf_counter() < end:
            pass

    await turns(1000)
    for _ in range(100):
        burn()
        await turns(1)
    pair[1].send(b"x")
    assert await turns_until(lambda: fired) <= 2


async def test_turns_that_become_slow_see_an_event_soon(loop, pair, fired):
    for _ in range(10):
        await turns(1000)
        pair[1].send(b"x")
        slow = 0
        while not fired:
            time.sleep(0.001)
            await turns(1)
            slow += 1
        assert slow <= MOST_SLOW_TURNS + 2
        fired.clear()


async def test_a_loop_sees_its_own_writes_at_once(loop):
    """Where the turns before sent nothing."""
    async with connected(loop) as (transport, protocol, peer):
        await turns(1000)
        transport.write(b"hello")
        assert peer.recv(10) == b"hello"
        peer.send(b"answer")
        assert await turns_until(lambda: b"answer" in bytes(protocol.data)) <= 3


async def test_timers_fire_in_a_burst(loop):
    await turns(1000)
    fired = []
    loop.call_later(0.001, fired.append, loop.time())
    start = loop.time()
    while not fired:
        await asyncio.sleep(0)
        assert loop.time() - start < 10


def test_each_run_begins_with_a_look(loop, pair, fired):
    loop.run_until_complete(turns(1000))
    pair[1].send(b"x")
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert fired == [b"x"]
