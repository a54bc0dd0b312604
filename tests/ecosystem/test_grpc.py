"""grpc.aio: client and server in one loop."""

import asyncio
import contextlib
import threading

import pytest
from support import Reports, finish, use


@pytest.fixture
def loop(new):
    """Not searched for leaks: grpc opens descriptors for its process when it likes."""
    loop = new()
    loop.reports = Reports()
    loop.set_exception_handler(loop.reports)
    yield loop
    finish(loop)
    assert not loop.reports


def handlers_of_calls():
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
        server.add_generic_rpc_handlers((handlers_of_calls(),))
        server.add_insecure_port(address)
        await server.start()
        try:
            async with aio.insecure_channel(address) as channel:
                yield channel
        finally:
            await server.stop(None)

    return make()


async def test_answers(loop, channel):
    async with channel as channel:
        upper = channel.unary_unary("/test.Test/Upper")
        assert await upper(b"word") == b"WORD"
        answers = await asyncio.gather(*(upper(b"a%d" % n) for n in range(100)))
        assert answers == [b"A%d" % n for n in range(100)]
        assert await upper(b"x" * 3_000_000) == b"X" * 3_000_000


async def test_streams(loop, channel):
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


async def test_fails_and_is_cancelled(loop, channel):
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


def test_in_loops_of_several_threads(new, tmp_path):
    """Each loop gets its own answers."""
    aio = use("grpc.aio")
    got = []

    async def main(number):
        address = f"unix:{tmp_path}/{number}"
        server = aio.server()
        server.add_generic_rpc_handlers((handlers_of_calls(),))
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
