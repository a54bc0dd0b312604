"""Which calls fail with what, and what has to come of it."""

import errno
import socket
from typing import NamedTuple

from shim import AFTER, SHORT, code_name


class Fault(NamedTuple):
    """Calls of one kind fail with one error."""

    call: str
    code: int
    survives: bool = False  # nobody may notice
    everywhere: bool = False  # in the threads of others, too
    library: str | None = "-libuv"  # who makes the calls: Shim.take_from()
    times: int = 1  # so many calls fail in a row
    most: int | None = None  # no further than to this call

    @property
    def allocates(self):
        return self.call in ("allocation", "malloc")

    @property
    def name(self):
        words = code_name(self.code)
        for name in ("EAI_AGAIN", "EAI_MEMORY"):
            if self.code == getattr(socket, name):
                words = name
        return f"{self.call} {words}" + (f" x{self.times}" if self.times > 1 else "")


def _faults(calls, codes, **kwargs):
    return [Fault(call, code, **kwargs) for call in calls.split() for code in codes]


_READS = "recv recvfrom recvmsg recvmmsg read"
_WRITES = "send sendto sendmsg sendmmsg write writev"
_NONE_LEFT = [errno.EMFILE, errno.ENFILE, errno.ENOMEM]

CALLS = [
    *_faults(_READS, [errno.EINTR, errno.EAGAIN, SHORT], survives=True),
    *_faults(_READS, [errno.ECONNRESET, errno.ENOMEM]),
    *_faults(_WRITES, [errno.EINTR, errno.EAGAIN, SHORT], survives=True),
    *_faults(_WRITES, [errno.EPIPE, errno.ENOBUFS]),
    *_faults("sendfile", [errno.EINTR, errno.EAGAIN, SHORT], survives=True),
    *_faults("sendfile", [errno.EIO]),
    *_faults("accept accept4", [errno.EINTR, errno.EAGAIN], survives=True),
    *_faults("accept accept4", [*_NONE_LEFT, errno.EPERM]),
    *_faults("connect", [errno.EINTR | AFTER], survives=True),
    *_faults("connect", [errno.ECONNREFUSED, errno.ENETUNREACH]),
    *_faults("socket socketpair pipe2", _NONE_LEFT),
    *_faults("epoll_create1", _NONE_LEFT, library=None),
    *_faults("eventfd", _NONE_LEFT),
    *_faults("pidfd_open", _NONE_LEFT),
    *_faults("bind", [errno.EADDRINUSE, errno.EACCES]),
    *_faults("listen", [errno.EADDRINUSE]),
    *_faults("epoll_ctl", [errno.ENOSPC, errno.ENOMEM]),
    *_faults("epoll_wait", [errno.EINTR], survives=True),
    *_faults("epoll_wait", [errno.EINVAL]),
    *_faults("fcntl ioctl", [errno.EBADF]),
    *_faults("setsockopt getsockopt getsockname getpeername", [errno.ENOBUFS]),
    *_faults("shutdown", [errno.ENOTCONN]),
    *_faults("close", [errno.EIO | AFTER]),
    *_faults("pthread_create", [errno.EAGAIN]),
    *_faults(
        "getaddrinfo getnameinfo",
        [socket.EAI_AGAIN, socket.EAI_MEMORY],
        everywhere=True,
        library=None,
    ),
]

# One allocation of Python's fails, or a few in a row.
ALLOCATIONS = [
    Fault("allocation", errno.ENOMEM, library=None),
    Fault("allocation", errno.ENOMEM, library=None, times=4),
]

# malloc fails for a library that the core calls.
MEMORY = [
    Fault("malloc", errno.ENOMEM, library="libssl"),
    Fault("malloc", errno.ENOMEM, library="libcrypto"),
]

# What a process has to have for its first lookup; from the nth on there is no more.
FIRST = [
    Fault("pthread_create", errno.EAGAIN, library=None, times=100, most=4),
    Fault("pipe2", errno.EMFILE, library=None, times=100, most=4),
    Fault("pipe2", errno.ENFILE, library=None, times=100, most=4),
]

KINDS = {"calls": CALLS, "allocations": ALLOCATIONS, "memory": MEMORY, "first": FIRST}

# What may fail without a word, and why.
EXCUSED = {
    "accept4": "an error of a moment: the next turn accepts",
    "close": "the descriptor is gone all the same",
    "getpeername": "a transport has None for an address that it can't find out",
    "getsockname": "likewise",
    "getsockopt": "CPython asks whether an option is set that it can do without",
    "pidfd_open": "a thread waits for the child",
    "process epoll_ctl": "likewise",
    "sendfile": "the file is read and sent",
    "setsockopt": "an option that makes small writes faster",
}

# Crashes that are not ours: kind of fault, library.
CRASHES = {
    ("memory", "_ssl"): "of CPython 3.11, where OpenSSL has no memory for a connection",
    ("allocations", "python"): "of CPython 3.12, making a function without memory",
}

# What is not tried, and why: calls of one scenario, and in general.
SKIPPED = {
    "signals write": "by CPython's signal handler, to a pipe that has room",
}
EXCLUDED = {
    "libuv's own calls": "it answers some that fail with abort(), so also malloc for"
    " its table of watchers, and loses a descriptor after others; so what it needs is"
    " tried before it is asked",
    "vfork": "returns twice, so nothing can stand before it",
    "epoll_ctl to change or withdraw": "needs no memory, so it fails only for a"
    " descriptor that was closed: tests/test_watch.py",
}
