"""Streams: asyncio's own classes, fed in C.

``asyncio.open_connection()`` and ``start_server()`` are asyncio's, and so are the
reader and the writer that they make. What arrives takes three calls of Python on
its way into the reader's buffer; the C core does what these do, as long as they
are the ones it was written after. The environment variable
``ASYNCFAST_STREAMS=stock`` leaves it to asyncio.
"""

import os
from asyncio import streams

from . import _core
from .known import is_known

__all__ = ["in_c"]

_KNOWN = {
    "StreamReaderProtocol.data_received": "_stream_reader feed_data",
    "StreamReaderProtocol._stream_reader": "_stream_reader_wr",
    "StreamReader.feed_data": "NotImplementedError _buffer _eof _limit _paused"
    " _transport _wakeup_waiter extend len pause_reading",
    "StreamReader._wakeup_waiter": "_waiter cancelled set_result",
}

in_c: bool = os.environ.get("ASYNCFAST_STREAMS") != "stock" and is_known(
    streams, _KNOWN
)
"""Whether the C core does what it can."""

if in_c:
    _core._adopt_streams(
        streams.StreamReader,
        streams.StreamReader.feed_data,
        streams.StreamReader._wakeup_waiter,
        streams.StreamReaderProtocol,
        streams.StreamReaderProtocol.data_received,
        streams.StreamReaderProtocol._stream_reader,
    )
