"""A child process that is asked, and answers, in lines of JSON."""

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time


class ChildError(Exception):
    pass


class Child:
    """One child, killed at the latest when its `with` block ends."""

    def __init__(self, command, cpu=None):
        self._errors = tempfile.TemporaryFile()
        self._unread = b""
        with pinned(cpu):
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment(),
                bufsize=0,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # The end of its input asks a child to stop; a stuck one is not waited for.
        self._process.stdin.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def ask(self, timeout=30, words=""):
        """Prompt the child, with a line of words, and return its answer."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{words}\n".encode())
        return self.answer(timeout)

    def answer(self, timeout=30):
        """The next line of its output, decoded."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._unread:
            self._read_before(deadline)
        line, _, self._unread = self._unread.partition(b"\n")
        try:
            return json.loads(line)
        except ValueError:
            raise ChildError(f"unexpected output: {line!r}") from None

    def _read_before(self, deadline):
        stdout = self._process.stdout
        left = max(deadline - time.monotonic(), 0)
        if not select.select([stdout], [], [], left)[0]:
            raise ChildError(f"no answer in time; {self._last_words()}")
        data = os.read(stdout.fileno(), 65536)
        if not data:
            status = self._process.wait()
            raise ChildError(f"ended with status {status}; {self._last_words()}")
        self._unread += data

    def _last_words(self):
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "said nothing"


def environment():
    """What a child inherits: nothing that makes a loop check more or less."""
    unwanted = (
        "PYTHONASYNCIODEBUG",
        "PYTHONDEVMODE",
        "PYTHONMALLOC",
        "PYTHONTRACEMALLOC",
    )
    return {key: value for key, value in os.environ.items() if key not in unwanted}


@contextlib.contextmanager
def pinned(cpu):
    """Let the child that is started here inherit one core; elsewhere than on Linux
    the system decides."""
    if cpu is None or sys.platform != "linux":
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
