"""Clients of the web: httpx and aiohttp against nginx, picows against itself and
against websockets."""

import asyncio
import contextlib
import os
import ssl

import pytest
from support import aiohttp_session, client_context, server_context, turns, until, use

# -- httpx and aiohttp, against nginx ----------------------------------------------


@contextlib.asynccontextmanager
async def httpx_get(nginx, asked):
    httpx = use("httpx")

    async def get(path, scheme="http", **kwargs):
        answer = await client.get(nginx[scheme] + path, **kwargs)
        return answer.status_code, answer.content, answer.headers

    async with httpx.AsyncClient(verify=asked, follow_redirects=True) as client:
        get.lost = httpx.RemoteProtocolError
        yield get


@contextlib.asynccontextmanager
async def aiohttp_get(nginx, asked):
    async def get(path, scheme="http", **kwargs):
        async with session.get(nginx[scheme] + path, **kwargs) as answer:
            return answer.status, await answer.read(), answer.headers

    async with aiohttp_session(ssl=asked) as session:
        get.lost = use("aiohttp").ServerDisconnectedError
        yield get
    await turns(5)


CLIENTS = {"httpx": httpx_get, "aiohttp": aiohttp_get}


@pytest.fixture(params=CLIENTS)
def web(request, nginx, asked):
    """A context manager of a function that asks nginx."""
    return CLIENTS[request.param](nginx, asked)


@pytest.fixture(scope="session")
def big(nginx):
    """The bytes of a file that nginx serves."""
    data = os.urandom(1 << 16) * 64
    (nginx["folder"] / "big").write_bytes(data)
    return data


async def test_answers(loop, web):
    async with web as get:
        assert (await get("/hello"))[:2] == (200, b"hello\n")
        assert (await get("/moved"))[:2] == (200, b"hello\n")
        assert (await get("/nothing"))[0] == 404


async def test_more_requests_than_a_connection_takes(loop, web):
    """nginx closes each connection after ten of them."""
    async with web as get:
        answers = [(await get("/hello"))[:2] for _ in range(35)]
    assert answers == [(200, b"hello\n")] * 35


async def test_many_at_once(loop, web):
    async with web as get:
        answers = await asyncio.gather(*(get("/hello") for _ in range(50)))
    assert [answer[:2] for answer in answers] == [(200, b"hello\n")] * 50


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("coding", ["identity", "gzip"])
async def test_a_large_body(loop, web, big, scheme, coding):
    async with web as get:
        headers = {"Accept-Encoding": coding}
        status, body, headers = await get("/big", scheme, headers=headers)
        assert (status, len(body)) == (200, len(big))
        assert body == big
        assert headers.get("Content-Encoding", "identity") == coding


async def test_part_of_a_body(loop, web, big):
    async with web as get:
        headers = {"Range": "bytes=1000-1999", "Accept-Encoding": "identity"}
        status, body, _ = await get("/big", headers=headers)
        assert (status, body) == (206, big[1000:2000])


async def test_a_server_that_hangs_up(loop, web):
    async with web as get:
        with pytest.raises(get.lost):
            await get("/drops")
        assert (await get("/hello"))[0] == 200


async def test_a_certificate_that_is_not_trusted(loop, nginx):
    httpx = use("httpx")
    async with httpx.AsyncClient(verify=ssl.create_default_context()) as client:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await client.get(nginx["https"] + "/hello")


# -- picows ------------------------------------------------------------------------


def picows_ends():
    """(a listener that echoes, one that keeps what it gets)."""
    picows = use("picows")

    class Echoing(picows.WSListener):
        def on_ws_frame(self, transport, frame):
            if frame.msg_type == picows.WSMsgType.CLOSE:
                transport.send_close(frame.get_close_code())
                transport.disconnect()
            else:
                transport.send(frame.msg_type, frame.get_payload_as_bytes())

    class Keeping(picows.WSListener):
        def __init__(self):
            self.got = []

        def on_ws_frame(self, transport, frame):
            self.got.append(frame.get_payload_as_bytes())

    return Echoing, Keeping


@pytest.fixture(params=[False, True], ids=["loop", "aiofastnet"])
def transports(request):
    """Whose transports picows has: the loop's, or aiofastnet's on the loop."""
    if request.param:
        use("aiofastnet")
    return {"use_aiofastnet": request.param}


@contextlib.asynccontextmanager
async def picows_server(**kwargs):
    """Its port."""
    Echoing, _ = picows_ends()
    server = await use("picows").ws_create_server(
        lambda request: Echoing(), "127.0.0.1", 0, **kwargs
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def websockets_server(**kwargs):
    """Its port."""

    async def echo(connection):
        async for message in connection:
            await connection.send(message)

    serve = use("websockets.asyncio.server").serve
    async with serve(echo, "127.0.0.1", 0, max_size=None, **kwargs) as server:
        yield server.sockets[0].getsockname()[1]


MESSAGES = [
    b"",
    b"one",
    b"x" * 70_000,
    bytes(1 << 21),
    *[b"%d" % n for n in range(500)],
]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("server", [picows_server, websockets_server])
async def test_picows_asks(loop, certificate, transports, server, tls):
    picows = use("picows")
    _, Keeping = picows_ends()
    served = {"ssl": server_context(certificate)} if tls else {}
    asked = {"ssl_context": client_context(certificate)} if tls else {}
    if server is picows_server:
        served |= transports
    async with server(**served) as port:
        scheme = "wss" if tls else "ws"
        transport, kept = await picows.ws_connect(
            Keeping, f"{scheme}://localhost:{port}/", **asked, **transports
        )
        for message in MESSAGES:
            transport.send(picows.WSMsgType.BINARY, message)
        await until(lambda: len(kept.got) == len(MESSAGES))
        assert kept.got == MESSAGES
        transport.send_close(picows.WSCloseCode.OK)
        await transport.wait_disconnected()
        await turns(5)


async def test_picows_is_asked(loop, transports):
    connect = use("websockets.asyncio.client").connect
    async with picows_server(**transports) as port:
        async with connect(f"ws://127.0.0.1:{port}", max_size=None) as connection:
            for message in MESSAGES:
                await connection.send(message)
            got = [await connection.recv() for _ in MESSAGES]
        assert got == MESSAGES
        assert connection.close_code == 1000


async def test_picows_is_refused(loop, transports):
    _, Keeping = picows_ends()
    with pytest.raises(OSError):
        await use("picows").ws_connect(Keeping, "ws://127.0.0.1:1/", **transports)
