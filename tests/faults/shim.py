"""shim.c from Python: making it, loading it, telling it what has to fail."""

import ctypes
import errno
import os
import platform
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")

# Beside an errno value, as in shim.c.
AFTER = 1 << 16  # the call is made, and reported as failed
SHORT = 1 << 17  # the call gets through with one byte, or one message


def lacks(environ=os.environ):
    """Why this machine cannot do it; None if it can."""
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return "Linux with glibc"
    if "libasan" in environ.get("LD_PRELOAD", ""):
        return "a build without sanitizers"
    try:
        subprocess.run(["cc", "--version"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "a C compiler"
    return None


def build(folder):
    """Compile the shim; the path of the library.

    Raises CalledProcessError, with the compiler's words.
    """
    library = Path(folder, "faults.so")
    flags = "-std=c11 -O1 -g -Wall -Wextra -Werror -fPIC -shared -fno-builtin"
    subprocess.run(
        ["cc", *flags.split(), str(SOURCE), "-o", str(library), "-ldl", "-lpthread"],
        check=True,
        capture_output=True,
        text=True,
    )
    return str(library)


class Shim:
    """The library that this process was started with."""

    def __init__(self):
        self._library = ctypes.PyDLL(None)
        if not hasattr(self._library, "fault_arm"):
            raise RuntimeError("run me with LD_PRELOAD=...faults.so")
        # No process that this one starts is to load it.
        os.environ.pop("LD_PRELOAD", None)
        for name in ("fault_disarm", "fault_count"):
            getattr(self._library, name).restype = ctypes.c_long
        self._kept = None

    def trace_crashes(self):
        self._library.fault_trace_crashes()

    def hook_python(self):
        """Let the allocations of Python fail as well."""
        if self._library.fault_hook_python() < 0:
            raise RuntimeError("this interpreter shows no allocators")

    def take_from(self, library):
        """Count only calls by libraries with this in their path; "-NAME": by all
        others; None: by all."""
        self._kept = None if library is None else library.encode()
        self._library.fault_from(self._kept)

    def arm(self, name=None, code=0, nth=1, times=1, everywhere=False):
        """Count from now on, and let `times` calls fail, from the nth on."""
        text = None if name is None else name.encode()
        long = ctypes.c_long
        if self._library.fault_arm(text, code, long(nth), long(times), everywhere) < 0:
            raise LookupError(name)

    def disarm(self):
        """How many calls failed."""
        return self._library.fault_disarm()

    def count(self, name):
        """How many such calls there were since arm()."""
        return self._library.fault_count(name.encode())

    def made_by(self, library):
        """Did the first call that failed come from C code of that library?"""
        return bool(self._library.fault_made_by(library.encode()))

    def spare(self, fd, on=True):
        """Leave the calls on a descriptor alone."""
        self._library.fault_spare(fd, on)


def code_name(code):
    """`ECONNRESET`, `EINTR (done)`, `short`."""
    if code == SHORT:
        return "short"
    name = errno.errorcode.get(code & ~AFTER, str(code & ~AFTER))
    return f"{name} (done)" if code & AFTER else name
