"""An HTTP server that keeps everybody waiting, on a socket that it inherits.

python slow_server.py DESCRIPTOR SECONDS
"""

import asyncio
import socket
import sys

BODY = b"x" * 1024
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


class Slow(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        # A client that awaits each reply sends one request at a time.
        loop = asyncio.get_running_loop()
        loop.call_later(float(sys.argv[2]), self.transport.write, REPLY)


async def main():
    loop = asyncio.get_running_loop()
    sock = socket.socket(fileno=int(sys.argv[1]))
    await loop.create_server(Slow, sock=sock, backlog=1024)
    await loop.create_future()


asyncio.run(main())
