"""Signals: the wake-up descriptor and add_signal_handler().

CPython's C-level handler writes each signal's number to the wake-up
descriptor, which ends the loop's wait; CPython runs the Python-level handlers
as soon as :meth:`SignalMixin._read_wakeup` does.
"""

import errno
import os
import signal
import sys
import threading
import warnings
from asyncio import coroutines
from collections.abc import Callable
from contextlib import suppress
from typing import Any

__all__ = ["SignalMixin"]

# The name without underscore warns from CPython 3.14 on.
_iscoroutinefunction = (
    getattr(coroutines, "_iscoroutinefunction", None) or coroutines.iscoroutinefunction
)


def _do_nothing(signum, frame):
    """Stand in for the default action: the loop calls the real handler."""


def _set_wakeup_fd(fd):
    try:
        return signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    except (ValueError, OSError):
        # The descriptor that was saved has been closed meanwhile.
        return signal.set_wakeup_fd(-1)


def _identity(fd):
    """What tells an open file from the next one that gets its number; None for no
    file."""
    try:
        found = None if fd == -1 else os.fstat(fd)
    except OSError:
        return None
    return found and (found.st_dev, found.st_ino)


class SignalMixin:
    """The part of a loop that deals with signals, in the main thread."""

    __slots__ = ()

    def _init_signals(self):
        self._signal_handlers = {}
        self._wakeup_reader = self._wakeup_writer = None
        self._previous_wakeup = None

    def _take_wakeup(self):
        """Make CPython write signals to this loop. ValueError elsewhere than
        in the main thread."""
        if self._wakeup_reader is None:
            self._open_wakeup()
        previous = signal.set_wakeup_fd(self._wakeup_writer, warn_on_full_buffer=False)
        if previous != self._wakeup_writer:
            self._previous_wakeup = previous, _identity(previous)

    def _open_wakeup(self):
        # A pipe, not sockets: it holds 65,536 signals instead of 278.
        reader, writer = os.pipe()
        try:
            os.set_blocking(reader, False)
            os.set_blocking(writer, False)
            self._add_reader(reader, self._read_wakeup)
        except BaseException:
            # One that nobody reads would be kept for the next run.
            os.close(reader)
            os.close(writer)
            raise
        self._wakeup_reader, self._wakeup_writer = reader, writer

    def _release_wakeup(self):
        """Give the wake-up descriptor back, unless somebody else took it."""
        if self._previous_wakeup is None:
            return
        (previous, identity), self._previous_wakeup = self._previous_wakeup, None
        if _identity(previous) != identity:
            previous = -1  # closed meanwhile: signals would go to a stranger's file
        current = _set_wakeup_fd(previous)
        if current != self._wakeup_writer:
            _set_wakeup_fd(current)

    def _start_signals(self):
        if threading.current_thread() is threading.main_thread():
            # A sub-interpreter's main thread can't take signals.
            with suppress(ValueError):
                self._take_wakeup()

    def _stop_signals(self):
        if not self._signal_handlers:
            self._release_wakeup()

    def _close_signals(self):
        if threading.current_thread() is threading.main_thread():
            self._remove_signal_handlers()
            self._release_wakeup()
        if self._previous_wakeup is not None:
            # Only the main thread can end that CPython writes there: closed, its
            # number would be that of the next file.
            self._wakeup_reader = self._wakeup_writer = None
        if self._wakeup_reader is not None:
            reader, self._wakeup_reader = self._wakeup_reader, None
            try:
                os.close(reader)
            finally:
                os.close(self._wakeup_writer)
                self._wakeup_writer = None

    def _remove_signal_handlers(self):
        if sys.is_finalizing() and self._signal_handlers:
            warnings.warn(
                f"Closing the loop {self!r} on interpreter shutdown stage, "
                "skipping signal handlers removal",
                ResourceWarning,
                source=self,
            )
            self._signal_handlers.clear()
        for sig in list(self._signal_handlers):
            self.remove_signal_handler(sig)

    def _read_wakeup(self):
        with suppress(BlockingIOError):
            while numbers := os.read(self._wakeup_reader, 4096):
                for number in numbers:
                    self._handle_signal(number)

    def _handle_signal(self, sig):
        handle = self._signal_handlers.get(sig)
        if handle is None:
            return
        if handle._cancelled:
            self.remove_signal_handler(sig)
        else:
            self._add_callback(handle)

    def add_signal_handler(
        self, sig: int, callback: Callable[..., object], *args: Any
    ) -> None:
        """Call ``callback(*args)`` in the loop whenever a signal arrives.

        *sig* is a signal number. Raises TypeError for a coroutine, ValueError
        for an invalid number, RuntimeError for a signal that can't be caught
        or outside the main thread.
        """
        if coroutines.iscoroutine(callback) or _iscoroutinefunction(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        self._check_signal(sig)
        self._check_closed()
        try:
            self._take_wakeup()
        except (ValueError, OSError) as exc:
            raise RuntimeError(str(exc)) from None
        self._signal_handlers[sig] = self._new_handle(callback, args)
        try:
            signal.signal(sig, _do_nothing)
            # Interrupt as few system calls of other code as possible.
            signal.siginterrupt(sig, False)
        except OSError as exc:
            del self._signal_handlers[sig]
            self._release_unused_wakeup()
            raise _uncatchable(sig, exc) from None

    def remove_signal_handler(self, sig: int) -> bool:
        """Restore a signal's default action; True if there was a handler.

        Raises ValueError for an invalid number, RuntimeError for a signal
        that can't be caught.
        """
        self._check_signal(sig)
        if self._signal_handlers.pop(sig, None) is None:
            return False
        default = signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL
        try:
            signal.signal(sig, default)
        except OSError as exc:
            raise _uncatchable(sig, exc) from None
        self._release_unused_wakeup()
        return True

    def _release_unused_wakeup(self):
        if not self._signal_handlers and not self.is_running():
            self._release_wakeup()

    def _check_signal(self, sig):
        if not isinstance(sig, int):
            raise TypeError(f"sig must be an int, not {sig!r}")
        if sig not in signal.valid_signals():
            raise ValueError(f"invalid signal number {sig}")


def _uncatchable(sig, exc):
    if exc.errno == errno.EINVAL:
        return RuntimeError(f"sig {sig} cannot be caught")
    return exc
