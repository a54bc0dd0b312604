"""Frameworks that bring a loop of their own onto asyncio's: tornado and anyio."""

import asyncio
import contextlib
import signal
import subprocess
import sys

import pytest
from support import turns, until, use

# -- tornado -----------------------------------------------------------------------


def tornado_app():
    web, websocket = use("tornado.web"), use("tornado.websocket")

    class Number(web.RequestHandler):
        async def get(self, number):
            await asyncio.sleep(0)
            self.write({"number": int(number)})

    @web.stream_request_body
    class Length(web.RequestHandler):
        def prepare(self):
            self.length = 0

        def data_received(self, chunk):
            self.length += len(chunk)

        def post(self):
            self.write(str(self.length))

    class Upper(websocket.WebSocketHandler):
        async def on_message(self, message):
            await self.write_message(message.upper())

    return web.Application(
        [(r"/number/(\d+)", Number), ("/length", Length), ("/socket", Upper)]
    )


@contextlib.asynccontextmanager
async def tornado_server():
    """(port, client)."""
    server = use("tornado.httpserver").HTTPServer(
        tornado_app(), max_buffer_size=1 << 24
    )
    [sock] = use("tornado.netutil").bind_sockets(0, "127.0.0.1")
    server.add_socket(sock)
    client = use("tornado.httpclient").AsyncHTTPClient(force_instance=True)
    try:
        yield sock.getsockname()[1], client
    finally:
        client.close()
        server.stop()
        await server.close_all_connections()
        await turns(5)


async def test_tornado_answers(loop):
    async with tornado_server() as (port, client):
        base = f"http://127.0.0.1:{port}"
        answers = await asyncio.gather(
            *(client.fetch(f"{base}/number/{number}") for number in range(30))
        )
        assert [answer.body for answer in answers] == [
            b'{"number": %d}' % number for number in range(30)
        ]
        answer = await client.fetch(
            f"{base}/length", method="POST", body=bytes(1 << 22)
        )
        assert answer.body == b"%d" % (1 << 22)
        with pytest.raises(use("tornado.httpclient").HTTPClientError, match="404"):
            await client.fetch(f"{base}/nothing")


async def test_tornado_websocket(loop):
    connect = use("tornado.websocket").websocket_connect
    async with tornado_server() as (port, _):
        socket = await connect(f"ws://127.0.0.1:{port}/socket")
        for word in ("one", "two" * 50_000):
            await socket.write_message(word)
            assert await socket.read_message() == word.upper()
        socket.close()
        assert await socket.read_message() is None


async def test_tornado_waits_for_a_child(loop):
    """By SIGCHLD, for which it asks the loop."""
    Subprocess = use("tornado.process").Subprocess
    code = "print(input().upper()); raise SystemExit(3)"
    child = Subprocess(
        [sys.executable, "-c", code], stdin=Subprocess.STREAM, stdout=Subprocess.STREAM
    )
    try:
        await child.stdin.write(b"word\n")
        assert await child.stdout.read_until_close() == b"WORD\n"
        assert await child.wait_for_exit(raise_error=False) == 3
    finally:
        child.stdin.close()
        Subprocess.uninitialize()
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL


def test_tornado_keeps_a_loop(new):
    """An IOLoop over a loop that is given: its timers, its callbacks, its end."""
    ioloop = use("tornado.ioloop")
    over = ioloop.IOLoop(asyncio_loop=new(), make_current=False)
    seen = []
    tick = ioloop.PeriodicCallback(lambda: seen.append("tick"), 1)

    async def main():
        assert ioloop.IOLoop.current() is over
        assert asyncio.get_running_loop() is over.asyncio_loop
        tick.start()
        await until(lambda: len(seen) >= 3)
        tick.stop()
        return await over.run_in_executor(None, sum, [1, 2])

    assert over.run_sync(main) == 3
    over.add_timeout(over.time() + 0.01, over.stop)
    over.start()
    over.run_sync(over.asyncio_loop.shutdown_default_executor)
    over.close(all_fds=True)
    assert over.asyncio_loop.is_closed()


def test_tornado_over_the_current_loop(new):
    """AsyncIOMainLoop, as programs of Tornado 4 have it."""
    AsyncIOMainLoop = use("tornado.platform.asyncio").AsyncIOMainLoop
    loop = new()
    asyncio.set_event_loop(loop)
    over = AsyncIOMainLoop(make_current=False)
    assert over.asyncio_loop is loop
    seen = []
    over.add_callback(seen.append, "callback")
    over.call_later(0.001, over.stop)
    over.start()
    assert seen == ["callback"]
    over.close()
    assert loop.is_closed()


# -- anyio -------------------------------------------------------------------------


@pytest.fixture
def anyio_run(new):
    anyio = use("anyio")

    def run(main):
        assert anyio.run(main, backend_options={"loop_factory": new}) is None

    return run


def test_anyio_tasks(anyio_run):
    anyio = use("anyio")

    async def main():
        sending, receiving = anyio.create_memory_object_stream(10)

        async def produce():
            async with sending:
                for number in range(100):
                    await sending.send(number)

        got = []
        async with anyio.create_task_group() as group:
            group.start_soon(produce)
            async with receiving:
                got += [number async for number in receiving]
        assert got == list(range(100))
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep_forever()
        assert scope.cancelled_caught
        with pytest.raises(Exception) as caught:
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep_forever)
                raise OSError
        assert [type(error) for error in caught.value.exceptions] == [OSError]

    anyio_run(main)


def test_anyio_sockets(anyio_run):
    anyio = use("anyio")

    async def upper(stream):
        async with stream:
            async for data in stream:
                await stream.send(data.upper())

    async def main():
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, upper)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(b"x" * 500_000)
                length = 0
                while length < 500_000:
                    data = await stream.receive()
                    assert data == b"X" * len(data)
                    length += len(data)
            group.cancel_scope.cancel()
        async with await anyio.create_udp_socket(local_host="127.0.0.1") as one:
            address = one.extra(anyio.abc.SocketAttribute.local_address)
            async with await anyio.create_connected_udp_socket(*address) as other:
                await other.send(b"datagram")
                assert (await one.receive())[0] == b"datagram"

    anyio_run(main)


def test_anyio_processes_threads_signals(anyio_run):
    anyio = use("anyio")

    async def main():
        done = await anyio.run_process(
            [sys.executable, "-c", "print(input().upper())"], input=b"word\n"
        )
        assert done.stdout == b"WORD\n"
        with pytest.raises(subprocess.CalledProcessError):
            await anyio.run_process([sys.executable, "-c", "raise SystemExit(1)"])

        def in_thread():
            return anyio.from_thread.run(anyio.sleep, 0) or 42

        assert await anyio.to_thread.run_sync(in_thread) == 42
        with anyio.open_signal_receiver(signal.SIGUSR1) as signals:
            signal.raise_signal(signal.SIGUSR1)
            assert await anext(aiter(signals)) == signal.SIGUSR1

    anyio_run(main)


def test_anyio_portal(new):
    """A loop in a thread, as Starlette's test client has it."""
    anyio = use("anyio.from_thread")

    async def whose():
        return type(asyncio.get_running_loop())

    loop = new()
    loop.close()
    with anyio.start_blocking_portal(backend_options={"loop_factory": new}) as portal:
        assert portal.call(whose) is type(loop)
