"""Servers that rows are clients of: started when the first row asks, in a folder of
their own, on the load's core, and ended with the run."""

import contextlib
import glob
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from child import pinned
from registry import HERE

SECONDS = 30
POSTGRES_PLACES = "/usr/lib/postgresql/*/bin"
POSTGRES_USERS = ("postgres", "nobody")
SLOW_SERVER = str(HERE / "load" / "slow_server.py")
PAGE_SECONDS = 0.005
BACKLOG = 1024


class ServiceError(Exception):
    pass


def program(name):
    """The path of a program, or None."""
    places = [os.environ.get("PATH", ""), *sorted(glob.glob(POSTGRES_PLACES))[::-1]]
    return shutil.which(name, path=os.pathsep.join(places))


def lacking(service):
    """The programs of a service that are not installed."""
    return [name for name in PROGRAMS.get(service, ()) if not program(name)]


def unprivileged():
    """Whom to run PostgreSQL as, which refuses to be run by root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in POSTGRES_USERS if name in known), None)


def start_postgres(folder):
    user, data = unprivileged(), os.path.join(folder, "data")
    if user:
        shutil.chown(folder, user)
    quiet = {"user": user, "cwd": folder, "stdout": subprocess.DEVNULL}
    make = [program("initdb"), "-A", "trust", "-U", "bench", "--no-sync", "-D", data]
    subprocess.run(
        make, check=True, timeout=SECONDS, stderr=subprocess.DEVNULL, **quiet
    )
    settings = ("listen_addresses=", "fsync=off", f"unix_socket_directories={folder}")
    command = [program("postgres"), "-D", data]
    for setting in settings:
        command += ["-c", setting]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, **quiet)
    return process, os.path.join(folder, ".s.PGSQL.5432"), folder


def start_redis(folder):
    path = os.path.join(folder, "redis.sock")
    command = [program("redis-server"), "--port", "0", "--unixsocket", path]
    command += ["--save", "", "--appendonly", "no", "--dir", folder]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    return process, path, path


def start_pages(folder):
    """Pages that take their time, by HTTP: a connection waits where none accepts yet."""
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as sock:
        inherited = str(sock.fileno())
        command = [sys.executable, SLOW_SERVER, inherited, str(PAGE_SECONDS)]
        process = subprocess.Popen(command, pass_fds=[sock.fileno()])
        host, port = sock.getsockname()
    return process, folder, f"http://{host}:{port}/"


PROGRAMS = {"postgres": ("initdb", "postgres"), "redis": ("redis-server",)}
STARTERS = {"postgres": start_postgres, "redis": start_redis, "pages": start_pages}


class Services:
    """Those that run; to be closed."""

    def __init__(self, cpu=None):
        self._cpu = cpu
        self._addresses = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()

    def address(self, service):
        """Where a service is reached; it is started if it is not running yet."""
        if service not in self._addresses:
            self._addresses[service] = self._start(service)
        return self._addresses[service]

    def _start(self, service):
        folder = self._stack.enter_context(
            tempfile.TemporaryDirectory(prefix="service-")
        )
        try:
            with pinned(self._cpu):
                process, path, address = STARTERS[service](folder)
        except (OSError, subprocess.SubprocessError) as error:
            raise ServiceError(f"{service} does not start: {error}") from error
        self._stack.callback(end, process)
        wait_for(service, process, path)
        return address


def wait_for(service, process, path):
    deadline = time.monotonic() + SECONDS
    while not os.path.exists(path):
        if process.poll() is not None or time.monotonic() > deadline:
            raise ServiceError(f"{service} does not start")
        time.sleep(0.05)


def end(process):
    process.terminate()
    try:
        process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
