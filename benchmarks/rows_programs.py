"""Whole programs: what a faster loop does for somebody who uses libraries."""

import asyncio

import talks
from registry import Load, served, timed

LOADS = [Load(0, 100, quick=True)]
FRAMES = [Load(64, 100), Load(1024, 100, quick=True)]
PAGES = 100
CLIENTS = 20


@served("aiohttp server", LOADS, talk=talks.http, needs=("aiohttp",))
async def aiohttp_server(loop, sock):
    from aiohttp import web

    async def hello(request):
        return web.Response(text="Hello, world!")

    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, sock).start()
    return runner


@served(
    "uvicorn, httptools and FastAPI",
    LOADS,
    talk=talks.http,
    needs=("uvicorn", "httptools", "fastapi"),
)
async def uvicorn_fastapi(loop, sock):
    import uvicorn
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/")
    async def hello():
        return {"message": "Hello, world!"}

    return await uvicorn_serve(uvicorn, app, sock)


@served(
    "uvicorn and httptools, bare ASGI",
    LOADS,
    talk=talks.http,
    needs=("uvicorn", "httptools"),
)
async def uvicorn_asgi(loop, sock):
    import uvicorn

    start = {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-type", b"text/plain"), (b"content-length", b"13")],
    }

    async def app(scope, receive, send):
        await send(start)
        await send({"type": "http.response.body", "body": b"Hello, world!"})

    return await uvicorn_serve(uvicorn, app, sock)


async def uvicorn_serve(uvicorn, app, sock):
    config = uvicorn.Config(
        app, http="httptools", log_level="warning", access_log=False, lifespan="off"
    )
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve(sockets=[sock]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    return serving


@served("websockets echo", FRAMES, talk=talks.websocket, needs=("websockets",))
async def websockets_echo(loop, sock):
    from websockets.asyncio.server import serve

    async def echo(connection):
        async for message in connection:
            await connection.send(message)

    return await serve(echo, sock=sock, compression=None)


SLOW_PAGES = {"needs": ("aiohttp",), "service": "pages", "longer": 4}


def scrape(loop, operations, url, fetch):
    """Fetch so many pages; `fetch(get, count)` fetches some."""
    import aiohttp

    async def main():
        connector = aiohttp.TCPConnector(limit=PAGES)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def get():
                async with session.get(url) as reply:
                    return await reply.read()

            await fetch(get, operations)

    yield
    loop.run_until_complete(main())
    yield


@timed(
    "aiohttp client, 100 slow pages one by one",
    batch=10,
    **SLOW_PAGES,
)
def scrape_sequential(loop, operations, address):
    async def fetch(get, count):
        for _ in range(count):
            await get()

    yield from scrape(loop, operations, address, fetch)


@timed(
    "aiohttp client, 100 slow pages at once",
    batch=PAGES,
    **SLOW_PAGES,
)
def scrape_concurrent(loop, operations, address):
    async def fetch(get, count):
        for _ in range(count // PAGES):
            await asyncio.gather(*[get() for _ in range(PAGES)])

    yield from scrape(loop, operations, address, fetch)


POSTGRES = {"needs": ("asyncpg",), "service": "postgres"}


@timed("asyncpg, one query after another", **POSTGRES)
def asyncpg_query(loop, operations, address):
    import asyncpg

    connection = loop.run_until_complete(
        asyncpg.connect(host=address, user="bench", database="postgres")
    )

    async def main():
        for _ in range(operations):
            await connection.fetchval("select 1")

    yield
    loop.run_until_complete(main())
    yield
    loop.run_until_complete(connection.close())


@timed("asyncpg, queries over a pool of 20", batch=CLIENTS, **POSTGRES)
def asyncpg_pool(loop, operations, address):
    import asyncpg

    async def open_pool():
        size = {"min_size": CLIENTS, "max_size": CLIENTS}
        where = {"host": address, "user": "bench", "database": "postgres"}
        return await asyncpg.create_pool(**where, **size)

    pool = loop.run_until_complete(open_pool())

    async def client():
        for _ in range(operations // CLIENTS):
            await pool.fetchval("select 1")

    async def main():
        await asyncio.gather(*[client() for _ in range(CLIENTS)])

    yield
    loop.run_until_complete(main())
    yield
    loop.run_until_complete(pool.close())


REDIS = {"needs": ("redis",), "service": "redis"}


@timed("redis, one GET after another", **REDIS)
def redis_get(loop, operations, address):
    yield from redis_clients(loop, operations, address, 1)


@timed("redis, 20 clients", batch=CLIENTS, **REDIS)
def redis_clients_20(loop, operations, address):
    yield from redis_clients(loop, operations, address, CLIENTS)


def redis_clients(loop, operations, address, count):
    import redis.asyncio

    clients = [redis.asyncio.Redis(unix_socket_path=address) for _ in range(count)]

    async def client(connection, turns):
        for _ in range(turns):
            await connection.get("key")

    async def all_of_them(turns):
        await asyncio.gather(*[client(one, turns) for one in clients])

    async def close():
        for one in clients:
            await one.aclose()

    loop.run_until_complete(all_of_them(1))
    yield
    loop.run_until_complete(all_of_them(operations // count))
    yield
    loop.run_until_complete(close())
