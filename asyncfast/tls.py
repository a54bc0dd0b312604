"""TLS: asyncio's own protocol, with its hot path in C.

Handshake, shutdown, timeouts and errors are the running CPython's
:class:`asyncio.sslproto.SSLProtocol`, inherited; the encryption is the ssl
module's. The C core takes over what happens for each record, as long as
asyncio's methods for that are the ones it was written after. It calls OpenSSL
itself where it can be sure of the library and of the objects of the ssl module,
and that module's methods otherwise, or with the environment variable
``ASYNCFAST_TLS=ssl``. With ``ASYNCFAST_TLS=stock`` asyncio's class is used as it
is.
"""

import os
import sys
import types
from asyncio import sslproto

from . import _core
from .known import is_known

__all__ = ["direct", "in_c", "kind", "new_protocol", "with_ours"]

ssl = sslproto.ssl

# What the methods that C acts for refer to: the mark by which they are known.
_KNOWN = {
    "SSLProtocol.buffer_updated": "DO_HANDSHAKE FLUSHING SHUTDOWN SSLProtocolState"
    " WRAPPED _do_flush _do_handshake _do_read _do_shutdown _incoming _ssl_buffer_view"
    " _state write",
    "SSLProtocol._do_read": "Exception FLUSHING SSLProtocolState WRAPPED"
    " _app_protocol_is_buffer _app_reading_paused _control_ssl_reading"
    " _do_read__buffered _do_read__copied _do_write _fatal_error _process_outgoing"
    " _state _write_backlog",
    "SSLProtocol._do_read__copied": "SSLAgainErrors _app_protocol _call_eof_received"
    " _sslobj _start_shutdown append data_received join max_size read",
    "SSLProtocol._write_appdata": "Exception FLUSHING"
    " LOG_THRESHOLD_FOR_CONNLOST_WRITES SHUTDOWN SSLProtocolState UNWRAPPED WRAPPED"
    " _conn_lost _do_write _fatal_error _state _write_backlog _write_buffer_size"
    " append constants len logger warning",
    "SSLProtocol._do_write": "SSLAgainErrors _process_outgoing _sslobj _write_backlog"
    " _write_buffer_size len write",
    "SSLProtocol._process_outgoing": "_control_app_writing _outgoing"
    " _ssl_writing_paused _transport len read write",
    "SSLProtocol._control_app_writing": "BaseException KeyboardInterrupt SystemExit"
    " _app_protocol _app_transport _app_writing_paused _get_write_buffer_size _loop"
    " _outgoing_high_water _outgoing_low_water call_exception_handler pause_writing"
    " resume_writing",
    "SSLProtocol._get_write_buffer_size": "_outgoing _write_buffer_size pending",
    "SSLProtocol._control_ssl_reading": "_get_read_buffer_size _incoming_high_water"
    " _incoming_low_water _ssl_reading_paused _transport pause_reading resume_reading",
    "SSLProtocol._get_read_buffer_size": "_incoming pending",
    "_SSLProtocolTransport.write": "TypeError __name__ _ssl_protocol _write_appdata"
    " bytearray bytes isinstance memoryview type",
    "_SSLProtocolTransport.writelines": "_ssl_protocol _write_appdata",
}


def _find_openssl() -> bool:
    """Can the C core call the OpenSSL that the ssl module calls?"""
    if os.environ.get("ASYNCFAST_TLS") == "ssl":
        return False
    file = getattr(sys.modules.get("_ssl"), "__file__", None)
    return file is not None and _core._load_openssl(file)


in_c: bool = (
    ssl is not None
    and os.environ.get("ASYNCFAST_TLS") != "stock"
    and is_known(sslproto, _KNOWN)
)
"""Whether the C core does what it can."""

direct: bool = in_c and _find_openssl()
"""Whether it does so past the ssl module's methods."""

_THEIRS = sslproto.SSLProtocol

if in_c:
    _READ, _WRITE = ssl.SSLObject.read, ssl.SSLObject.write

    class _SSLProtocolTransport(_core._TlsTransport, sslproto._SSLProtocolTransport):
        """asyncio's transport over TLS, which writes in C."""

        _write_slowly = sslproto._SSLProtocolTransport.write
        _writelines_slowly = sslproto._SSLProtocolTransport.writelines

    class SSLProtocol(_core._TlsProtocol, _THEIRS):
        """asyncio's protocol that does TLS, which reads and writes in C."""

        _do_read_slowly = _THEIRS._do_read

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            # The core reads into a buffer of the loop; who else asks
            # get_buffer() has it make another.
            self._ssl_buffer = b""
            self._ssl_buffer_view = memoryview(b"")
            self._again = sslproto.SSLAgainErrors
            self._wrapped = sslproto.SSLProtocolState.WRAPPED
            self._engine = _engine_of(self._sslobj)

        def _get_app_transport(self):
            if not self._app_transport_created:
                self._app_transport = _SSLProtocolTransport(self._loop, self)
                self._app_transport_created = True
            return super()._get_app_transport()

        def _on_handshake_complete(self, handshake_exc):
            # Errors of a _msg_callback are raised by the ssl module's methods.
            engine = self._engine
            if direct and engine is not None and engine.context._msg_callback is None:
                self._go_direct()
            super()._on_handshake_complete(handshake_exc)

        def _give_up(self, exc):
            try:
                raise exc
            except Exception:
                self._fatal_error(exc, "Fatal error on SSL protocol")
            finally:
                exc = None

    # To the eye they are asyncio's: some libraries look at names.
    SSLProtocol.__module__ = _SSLProtocolTransport.__module__ = sslproto.__name__


def _engine_of(sslobj):
    """What SSLObject's read() and write() pass on to; None where they, or the
    class, are somebody's own: then asyncio's code calls them."""
    kind = ssl.SSLObject
    if type(sslobj) is kind and (kind.read, kind.write) == (_READ, _WRITE):
        return sslobj._sslobj
    return None


def kind() -> str:
    """For build_info()."""
    if direct:
        return "openssl"
    return "ssl" if in_c else "stock"


def new_protocol(*args, **kwargs):
    """A new SSLProtocol, of whatever class is there now if asyncio's was
    replaced; the arguments are asyncio's."""
    ours = in_c and sslproto.SSLProtocol is _THEIRS
    return (SSLProtocol if ours else sslproto.SSLProtocol)(*args, **kwargs)


def with_ours(method):
    """The same function, but that it calls new_protocol()."""
    shown = types.SimpleNamespace(SSLProtocol=new_protocol)
    names = {**method.__globals__, "sslproto": shown}
    function = types.FunctionType(
        method.__code__, names, method.__name__, method.__defaults__, method.__closure__
    )
    function.__kwdefaults__ = method.__kwdefaults__
    function.__doc__ = method.__doc__
    function.__module__ = method.__module__
    function.__qualname__ = method.__qualname__
    return function
