"""Libraries that carry messages: pyzmq and grpc."""

import asyncio
import contextlib
import threading

import pytest
from support import turns, use

# -- pyzmq -------------------------------------------------------------------------


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
                yield one, other
                one.linger = other.linger = 0

    return make


async def test_zmq_asks_and_answers(loop, zeromq):
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


async def test_zmq_many_messages(loop, zeromq):
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


async def test_zmq_publishes(loop, zeromq):
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


# -- grpc --------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def _grpc_started():
    """What grpc keeps for the life of the process must not look like a leak."""
    with contextlib.suppress(ImportError):
        import grpc.aio

        async def start():
            grpc.aio.init_grpc_aio()

        asyncio.run(start())


def grpc_handlers():
    grpc = use("grpc")

    async def upper(request, context):
        return request.upper()

    async def count(request, context):
        for number in range(int(request)):
            yield b"%d" % number

    async def total(requests, context):
        return b"%d" % sum([int(request) async for request in requests])

    async def echo(requests, context):
        async for request in requests:
            yield request

    async def fail(request, context):
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")

    async def wait(request, context):
        yield b"begun"
        await asyncio.Event().wait()

    handlers = {
        "Upper": grpc.unary_unary_rpc_method_handler(upper),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Total": grpc.stream_unary_rpc_method_handler(total),
        "Echo": grpc.stream_stream_rpc_method_handler(echo),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Wait": grpc.unary_stream_rpc_method_handler(wait),
    }
    return grpc.method_handlers_generic_handler("test.Test", handlers)


@pytest.fixture
def channel(tmp_path):
    """A channel to a server in the same loop."""
    aio = use("grpc.aio")

    @contextlib.asynccontextmanager
    async def make():
        address = f"unix:{tmp_path}/grpc"
        server = aio.server()
        server.add_generic_rpc_handlers((grpc_handlers(),))
        server.add_insecure_port(address)
        await server.start()
        try:
            async with aio.insecure_channel(address) as channel:
                yield channel
        finally:
            await server.stop(None)

    return make()


async def test_grpc_answers(loop, channel):
    async with channel as channel:
        upper = channel.unary_unary("/test.Test/Upper")
        assert await upper(b"word") == b"WORD"
        answers = await asyncio.gather(*(upper(b"a%d" % n) for n in range(100)))
        assert answers == [b"A%d" % n for n in range(100)]
        assert await upper(b"x" * 3_000_000) == b"X" * 3_000_000


async def test_grpc_streams(loop, channel):
    async def numbers():
        for number in range(200):
            yield b"%d" % number

    expected = [b"%d" % number for number in range(200)]
    async with channel as channel:
        counting = channel.unary_stream("/test.Test/Count")(b"200")
        assert [answer async for answer in counting] == expected
        assert await channel.stream_unary("/test.Test/Total")(numbers()) == b"19900"
        echoing = channel.stream_stream("/test.Test/Echo")(numbers())
        assert [answer async for answer in echoing] == expected


async def test_grpc_fails_and_is_cancelled(loop, channel):
    grpc = use("grpc")
    async with channel as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="no such thing") as caught:
            await channel.unary_unary("/test.Test/Fail")(b"")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        wait = channel.unary_stream("/test.Test/Wait")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in wait(b"", timeout=0.05):
                pass
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        waiting = wait(b"")
        assert await waiting.read() == b"begun"
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting.read()


def test_grpc_in_loops_of_several_threads(new, tmp_path):
    """Each loop gets its own answers."""
    aio = use("grpc.aio")
    got = []

    async def main(number):
        address = f"unix:{tmp_path}/{number}"
        server = aio.server()
        server.add_generic_rpc_handlers((grpc_handlers(),))
        server.add_insecure_port(address)
        await server.start()
        async with aio.insecure_channel(address) as channel:
            upper = channel.unary_unary("/test.Test/Upper")
            for _ in range(20):
                got.append((number, await upper(b"of %d" % number)))
        await server.stop(None)

    def run(number):
        loop = new()
        loop.run_until_complete(main(number))
        loop.close()

    threads = [threading.Thread(target=run, args=[n]) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [(n, b"OF %d" % n) for n in range(3) for _ in range(20)]
