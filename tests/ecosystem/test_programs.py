"""Servers of heavy packages, started as programs, on asyncfast: docs/servers.md."""

import textwrap

import pytest
from server_process import ASGI, INSTALLED, answers_and_ends, get

RSGI = """
    import asyncio

    async def app(scope, protocol):
        await asyncio.sleep(0)
        whose = type(asyncio.get_running_loop()).__module__.split(".")[0]
        protocol.response_str(200, [("content-type", "text/plain")], whose)
"""
# Its workers are new interpreters: as from CPython 3.14 on, and on macOS.
GRANIAN = f"""{textwrap.dedent(RSGI)}
import multiprocessing
import pathlib
import sys

import asyncfast
import granian


@granian.loops.register("auto")
def new_loop():
    loop = asyncfast.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    granian.Granian("it:app", interface="rsgi", uds=pathlib.Path(sys.argv[1])).serve()
"""
EMBEDDED = f"""{textwrap.dedent(RSGI)}
if __name__ == "__main__":
    import pathlib
    import sys

    import asyncfast
    from granian.server.embed import Server

    async def main():
        await Server(app, interface="rsgi", uds=pathlib.Path(sys.argv[1])).serve()

    asyncfast.run(main())
"""
SANIC = """
    import asyncio
    from sanic import Sanic, text

    app = Sanic("it")
    app.config.USE_UVLOOP = False

    @app.get("/")
    async def hello(request):
        return text(type(asyncio.get_running_loop()).__module__.split(".")[0])

    @app.get("/stop")
    async def stop(request):
        request.app.m.terminate()
        return text("")
"""
TORNADO = """
    import asyncio, sys
    from tornado import httpserver, ioloop, netutil, web

    class Hello(web.RequestHandler):
        async def get(self):
            await asyncio.sleep(0)
            self.write(type(asyncio.get_running_loop()).__module__.split(".")[0])

    server = httpserver.HTTPServer(web.Application([("/", Hello)]))
    server.add_socket(netutil.bind_unix_socket(sys.argv[1]))
    ioloop.IOLoop.current().start()
"""


def granian(interface, loop, *before):
    options = ["--interface", interface, "--loop", loop, "--uds", "{path}"]
    return ["-m", *before, "granian", *options, "it:app"]


AS_UVLOOP = ["asyncfast", "--as-uvloop", "-m"]
# name: (the packages it needs, the arguments of the interpreter, the program it.py)
SERVERS = {
    "granian, ASGI": (
        ["granian"],
        granian("asgi", "asyncio", "asyncfast", "-m"),
        ASGI,
    ),
    "granian, RSGI": (
        ["granian"],
        granian("rsgi", "asyncio", "asyncfast", "-m"),
        RSGI,
    ),
    "granian, which is given uvloop": (
        ["granian"],
        granian("rsgi", "uvloop", *AS_UVLOOP),
        RSGI,
    ),
    "granian in a program": (["granian"], ["it.py", "{path}"], GRANIAN),
    "granian in a loop that runs": (["granian"], ["it.py", "{path}"], EMBEDDED),
    "sanic in one process": (
        ["sanic"],
        ["-m", "asyncfast", "-m", "sanic", "it:app", "--unix", "{path}"]
        + ["--single-process"],
        SANIC,
    ),
    "tornado": (
        ["tornado"],
        ["it.py", "{path}"],
        INSTALLED + textwrap.dedent(TORNADO),
    ),
    "tornado under python -m asyncfast": (
        ["tornado"],
        ["-m", "asyncfast", "it.py", "{path}"],
        TORNADO,
    ),
}


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.guard(60)
def test_a_server_answers_and_ends(name, tmp_path):
    answers_and_ends(tmp_path, *SERVERS[name])


@pytest.mark.guard(60)
def test_sanic_and_its_worker(tmp_path):
    """Ended by the worker: the process above it, as long as it hasn't noticed that the
    worker is up, makes nothing of a signal, on any loop."""
    answers_and_ends(
        tmp_path,
        ["sanic"],
        ["-m", "sanic", "it:app", "--unix", "{path}"],
        INSTALLED + textwrap.dedent(SANIC),
        stop=lambda server, path: get(path, "/stop"),
    )
