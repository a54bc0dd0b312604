"""Servers that people run, started as programs, on asyncfast: docs/servers.md."""

import asyncio
import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import pytest
from support import use

ASGI = """
    import asyncio

    async def app(scope, receive, send):
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        whose = type(asyncio.get_running_loop()).__module__.split(".")[0]
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": whose.encode()})
"""
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
INSTALLED = "import asyncfast; asyncfast.install()\n"


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


class Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self.host)


def get(path):
    connection = Connection(path)
    with contextlib.closing(connection):
        connection.request("GET", "/", headers={"Host": "localhost"})
        reply = connection.getresponse()
        assert reply.status == 200
        return reply.read().decode()


def first_answer(server, path):
    """Asks until the server is up."""
    while True:
        try:
            return get(path)
        except (ConnectionRefusedError, ConnectionResetError, FileNotFoundError):
            assert server.poll() is None, server.communicate()[0]
            time.sleep(0.02)


@contextlib.contextmanager
def running(command, folder):
    """The server as a process of its own, which is there no more afterwards."""
    places = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    server = subprocess.Popen(
        command,
        cwd=folder,
        env=dict(os.environ, PYTHONPATH=places),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield server
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.communicate()


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.guard(60)
def test_a_server_answers_and_ends(name, tmp_path):
    needs, arguments, source = SERVERS[name]
    for module in needs:
        use(module)
    (tmp_path / "it.py").write_text(textwrap.dedent(source))
    path = str(tmp_path / "socket")
    command = [sys.executable, *(word.format(path=path) for word in arguments)]
    with running(command, tmp_path) as server:
        assert first_answer(server, path) == "asyncfast"
        assert {get(path) for _ in range(20)} == {"asyncfast"}
        server.send_signal(signal.SIGTERM)
        output, _ = server.communicate(timeout=30)
        assert server.returncode in (0, -signal.SIGTERM), output
        assert "Traceback" not in output


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
