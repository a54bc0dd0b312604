"""A Unix socket at which another process can ask for the numbers of the loops."""

import asyncio
import atexit
import dataclasses
import errno
import json
import os
import pathlib
import socket
import socketserver
import stat
import sys
import tempfile
import threading
import weakref

from ._common import own_loop
from .blocking import describe_block
from .callbacks import callback_stats
from .counters import enable_timing, metrics

__all__ = ["MetricsServer", "serve_metrics", "socket_path"]

TOP = 50
# One who connects and says nothing must not keep a thread for ever.
PATIENCE = 10
# How long stop() may have to wait.
POLL = 0.25


def socket_path(pid: int) -> pathlib.Path:
    """Where the process *pid* of this user serves its numbers, if it does.

    In ``$XDG_RUNTIME_DIR/asyncfast``, or where there is no such folder in one of
    this user in the folder for temporary files.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.path.isdir(runtime):
        return pathlib.Path(runtime, "asyncfast", f"{pid}.sock")
    return pathlib.Path(
        tempfile.gettempdir(), f"asyncfast-{os.getuid()}", f"{pid}.sock"
    )


def check_private(folder):
    """PermissionError unless nobody else can get into it."""
    found = folder.lstat()
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid != os.getuid()
        or found.st_mode & 0o077
    ):
        raise PermissionError(f"{folder} is not a folder of this user alone")


def _check_free(path):
    """OSError if somebody answers there; else the file of one who no longer does
    is removed."""
    with socket.socket(socket.AF_UNIX) as sock:
        if sock.connect_ex(str(path)) == 0:
            raise OSError(errno.EADDRINUSE, "metrics are served already", str(path))
    path.unlink(missing_ok=True)


class MetricsServer:
    """A thread that answers at a Unix socket; :func:`serve_metrics` starts it.

    Also a context manager, which ends in :meth:`stop`. It keeps neither its
    loops nor the program alive, and ends with that.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._path = socket_path(os.getpid()) if path is None else pathlib.Path(path)
        if path is None:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            check_private(self._path.parent)
            # It may be of a process that had the same number, and is no more.
            _check_free(self._path)
        self._pid = os.getpid()
        self._loops = []
        self._server = _Server(str(self._path), self)
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            args=(POLL,),
            name="asyncfast-metrics",
            daemon=True,
        )
        self._thread.start()
        atexit.register(self._remove)

    def __enter__(self) -> "MetricsServer":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def path(self) -> pathlib.Path:
        """The socket's file, mode 0600."""
        return self._path

    def add(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve the numbers of one more loop, and enable its timing.

        Raises TypeError if it is not asyncfast's.
        """
        loop = own_loop(loop)
        enable_timing(loop)
        self._loops.append(weakref.ref(loop, self._loops.remove))

    def stop(self) -> None:
        """End it, and remove the socket's file."""
        self._remove()
        # In a child of the process there is no thread that would answer.
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def _remove(self):
        atexit.unregister(self._remove)
        # The file is the parent's, not a child's.
        if os.getpid() == self._pid:
            self._path.unlink(missing_ok=True)

    def answer(self):
        """What is told at the socket: all numbers, ready for JSON."""
        loops = [loop for reference in self._loops[:] if (loop := reference())]
        return {
            "pid": self._pid,
            "command": sys.argv,
            "loops": [_described(loop) for loop in loops if not loop.is_closed()],
        }


def _described(loop):
    numbers = metrics(loop)
    rows = callback_stats(loop)[:TOP]
    turn = loop._heartbeat()
    return {
        "id": id(loop),
        "metrics": {name: getattr(numbers, name) for name in numbers.__slots__},
        "callbacks": [dataclasses.asdict(row) for row in rows],
        "turn": turn,
        "stack": None if turn is None else describe_block(loop),
    }


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, path, source):
        self.source = source
        super().__init__(path, _Handler)

    def server_bind(self):
        """Nobody can connect before it listens, so nobody else ever can."""
        super().server_bind()
        os.chmod(self.server_address, 0o600)

    def handle_error(self, request, client_address):
        """Whoever asks may go away at any time."""


class _Handler(socketserver.StreamRequestHandler):
    timeout = PATIENCE

    def handle(self):
        """Each line is a question; the answer is a line of JSON."""
        while self.rfile.readline(100).strip() == b"metrics":
            text = json.dumps(self.server.source.answer(), default=str)
            self.wfile.write(text.encode() + b"\n")


def serve_metrics(
    loop: asyncio.AbstractEventLoop | None = None,
    path: str | os.PathLike[str] | None = None,
) -> MetricsServer:
    """Let ``python -m asyncfast top PID`` see *loop*, by default the running one.

    A thread answers at a Unix socket that only this user can open: *path*, by
    default ``$XDG_RUNTIME_DIR/asyncfast/PID.sock``. It goes on while the loop is
    blocked, until what this returns is stopped. Timing is enabled; call :func:`enable_callback_stats` to have callbacks shown.

    Raises OSError if the socket can't be made or this process has one there
    already (:meth:`MetricsServer.add` adds loops to it), RuntimeError without a loop,
    TypeError if it is not asyncfast's.
    """
    loop = own_loop(loop)
    server = MetricsServer(path)
    server.add(loop)
    return server


def ask(path, timeout=PATIENCE):
    """A function that asks the server at *path* and returns its answer.

    OSError if there is none; the function raises EOFError when it has ended.
    """
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(timeout)
    try:
        sock.connect(str(path))
    except BaseException:
        sock.close()
        raise
    lines = sock.makefile("rwb")
    sock.close()

    def question():
        lines.write(b"metrics\n")
        lines.flush()
        line = lines.readline()
        if not line:
            raise EOFError
        return json.loads(line)

    return question
