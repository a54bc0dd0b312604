"""What asyncio.Server has in newer Pythons, for the older ones."""

import sys
from asyncio import base_events

__all__ = ["Server"]

if sys.version_info >= (3, 13):
    Server = base_events.Server
else:

    class Server(base_events.Server):
        """asyncio's own server, whose connections its loop knows.

        close_clients() and abort_clients() are those of CPython 3.13.
        """

        def close_clients(self) -> None:
            """Close every open connection, sending what is buffered."""
            for transport in self._loop._clients_of(self):
                transport.close()

        def abort_clients(self) -> None:
            """Close every open connection at once."""
            for transport in self._loop._clients_of(self):
                transport.abort()
