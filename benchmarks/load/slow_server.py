"""An HTTP server that keeps everybody waiting: prints its port, ends with its input.

python slow_server.py SECONDS
"""

import asyncio
import sys

BODY = b"x" * 1024
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


class Slow(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        # A client that awaits each reply sends one request at a time.
        loop = asyncio.get_running_loop()
        loop.call_later(float(sys.argv[1]), self.transport.write, REPLY)


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Slow, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main())
