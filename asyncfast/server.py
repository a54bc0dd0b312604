"""What asyncio.Server has in newer Pythons, for the older ones."""

import sys
import weakref
from asyncio import base_events

__all__ = ["Server"]

if sys.version_info >= (3, 13):
    Server = base_events.Server
else:

    class Server(base_events.Server):
        """asyncio's own server, which also knows its connections.

        close_clients() and abort_clients() are those of CPython 3.13.
        """

        def _clients(self):
            return self.__dict__.setdefault("_transports", weakref.WeakSet())

        # Without a transport it is asyncio's own signature, of these versions.

        def _attach(self, transport=None):
            super()._attach()
            if transport is not None:
                self._clients().add(transport)

        def _detach(self, transport=None):
            if transport is not None:
                self._clients().discard(transport)
            super()._detach()

        def close_clients(self) -> None:
            """Close every open connection, sending what is buffered."""
            for transport in list(self._clients()):
                transport.close()

        def abort_clients(self) -> None:
            """Close every open connection at once."""
            for transport in list(self._clients()):
                transport.abort()
