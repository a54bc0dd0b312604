"""Libraries that people use, over real sockets: aiohttp, uvicorn with FastAPI,
websockets, aiosqlite; each to its graceful end."""

import asyncio
import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
from support import (
    QUIET_TLS,
    aiohttp_session,
    client_context,
    server_context,
    turns,
    until,
    use,
)

pytestmark = QUIET_TLS


def listening():
    return socket.create_server(("127.0.0.1", 0))


# -- aiohttp -----------------------------------------------------------------------


class Site:
    """An aiohttp server; `waiting` is set when a request to /slow has come."""

    def __init__(self):
        self.web = web = use("aiohttp.web")
        self.waiting = asyncio.Event()
        self.go_on = asyncio.Event()
        self.app = web.Application(client_max_size=1 << 24)
        self.app.add_routes(
            [
                web.get("/hello/{name}", self.hello),
                web.post("/length", self.length),
                web.get("/stream", self.stream),
                web.get("/slow", self.slow),
                web.get("/fails", self.fails),
                web.get("/socket", self.socket),
            ]
        )

    async def hello(self, request):
        return self.web.json_response({"hello": request.match_info["name"]})

    async def length(self, request):
        return self.web.Response(text=str(len(await request.read())))

    async def stream(self, request):
        response = self.web.StreamResponse()
        await response.prepare(request)
        for number in range(100):
            await response.write(b"%05d" % number * 2000)
        await response.write_eof()
        return response

    async def slow(self, request):
        self.waiting.set()
        await self.go_on.wait()
        return self.web.Response(text="done")

    async def fails(self, request):
        raise self.web.HTTPGone(text="no more")

    async def socket(self, request):
        websocket = self.web.WebSocketResponse()
        await websocket.prepare(request)
        async for message in websocket:
            await websocket.send_str(message.data.upper())
        return websocket


@contextlib.asynccontextmanager
async def aiohttp_site(**kwargs):
    """(site, runner, url, session)."""
    site = Site()
    runner = site.web.AppRunner(site.app, shutdown_timeout=10)
    await runner.setup()
    sock = listening()
    await site.web.SockSite(runner, sock, **kwargs).start()
    scheme = "https" if kwargs.get("ssl_context") else "http"
    url = f"{scheme}://localhost:{sock.getsockname()[1]}"
    session = aiohttp_session()
    try:
        yield site, runner, url, session
    finally:
        await session.close()
        await runner.cleanup()
        await turns(5)


async def test_aiohttp_answers(loop):
    async with aiohttp_site() as (_, _, url, session):
        for name in ("one", "two"):
            async with session.get(f"{url}/hello/{name}") as response:
                assert response.status == 200
                assert await response.json() == {"hello": name}
        async with session.get(f"{url}/fails") as response:
            assert (response.status, await response.text()) == (410, "no more")


async def test_aiohttp_large_bodies_both_ways(loop):
    async with aiohttp_site() as (_, _, url, session):
        async with session.post(
            f"{url}/length", data=io.BytesIO(bytes(1 << 22))
        ) as response:
            assert await response.text() == str(1 << 22)
        async with session.get(f"{url}/stream") as response:
            body = await response.read()
        assert body == b"".join(b"%05d" % number * 2000 for number in range(100))


async def test_aiohttp_a_hundred_requests_at_once(loop):
    async with aiohttp_site() as (_, _, url, session):

        async def ask(number):
            async with session.get(f"{url}/hello/{number}") as response:
                return (await response.json())["hello"]

        answers = await asyncio.gather(*map(ask, range(100)))
        assert answers == [str(number) for number in range(100)]


async def test_aiohttp_websocket(loop):
    async with aiohttp_site() as (_, _, url, session):
        async with session.ws_connect(f"{url}/socket") as websocket:
            for word in ("one", "two" * 50_000):
                await websocket.send_str(word)
                assert await websocket.receive_str() == word.upper()


async def test_aiohttp_tls(loop, certificate):
    served, asked = server_context(certificate), client_context(certificate)
    async with aiohttp_site(ssl_context=served) as (_, _, url, session):
        async with session.get(f"{url}/hello/tls", ssl=asked) as response:
            assert await response.json() == {"hello": "tls"}
        async with session.get(f"{url}/stream", ssl=asked) as response:
            assert len(await response.read()) == 1_000_000


async def test_aiohttp_times_out_and_cancels(loop):
    aiohttp = use("aiohttp")
    async with aiohttp_site() as (site, _, url, session):
        short = aiohttp.ClientTimeout(total=0.05)
        with pytest.raises(asyncio.TimeoutError):
            await session.get(f"{url}/slow", timeout=short)
        asking = loop.create_task(session.get(f"{url}/slow"))
        await site.waiting.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        site.go_on.set()
        async with session.get(f"{url}/hello/again") as response:
            assert response.status == 200


async def test_aiohttp_shuts_down_gracefully(loop):
    """A request under way is answered; a new one is refused."""
    aiohttp = use("aiohttp")
    async with aiohttp_site() as (site, runner, url, session):
        asking = loop.create_task(session.get(f"{url}/slow"))
        await site.waiting.wait()
        cleaning = loop.create_task(runner.cleanup())
        await turns(5)
        with pytest.raises(aiohttp.ClientConnectorError):
            async with aiohttp_session() as other:
                await other.get(f"{url}/hello/late")
        assert not asking.done()
        site.go_on.set()
        async with await asking as response:
            assert await response.text() == "done"
        await cleaning


# -- uvicorn and FastAPI -----------------------------------------------------------


def make_app(log):
    """A FastAPI application that notes its start and its end."""
    fastapi = use("fastapi")
    StreamingResponse = use("fastapi.responses").StreamingResponse

    @contextlib.asynccontextmanager
    async def lifespan(app):
        log.append("start")
        app.state.waiting, app.state.go_on = asyncio.Event(), asyncio.Event()
        yield
        log.append("end")

    app = fastapi.FastAPI(lifespan=lifespan)

    @app.get("/items/{number}")
    async def item(number: int, text: str = ""):
        return {"number": number, "text": text}

    @app.get("/thread")
    def in_a_thread():
        return threading.current_thread() is threading.main_thread()

    @app.post("/echo")
    async def echo(request: fastapi.Request):
        return fastapi.Response(await request.body())

    @app.get("/stream")
    async def stream():
        async def parts():
            for _ in range(50):
                yield bytes(10_000)

        return StreamingResponse(parts())

    @app.get("/slow")
    async def slow():
        app.state.waiting.set()
        await app.state.go_on.wait()
        return "done"

    @app.websocket("/socket")
    async def websocket(websocket: fastapi.WebSocket):
        await websocket.accept()
        with contextlib.suppress(fastapi.WebSocketDisconnect):
            while True:
                await websocket.send_text((await websocket.receive_text()).upper())

    return app


@contextlib.asynccontextmanager
async def uvicorn_server(http="h11", **kwargs):
    """(server, app, port, log) of a server in this very loop."""
    uvicorn, *_ = map(use, ["uvicorn", "httpx", "websockets", http])
    log = []
    app = make_app(log)
    config = uvicorn.Config(
        app, loop="none", http=http, ws="websockets-sansio", log_level="error", **kwargs
    )
    server = uvicorn.Server(config)
    sock = listening()
    serving = asyncio.get_running_loop().create_task(server.serve([sock]))
    try:
        await until(lambda: server.started or serving.done())
        yield server, app, sock.getsockname()[1], log
    finally:
        server.should_exit = True
        await serving
        sock.close()
        await turns(5)
    assert log == ["start", "end"]


def client(port, **kwargs):
    httpx = use("httpx")
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", **kwargs)


@pytest.fixture(params=["h11", "httptools"])
def http(request):
    """uvicorn's two parsers."""
    return request.param


async def test_fastapi_answers(loop, http):
    async with uvicorn_server(http) as (_, _, port, _), client(port) as ask:
        got = await ask.get("/items/5", params={"text": "five"})
        assert got.json() == {"number": 5, "text": "five"}
        got = await ask.get("/items/five")
        assert got.status_code == 422
        assert (await ask.get("/nothing")).status_code == 404


async def test_fastapi_large_bodies(loop, http):
    async with uvicorn_server(http) as (_, _, port, _), client(port) as ask:
        body = os.urandom(1 << 21)
        assert (await ask.post("/echo", content=body)).content == body
        assert (await ask.get("/stream")).content == bytes(500_000)


async def test_fastapi_many_requests_at_once(loop, http):
    async with uvicorn_server(http) as (_, _, port, _), client(port) as ask:
        paths = [f"/items/{number}" for number in range(50)]
        answers = await asyncio.gather(*map(ask.get, paths))
        assert [got.json()["number"] for got in answers] == list(range(50))


def test_fastapi_in_threads(loop, run):
    """What is no coroutine runs in anyio's threads, which end with the main task."""
    threads = threading.active_count()

    async def main():
        async with uvicorn_server() as (_, _, port, _), client(port) as ask:
            answers = await asyncio.gather(*(ask.get("/thread") for _ in range(10)))
            assert [got.json() for got in answers] == [False] * 10

    run(main())
    run(until(lambda: threading.active_count() <= threads))


async def test_fastapi_websocket(loop):
    async with uvicorn_server() as (_, _, port, _):
        websockets = use("websockets.asyncio.client")
        address = f"ws://127.0.0.1:{port}/socket"
        async with websockets.connect(address) as websocket:
            for word in ("one", "two" * 100_000):
                await websocket.send(word)
                assert await websocket.recv() == word.upper()


async def test_uvicorn_tls(loop, http, certificate):
    cert, key = certificate
    kwargs = {"ssl_certfile": cert, "ssl_keyfile": key}
    async with uvicorn_server(http, **kwargs) as (_, _, port, _):
        httpx = use("httpx")
        context = client_context(certificate)
        base = f"https://localhost:{port}"
        async with httpx.AsyncClient(base_url=base, verify=context) as ask:
            assert (await ask.get("/items/1")).json()["number"] == 1
            body = os.urandom(1 << 20)
            assert (await ask.post("/echo", content=body)).content == body


async def test_uvicorn_shuts_down_gracefully(loop, http):
    """It waits for the request under way, then tells the application."""
    async with uvicorn_server(http) as (server, app, port, log), client(port) as ask:
        asking = loop.create_task(ask.get("/slow"))
        await app_waits(app)
        server.should_exit = True
        await until(lambda: not server.servers[0].is_serving())
        assert log == ["start"]
        app.state.go_on.set()
        assert (await asking).json() == "done"


async def app_waits(app):
    await app.state.waiting.wait()


async def test_a_client_that_leaves_is_forgotten(loop, http):
    async with uvicorn_server(http) as (server, app, port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await app_waits(app)
        writer.transport.abort()
        await until(lambda: not server.server_state.connections)
        app.state.go_on.set()


APP = """\
import os

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                print("goodbye", flush=True)
                return
    import asyncio
    body = type(asyncio.get_running_loop()).__module__.encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""


def wait_for_socket(path, process):
    """Until a server listens there or has ended."""
    while process.poll() is None:
        with socket.socket(socket.AF_UNIX) as sock:
            with contextlib.suppress(OSError):
                sock.connect(path)
                return
        threading.Event().wait(0.02)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_uvicorn_as_a_program(loop_name, tmp_path, end):
    """`uvicorn --loop asyncfast:new_event_loop`, ended by a signal."""
    use("uvicorn")
    httpx = use("httpx")
    (tmp_path / "served.py").write_text(APP)
    path = str(tmp_path / "sock")
    chosen = "asyncio" if loop_name == "asyncio" else "asyncfast:new_event_loop"
    command = [sys.executable, "-m", "uvicorn", "served:app", "--uds", path]
    command += ["--app-dir", str(tmp_path), "--loop", chosen]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for_socket(path, process)
        with httpx.Client(transport=httpx.HTTPTransport(uds=path)) as ask:
            body = ask.get("http://localhost/").text
        process.send_signal(end)
        out, err = process.communicate(timeout=20)
    assert body.split(".")[0] == loop_name
    assert out.endswith("goodbye\n"), err
    assert "Traceback" not in err and "Finished server process" in err
    # uvicorn gives the signal back to the system at last.
    assert process.returncode in (0, -end, 128 + end)


# -- websockets --------------------------------------------------------------------


@contextlib.asynccontextmanager
async def websocket_server(handler, **kwargs):
    """(server, address); all are closed at the end."""
    server = await use("websockets.asyncio.server").serve(
        handler, "127.0.0.1", 0, **kwargs
    )
    scheme = "wss" if "ssl" in kwargs else "ws"
    port = server.sockets[0].getsockname()[1]
    try:
        yield server, f"{scheme}://localhost:{port}"
    finally:
        server.close()
        await server.wait_closed()
        await turns(5)


async def echo_all(websocket):
    async for message in websocket:
        await websocket.send(message)


async def test_websockets_echo(loop):
    async with websocket_server(echo_all, max_size=None) as (_, address):
        connect = use("websockets.asyncio.client").connect

        async with connect(address, max_size=None) as websocket:
            for message in ("text", b"bytes", "", os.urandom(1 << 20)):
                await websocket.send(message)
                assert await websocket.recv() == message
            await (await websocket.ping())
        assert websocket.close_code == 1000


async def test_websockets_tls(loop, certificate):
    served, asked = server_context(certificate), client_context(certificate)
    async with websocket_server(echo_all, ssl=served) as (_, address):
        connect = use("websockets.asyncio.client").connect

        async with connect(address, ssl=asked) as websocket:
            await websocket.send("secret" * 10_000)
            assert await websocket.recv() == "secret" * 10_000


async def test_websockets_broadcast(loop):
    connect = use("websockets.asyncio.client").connect
    broadcast = use("websockets.asyncio.server").broadcast

    async with websocket_server(echo_all) as (server, address):
        clients = [await connect(address) for _ in range(20)]
        broadcast(server.connections, "to all")
        assert [await client.recv() for client in clients] == ["to all"] * 20
        await asyncio.gather(*(client.close() for client in clients))


async def test_websockets_shut_down_gracefully(loop):
    """Clients are told that the server goes away."""
    connect = use("websockets.asyncio.client").connect
    ConnectionClosedOK = use("websockets.exceptions").ConnectionClosedOK

    async with websocket_server(echo_all) as (server, address):
        clients = [await connect(address) for _ in range(5)]
        server.close()
        for client in clients:
            with pytest.raises(ConnectionClosedOK):
                await client.recv()
            assert client.close_code == 1001
        await server.wait_closed()
        with pytest.raises(OSError):
            await connect(address)


async def test_a_websocket_that_breaks_off(loop):
    connect = use("websockets.asyncio.client").connect
    ConnectionClosedError = use("websockets.exceptions").ConnectionClosedError

    ended = loop.create_future()

    async def handler(websocket):
        try:
            await websocket.recv()
        except ConnectionClosedError as error:
            ended.set_result(error)

    async with websocket_server(handler) as (_, address):
        client = await connect(address)
        client.transport.abort()
        assert (await ended).rcvd is None
        await client.wait_closed()


# -- aiosqlite ---------------------------------------------------------------------


@pytest.fixture
def database(tmp_path):
    """A path; the threads of connections, which end by themselves, are waited for."""
    use("aiosqlite")
    threads = set(threading.enumerate())
    yield str(tmp_path / "data.db")
    for thread in set(threading.enumerate()) - threads:
        thread.join(10)


async def test_aiosqlite_keeps_data(loop, database):
    aiosqlite = use("aiosqlite")
    async with aiosqlite.connect(database) as db:
        await db.execute("create table fruit (name text, number integer)")
        rows = [("apple", 1), ("pear", 2), ("plum", 3)]
        await db.executemany("insert into fruit values (?, ?)", rows)
        await db.commit()
    async with aiosqlite.connect(database) as db:
        async with db.execute("select * from fruit order by number") as cursor:
            assert [row async for row in cursor] == rows
            assert [column[0] for column in cursor.description] == ["name", "number"]


async def test_aiosqlite_rolls_back(loop, database):
    aiosqlite = use("aiosqlite")
    async with aiosqlite.connect(database) as db:
        await db.execute("create table fruit (name text unique)")
        await db.execute("insert into fruit values ('apple')")
        await db.commit()
        with pytest.raises(aiosqlite.IntegrityError):
            await db.execute("insert into fruit values ('apple')")
        await db.execute("insert into fruit values ('pear')")
        await db.rollback()
        async with db.execute("select count(*) from fruit") as cursor:
            assert await cursor.fetchone() == (1,)


async def test_aiosqlite_many_at_once(loop, database):
    """Each connection has a thread; all of them wake the loop."""
    aiosqlite = use("aiosqlite")
    async with aiosqlite.connect(database) as db:
        await db.execute("create table number (value integer)")
        await db.commit()

        async def insert(value):
            await db.execute("insert into number values (?)", (value,))
            async with aiosqlite.connect(database) as other:
                await other.execute_fetchall("select * from number")

        await asyncio.gather(*map(insert, range(50)))
        await db.commit()
        [(total,)] = await db.execute_fetchall("select sum(value) from number")
        assert total == sum(range(50))


async def test_aiosqlite_is_cancelled(loop, database):
    aiosqlite = use("aiosqlite")
    endless = """with recursive count(n) as (select 1 union all select n + 1 from count)
        select max(n) from count"""
    async with aiosqlite.connect(database) as db:
        counting = loop.create_task(db.execute_fetchall(endless))
        await asyncio.sleep(0.01)
        counting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await counting
        await db.interrupt()
        assert await db.execute_fetchall("select 1") == [(1,)]
