"""The loop class: what runs once per loop, connection or lookup.

The C core, :mod:`asyncfast._core`, does what runs per callback, timer or
packet; everything else is inherited from the running CPython's own
:class:`asyncio.BaseEventLoop`, so that it follows each version's semantics, or
borrowed from its Unix event loop where BaseEventLoop leaves a gap.
"""

import asyncio
import errno
import math
import os
import selectors
import socket
import sys
import threading
import types
from asyncio import (
    base_events,
    constants,
    events,
    format_helpers,
    selector_events,
    trsock,
    unix_events,
)
from asyncio.log import logger
from collections.abc import Callable
from contextvars import Context
from typing import Any

from . import _core, tls
from .children import ChildMixin
from .server import Server
from .signals import SignalMixin

__all__ = ["Loop", "new_event_loop"]

_Selector = selector_events.BaseSelectorEventLoop
_Unix = unix_events._UnixSelectorEventLoop

# What accept() reports when the process or the system has run out.
_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

os.register_at_fork(
    before=_core._before_fork, after_in_child=_core._after_fork_in_child
)

# Called with each new loop: for `python -m asyncfast`, which observes them all.
new_loop_hooks: list[Callable[["Loop"], object]] = []


class _Listening:
    """What the super() of a method that Loop borrows has to find."""

    __slots__ = ()

    _stop_serving = _Selector._stop_serving


class Loop(_core.Loop, SignalMixin, ChildMixin, _Listening, asyncio.BaseEventLoop):
    """An asyncio event loop whose core is written in C.

    It behaves as the event loop of the running CPython does, method for
    method; see :class:`asyncio.AbstractEventLoop`. It may be subclassed, and
    takes any attribute.
    """

    # Once per connection, file or server: asyncio's own code.
    create_unix_connection = _Unix.create_unix_connection
    create_unix_server = _Unix.create_unix_server
    sock_connect = _Selector.sock_connect
    _sock_connect = _Selector._sock_connect
    _sock_connect_cb = _Selector._sock_connect_cb
    _sock_write_done = _Selector._sock_write_done
    _sock_sendfile_native = _Unix._sock_sendfile_native
    _sock_sendfile_native_impl = _Unix._sock_sendfile_native_impl
    _sock_sendfile_update_filepos = _Unix._sock_sendfile_update_filepos
    _sock_add_cancellation_callback = _Unix._sock_add_cancellation_callback
    _accept_connection2 = _Selector._accept_connection2
    _make_read_pipe_transport = _Unix._make_read_pipe_transport
    _make_write_pipe_transport = _Unix._make_write_pipe_transport

    # Of telemetry, until somebody asks for it.
    _runs = 0
    _slow_seconds = math.inf
    _slow_handler = None
    _keeps_stats = False

    _old_agen_hooks = None

    def __init__(self) -> None:
        super().__init__()
        self._init_signals()
        self._unix_server_sockets = {}
        for hook in new_loop_hooks:
            hook(self)

    def close(self) -> None:
        """Close the loop; it can't be used any more.

        Pending callbacks are dropped and the default executor is told to shut
        down, without waiting for it. Does nothing the second time.

        Raises RuntimeError if the loop is running.
        """
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        try:
            super().close()
        finally:
            # Whatever that raises, it says that the loop is closed.
            self._shut()
            self._close_signals()

    def run_forever(self) -> None:
        """Run until stop() is called.

        Raises RuntimeError if the loop is closed, or if it or another loop is
        running in this thread.
        """
        self._run_forever_setup()
        try:
            self._run()
        finally:
            self._run_forever_cleanup()

    def _run_forever_setup(self):
        self._runs += 1
        self._check_closed()
        self._check_running()
        try:
            if sys.version_info >= (3, 13):
                super()._run_forever_setup()
            else:
                self._start_running()
            self._start_signals()
        except BaseException:
            self._run_forever_cleanup()
            raise

    def _start_running(self):
        self._set_coroutine_origin_tracking(self._debug)
        self._old_agen_hooks = sys.get_asyncgen_hooks()
        self._thread_id = threading.get_ident()
        sys.set_asyncgen_hooks(
            firstiter=self._asyncgen_firstiter_hook,
            finalizer=self._asyncgen_finalizer_hook,
        )
        events._set_running_loop(self)

    def _run_forever_cleanup(self):
        try:
            self._stop_signals()
        finally:
            # Or a Ctrl-C up there would leave the loop running for ever.
            if sys.version_info >= (3, 13):
                super()._run_forever_cleanup()
            else:
                self._stop_running()

    def _stop_running(self):
        self._stopping = False
        self._thread_id = None
        events._set_running_loop(None)
        self._set_coroutine_origin_tracking(False)
        if self._old_agen_hooks is not None:
            sys.set_asyncgen_hooks(*self._old_agen_hooks)

    @property
    def _selector(self):
        return None if self.is_closed() else _SelectorView(self)

    # Slow paths of the C core: errors and debug mode.

    def _new_handle(self, callback, args):
        return events.Handle(callback, args, self, None)

    def _report_callback_error(self, handle, exc):
        source = format_helpers._format_callback_source(handle._callback, handle._args)
        context = {
            "message": f"Exception in callback {source}",
            "exception": exc,
            "handle": handle,
        }
        if handle._source_traceback:
            context["source_traceback"] = handle._source_traceback
        self.call_exception_handler(context)

    def _run_debug(self, handle):
        try:
            self._current_handle = handle
            started = self.time()
            handle._run()
            duration = self.time() - started
            if duration >= self.slow_callback_duration:
                logger.warning(
                    "Executing %s took %.3f seconds",
                    base_events._format_handle(handle),
                    duration,
                )
        finally:
            self._current_handle = None
            # A traceback may keep this frame: don't let it keep the handle.
            handle = None

    def _report_slow(self, *report):
        from .telemetry.callbacks import report_slow

        report_slow(self, *report)

    def _log_transport_error(self, transport, message, exc):
        if self._debug:
            logger.debug("%r: %s", transport, message, exc_info=exc)

    if sys.version_info >= (3, 14):

        def call_soon_threadsafe(
            self,
            callback: Callable[..., object],
            /,
            *args: Any,
            context: Context | None = None,
        ) -> asyncio.Handle:
            """Like call_soon(), from any thread or a signal handler."""
            self._check_closed()
            if self._debug:
                self._check_callback(callback, "call_soon_threadsafe")
            handle = events._ThreadSafeHandle(callback, args, self, context)
            if handle._source_traceback:
                # Neither the handle's own frame nor this one is of interest.
                del handle._source_traceback[-2:]
            self._add_callback(handle)
            self._write_to_self()
            return handle

    def _new_default_executor(self):
        # Its results don't come by call_soon_threadsafe().
        if type(self).call_soon_threadsafe is not Loop.call_soon_threadsafe:
            return None  # asyncio makes one
        # Not earlier: what is imported first is told of the interpreter's end last.
        from .executor import DefaultExecutor

        return DefaultExecutor()

    # Name lookups

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]]:
        """Resolve a name; returns what :func:`socket.getaddrinfo` returns.

        A literal address is answered at once, any other by libuv's threads.
        Raises socket.gaierror.
        """
        if _is_literal(host, port):
            return socket.getaddrinfo(host, port, family, type, proto, flags)
        question = None if self._debug else _encode_question(host, port)
        if question is None:
            return await super().getaddrinfo(
                host, port, family=family, type=type, proto=proto, flags=flags
            )
        self._check_closed()
        sys.audit("socket.getaddrinfo", host, port, family, type, proto)
        found = await self._lookup_address(*question, family, type, proto, flags)
        return [
            (_to_enum(socket.AddressFamily, f), _to_enum(socket.SocketKind, t), *rest)
            for f, t, *rest in found
        ]

    async def getnameinfo(
        self, sockaddr: tuple[Any, ...], flags: int = 0
    ) -> tuple[str, str]:
        """The (host, service) of an address, as :func:`socket.getnameinfo`.

        Raises socket.gaierror.
        """
        if isinstance(sockaddr, tuple):
            answer = self._try_lookup_name(sockaddr, flags)
            if answer is not None:
                return await answer
        return await super().getnameinfo(sockaddr, flags)

    def _try_lookup_name(self, sockaddr, flags):
        try:
            return self._lookup_name(sockaddr, flags)
        except (TypeError, OverflowError, ValueError):
            return None  # socket.getnameinfo has the exact error

    # Transports

    def _make_ssl_transport(
        self,
        rawsock,
        protocol,
        sslcontext,
        waiter=None,
        *,
        server_side=False,
        server_hostname=None,
        extra=None,
        server=None,
        context=None,
        **timeouts,
    ):
        self._ensure_fd_no_transport(rawsock)
        ssl_protocol = tls.new_protocol(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            **timeouts,
        )
        self._make_socket_transport(
            rawsock, ssl_protocol, extra=extra, server=server, context=context
        )
        return ssl_protocol._app_transport

    if sys.version_info < (3, 13):

        def _start_serving(
            self, protocol_factory, sock, sslcontext=None, server=None, *rest
        ):
            if type(server) is base_events.Server:
                server.__class__ = Server
            super()._start_serving(protocol_factory, sock, sslcontext, server, *rest)

    def _accept_tls(self, arguments, conn, extra):
        """Set a TLS connection up: a coroutine. *arguments* are those of
        _start_serving()."""
        factory, _, sslcontext, server, _, handshake, shutdown, context = arguments
        timeouts = {}
        if handshake is not None:
            timeouts["ssl_handshake_timeout"] = handshake
        if shutdown is not None:
            timeouts["ssl_shutdown_timeout"] = shutdown
        if context is not None:
            timeouts["context"] = context.copy()
        return self._accept_connection2(
            factory, conn, extra, sslcontext, server, **timeouts
        )

    def _accept_failed(self, exc, sock, arguments):
        if exc.errno not in _OUT_OF_RESOURCES:
            self.call_exception_handler(
                {
                    "message": "Exception in callback of accept",
                    "exception": exc,
                    "socket": trsock.TransportSocket(sock),
                }
            )
            return
        self.call_exception_handler(
            {
                "message": "socket.accept() out of system resource",
                "exception": exc,
                "socket": trsock.TransportSocket(sock),
            }
        )
        self._remove_reader(sock.fileno())
        self.call_later(constants.ACCEPT_RETRY_DELAY, self._serve_again, arguments)

    def _serve_again(self, arguments):
        # The server may have been closed in the meantime.
        if arguments[1].fileno() >= 0:
            self._start_serving(*arguments)

    async def _sendfile_native(self, transp, file, offset, count):
        resume_reading = transp.is_reading()
        transp.pause_reading()
        await transp._make_empty_waiter()
        transp._lend_fd()
        try:
            return await self.sock_sendfile(
                transp._sock, file, offset, count, fallback=False
            )
        finally:
            transp._reclaim_fd()
            transp._reset_empty_waiter()
            if resume_reading:
                transp.resume_reading()


def _borrow(method, owner):
    """A method of another class, made such that its super() begins at *owner*."""
    code = method.__code__
    cells = tuple(
        types.CellType(owner) if name == "__class__" else cell
        for name, cell in zip(code.co_freevars, method.__closure__ or (), strict=True)
    )
    return types.FunctionType(
        code, method.__globals__, method.__name__, method.__defaults__, cells
    )


if sys.version_info >= (3, 13):
    # It removes a socket's file. Tools that find blocking calls excuse this one
    # by the file and function that it is in, so it has to be this very code.
    Loop._stop_serving = _borrow(_Unix._stop_serving, Loop)


if tls.in_c:
    # The one other place that makes a TLS protocol.
    Loop.start_tls = tls.with_ours(asyncio.BaseEventLoop.start_tls)


class _SelectorView:
    """What the repr of asyncio's own transports asks a selector."""

    def __init__(self, loop):
        self._loop = loop

    def get_key(self, fd):
        wanted = self._loop._watched_events(fd)
        if not wanted:
            raise KeyError(fd)
        return selectors.SelectorKey(fd, fd, wanted, None)


def new_event_loop() -> Loop:
    """A new :class:`Loop`; a loop factory for Runner, uvicorn, anyio, ..."""
    return Loop()


def _is_literal(host, port):
    """Can getaddrinfo() answer without asking anybody?"""
    if not isinstance(host, str) or not (port is None or isinstance(port, int)):
        return False
    address, _, _ = host.partition("%")
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, address)
        except (OSError, ValueError):
            continue
        return True
    return False


def _encode_question(host, port):
    """Host and port as getaddrinfo(3) takes them; None for what
    socket.getaddrinfo() had better refuse itself."""
    if isinstance(host, str):
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            return None
    elif host is not None:
        return None
    if type(port) is int and abs(port) <= sys.maxsize:
        port = str(port)
    elif port is not None and not isinstance(port, str):
        return None
    if host == "" or (host is None and port is None) or "\0" in f"{host}{port}":
        return None
    return host, port


def _to_enum(kind, number):
    try:
        return kind(number)
    except ValueError:
        return number
