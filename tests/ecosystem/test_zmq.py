"""zmq.asyncio: pairs of sockets in one loop."""

import asyncio
import contextlib

import pytest
from support import turns, use


@pytest.fixture
def zeromq(tmp_path):
    """Makes the two ends of a connection: of these kinds, over a Unix socket."""
    zmq = use("zmq.asyncio")

    @contextlib.contextmanager
    def make(bound, connecting):
        with zmq.Context() as context:
            one, other = context.socket(bound), context.socket(connecting)
            with one, other:
                address = f"ipc://{tmp_path}/zeromq"
                one.bind(address)
                other.connect(address)
                one.linger = other.linger = 0
                yield one, other

    return make


async def test_asks_and_answers(loop, zeromq):
    zmq = use("zmq")

    async def answer(socket):
        while True:
            await socket.send((await socket.recv()).upper())

    with zeromq(zmq.REP, zmq.REQ) as (answering, asking):
        task = loop.create_task(answer(answering))
        for word in (b"one", b"two" * 500_000):
            await asking.send(word)
            assert await asking.recv() == word.upper()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await turns(3)


async def test_many_messages(loop, zeromq):
    """More of them than the sockets hold, so that the sender waits too."""
    zmq = use("zmq")
    count = 5000

    async def push(socket):
        for number in range(count):
            await socket.send_multipart([b"%d" % number, b"part"])

    with zeromq(zmq.PULL, zmq.PUSH) as (pulling, pushing):
        task = loop.create_task(push(pushing))
        got = [await pulling.recv_multipart() for _ in range(count)]
        await task
    assert got == [[b"%d" % number, b"part"] for number in range(count)]
    await turns(3)


async def test_publishes(loop, zeromq):
    zmq = use("zmq")
    with zeromq(zmq.XPUB, zmq.SUB) as (publishing, subscribing):
        subscribing.subscribe("news")
        assert await publishing.recv() == b"\1news"
        for text in ("other", "news 1", "news 2"):
            await publishing.send_string(text)
        assert await subscribing.recv_string() == "news 1"
        assert await subscribing.poll(10_000) == zmq.POLLIN
        assert await subscribing.recv_string() == "news 2"
    await turns(3)
