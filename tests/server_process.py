"""Servers as processes of their own: started, asked over a Unix socket, ended."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time

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
INSTALLED = "import asyncfast; asyncfast.install()\n"


class Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.host)


def get(path, url="/", timeout=30):
    connection = Connection(path, timeout=timeout)
    with contextlib.closing(connection):
        connection.request("GET", url, headers={"Host": "localhost"})
        reply = connection.getresponse()
        assert reply.status == 200
        return reply.read().decode()


def first_answer(server, path):
    """Asks until the server is up.

    Sanic's first process listens, and the worker then binds the path anew: whoever
    has connected before gets no answer.
    """
    while True:
        try:
            return get(path, timeout=1)
        except (ConnectionError, FileNotFoundError, TimeoutError):
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


def stop_by_signal(server, path):
    server.send_signal(signal.SIGTERM)


def answers_and_ends(folder, needs, arguments, source, stop=stop_by_signal):
    """Run the program it.py of a server, which says on which loop it answers.

    `needs` are the modules without which to skip; in the interpreter's `arguments`
    {path} stands for the socket to listen on; `stop(server, path)` ends it.
    """
    for module in needs:
        use(module)
    (folder / "it.py").write_text(textwrap.dedent(source))
    with contextlib.ExitStack() as stack:
        # A short path, of which a server has room to make a temporary one.
        place = stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp"))
        path = os.path.join(place, "socket")
        command = [sys.executable, *(word.format(path=path) for word in arguments)]
        server = stack.enter_context(running(command, folder))
        assert first_answer(server, path) == "asyncfast"
        assert {get(path) for _ in range(20)} == {"asyncfast"}
        stop(server, path)
        output, _ = server.communicate(timeout=30)
        assert server.returncode in (0, -signal.SIGTERM), output
        assert "Traceback" not in output
