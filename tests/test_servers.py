"""Servers that people run, started as programs, on asyncfast: docs/servers.md."""

import asyncio
import textwrap

import pytest
from server_process import ASGI, INSTALLED, answers_and_ends
from support import use

AIOHTTP = """
    import asyncio, sys
    import asyncfast
    from aiohttp import web

    async def hello(request):
        whose = type(asyncio.get_running_loop()).__module__.split(".")[0]
        return web.Response(text=whose)

    app = web.Application()
    app.router.add_get("/", hello)

    if __name__ == "__main__":
        web.run_app(app, path=sys.argv[1], loop=asyncfast.new_event_loop())
"""


def gunicorn(worker, workers=1):
    options = ["--workers", str(workers), "--graceful-timeout", "10"]
    return ["-m", "gunicorn", "-k", worker, *options, "-b", "unix:{path}", "it:app"]


# name: (the packages it needs, the arguments of the interpreter, the program it.py)
SERVERS = {
    "uvicorn": (
        ["uvicorn"],
        ["-m", "uvicorn", "--loop", "asyncfast:new_event_loop", "--uds", "{path}"]
        + ["it:app"],
        ASGI,
    ),
    "uvicorn under python -m asyncfast": (
        ["uvicorn"],
        ["-m", "asyncfast", "-m", "uvicorn", "--loop", "none", "--uds", "{path}"]
        + ["it:app"],
        ASGI,
    ),
    "uvicorn, which looks for uvloop": (
        ["uvicorn"],
        ["-m", "asyncfast", "--as-uvloop", "-m", "uvicorn", "--uds", "{path}"]
        + ["it:app"],
        ASGI,
    ),
    "uvicorn's workers": (
        ["uvicorn"],
        ["-m", "uvicorn", "--loop", "asyncfast:new_event_loop", "--workers", "2"]
        + ["--uds", "{path}", "it:app"],
        ASGI,
    ),
    "gunicorn with uvicorn's worker": (
        ["gunicorn", "uvicorn_worker"],
        gunicorn("asyncfast.workers.UvicornWorker", workers=2),
        ASGI,
    ),
    "gunicorn with uvicorn's h11 worker": (
        ["gunicorn", "uvicorn_worker"],
        gunicorn("asyncfast.workers.UvicornH11Worker"),
        ASGI,
    ),
    "gunicorn with its own worker": (
        ["gunicorn.workers.gasgi"],
        gunicorn("asyncfast.workers.ASGIWorker", workers=2),
        ASGI,
    ),
    "gunicorn with aiohttp's worker": (
        ["gunicorn", "aiohttp"],
        gunicorn("asyncfast.workers.AiohttpWorker", workers=2),
        AIOHTTP,
    ),
    "aiohttp's run_app": (["aiohttp"], ["it.py", "{path}"], AIOHTTP),
    "hypercorn": (
        ["hypercorn"],
        ["-m", "hypercorn", "-k", "asyncio", "-b", "unix:{path}", "it:app"],
        INSTALLED + textwrap.dedent(ASGI),
    ),
}


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.guard(60)
def test_a_server_answers_and_ends(name, tmp_path):
    answers_and_ends(tmp_path, *SERVERS[name])


def test_a_test_client():
    import asyncfast

    fastapi = use("fastapi")
    use("httpx")
    TestClient = use("fastapi.testclient").TestClient

    app = fastapi.FastAPI()

    @app.get("/")
    async def whose():
        return type(asyncio.get_running_loop()).__module__

    client = TestClient(app, backend_options={"loop_factory": asyncfast.new_event_loop})
    assert client.get("/").json() == "asyncfast.loop"


def test_a_worker_that_is_not_there():
    from asyncfast import workers

    with pytest.raises(AttributeError, match="no attribute 'NoWorker'"):
        _ = workers.NoWorker
