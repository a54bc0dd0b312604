"""Child processes: who waits for them.

The processes themselves are asyncio's: ``subprocess.Popen`` behind asyncio's
own subprocess transport. Only the waiting is the loop's: by a pidfd where the
system has them, by a thread elsewhere; never for any child but its own.
"""

import asyncio
import os
import sys
import threading
from asyncio import unix_events
from asyncio.log import logger
from contextlib import suppress

__all__ = ["ChildMixin"]

# A child that is reaped only when its exit is told keeps its pid so long: no
# signal goes to the next owner. Before 3.14 there are asyncio's own watchers,
# of which some would reap it meanwhile.
_REAPS_LATE = sys.version_info >= (3, 14) and hasattr(os, "waitid")


def _wait(pid):
    """Reap a child; its return code, negative for a signal, or None if somebody
    else was first."""
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status)


def _await_exit(pid):
    """Wait for a child; what _wait() returned if it has been reaped."""
    if not _REAPS_LATE:
        return _wait(pid)
    with suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return None


def _close_pipes(transport):
    """Those that could not be connected; the others are closed anyway."""
    child = transport.get_extra_info("subprocess")
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()


class _Exit:
    """A pidfd: a descriptor that becomes readable when the child exits.

    It is closed with its last reference, which is the loop's.
    """

    def __init__(self, pid):
        self._fd = -1
        self._fd = os.pidfd_open(pid)

    def fileno(self):
        return self._fd

    def close(self):
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = close


class ChildMixin:
    """The part of a loop that starts and reaps child processes."""

    __slots__ = ()

    async def _make_subprocess_transport(
        self,
        protocol,
        args,
        shell,
        stdin,
        stdout,
        stderr,
        bufsize,
        extra=None,
        **kwargs,
    ):
        waiter = self.create_future()
        transport = unix_events._UnixSubprocessTransport(
            self,
            protocol,
            args,
            shell,
            stdin,
            stdout,
            stderr,
            bufsize,
            waiter=waiter,
            extra=extra,
            **kwargs,
        )
        try:
            self._watch_child(transport)
        except BaseException:
            # Nobody would ever tell of its end.
            await asyncio.wait([waiter])
            transport.close()
            transport.get_extra_info("subprocess").wait()
            if waiter.exception() is not None:
                _close_pipes(transport)
            raise
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await transport._wait()
            if not waiter.cancelled():
                _close_pipes(transport)
            raise
        return transport

    def _watch_child(self, transport):
        pid = transport.get_pid()
        try:
            child_exit = _Exit(pid)
            self._add_reader(child_exit, self._reap_child, child_exit, pid, transport)
        except (AttributeError, OSError):
            # No pidfd on this system, or none to spare.
            threading.Thread(
                target=self._wait_for_child,
                args=(pid, transport),
                name=f"asyncfast-waitpid-{pid}",
                daemon=True,
            ).start()

    def _reap_child(self, child_exit, pid, transport):
        self._remove_reader(child_exit)
        child_exit.close()
        returncode = None if _REAPS_LATE else _wait(pid)
        self._child_exited(pid, transport, returncode)

    def _wait_for_child(self, pid, transport):
        returncode = _await_exit(pid)
        try:
            self.call_soon_threadsafe(self._child_exited, pid, transport, returncode)
        except RuntimeError:
            if _REAPS_LATE:
                _wait(pid)
            logger.warning("Loop %r that handles pid %r is closed", self, pid)

    def _child_exited(self, pid, transport, returncode):
        # After the callbacks for what the child wrote last.
        self.call_soon(self.call_soon, self._publish_exit, pid, transport, returncode)

    def _publish_exit(self, pid, transport, returncode):
        if _REAPS_LATE:
            returncode = _wait(pid)
        if returncode is None:
            # Before it sends a signal, Popen looks whether the child lives, and
            # reaps it if not.
            returncode = transport.get_extra_info("subprocess").returncode
        if returncode is None:
            logger.warning(
                "child process %d exit status already read:  "
                "will report returncode 255",
                pid,
            )
            returncode = 255
        transport._process_exited(returncode)
        # Where a pipe could not be connected asyncio goes on to wait for it, but on
        # 3.10, which has woken them.
        if None in transport._pipes.values() and transport._exit_waiters:
            waiters, transport._exit_waiters = transport._exit_waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(returncode)
