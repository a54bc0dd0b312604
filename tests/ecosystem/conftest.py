"""Servers of other makers that the tests are clients of, in folders of their own,
started by the first test that asks."""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import tempfile

import pytest
from support import missing

sys.path.append(str(pathlib.Path(__file__).parents[2] / "benchmarks"))
import services  # noqa: E402

NGINX = """\
daemon off;
worker_processes 1;
pid {place}/pid;
error_log {place}/errors;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    gzip on;
    gzip_types *;
    keepalive_requests 10;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    server {{
        listen 127.0.0.1:{plain};
        listen 127.0.0.1:{tls} ssl;
        root {place};
        location = /hello {{ return 200 "hello\\n"; }}
        location = /moved {{ return 302 /hello; }}
        location = /drops {{ return 444; }}
    }}
}}
"""


@pytest.fixture(scope="session")
def _services():
    with services.Services() as started:
        yield started


def _address(started, name, program):
    if services.lacking(name):
        missing(program)
    return started.address(name)


@pytest.fixture(scope="session")
def postgres(_services):
    """The folder of PostgreSQL's socket; the user is bench."""
    return _address(_services, "postgres", "PostgreSQL")


@pytest.fixture(scope="session")
def redis_path(_services):
    """The socket of a Redis server."""
    return _address(_services, "redis", "redis-server")


@contextlib.contextmanager
def _nginx_in(place, certificate):
    """The ports of plain HTTP and of HTTPS."""
    with contextlib.ExitStack() as stack:
        socks = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in "ab"
        ]
        plain, tls = [sock.getsockname()[1] for sock in socks]
        cert, key = certificate
        settings = NGINX.format(
            place=place, plain=plain, tls=tls, certificate=cert, key=key
        )
        (place / "nginx.conf").write_text(settings)
        inherited = [sock.fileno() for sock in socks]
        process = subprocess.Popen(
            [services.program("nginx"), "-c", f"{place}/nginx.conf"],
            pass_fds=inherited,
            # By this it is told of sockets that listen already.
            env={**os.environ, "NGINX": "".join(f"{fd};" for fd in inherited)},
        )
        stack.callback(services.end, process)
        services.wait_for("nginx", process, place / "pid")
        yield plain, tls


@pytest.fixture(scope="session")
def nginx(certificate):
    """{scheme: address} of an nginx, with `folder`, which it serves."""
    if not services.program("nginx"):
        missing("nginx")
    with tempfile.TemporaryDirectory(prefix="nginx-") as name:
        folder = pathlib.Path(name)
        # nginx drops root's rights, and then has to reach the files.
        folder.chmod(0o755)
        with _nginx_in(folder, certificate) as (plain, tls):
            yield {
                "folder": folder,
                "http": f"http://localhost:{plain}",
                "https": f"https://localhost:{tls}",
            }
