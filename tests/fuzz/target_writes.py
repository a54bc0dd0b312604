"""Much data in pieces of every size, through sockets that take little at a time, to
readers that take their time: every byte must come, in its place, and nothing may hang.
"""

import asyncio

from both import on
from draw import Draw
from sides import content
from support import free_pair, small_buffers

STEPS = 60
SIZES = (0, 1, 7, 1000, 4096, 16384, 65536, 100_001)
KINDS = (bytes, bytes, bytearray, memoryview)
MARKS = ((0, 0), (1, 0), (1000, 10), (65536, 16384))
LIMIT = 20  # seconds


class Sender:
    """Writes what an input says, and keeps count."""

    def __init__(self, draw, writer):
        self.draw, self.writer, self.sent = draw, writer, 0

    def piece(self, size):
        self.sent += size
        return self.draw.pick(KINDS)(content(self.sent - size, size))

    async def step(self):
        kind = self.draw.number(6)
        transport = self.writer.transport
        if kind < 2:
            self.writer.write(self.piece(self.draw.pick(SIZES)))
        elif kind == 2:
            count = self.draw.number(20)
            sizes = [self.draw.pick(SIZES[:5]) for _ in range(count)]
            self.writer.writelines([self.piece(size) for size in sizes])
        elif kind == 3:
            high, low = self.draw.pick(MARKS)
            transport.set_write_buffer_limits(high, low)
        elif kind == 4:
            await self.writer.drain()
            low, high = transport.get_write_buffer_limits()
            assert transport.get_write_buffer_size() <= high
        else:
            await asyncio.sleep(0)

    async def send(self):
        for _ in range(STEPS):
            if self.draw.more():
                await self.step()
        if self.draw.flag():
            self.writer.write_eof()
        else:
            self.writer.close()


async def take(draw, reader):
    """Read to the end in the steps that an input says; how much has come."""
    came = 0
    while True:
        kind = draw.number(4)
        if kind == 0 and draw.more():
            await asyncio.sleep(0)
            continue
        size = draw.pick(SIZES[1:]) if draw.more() else 100_000
        if kind == 1:
            try:
                data = await reader.readexactly(size)
            except asyncio.IncompleteReadError as error:
                data = error.partial
        else:
            data = await reader.read(size)
        if not data:
            return came
        assert data == content(came, len(data)), f"wrong bytes at {came}"
        came += len(data)


async def carry(draw):
    """One connection; its sender and its reader read the input from both ends."""
    left, right = free_pair()
    if draw.flag():
        small_buffers(left)
        small_buffers(right)
    _, writer = await asyncio.open_connection(sock=left)
    limit = draw.pick((1, 100, 65536))
    reader, other = await asyncio.open_connection(sock=right, limit=limit)
    sender = Sender(draw, writer)
    taking = asyncio.ensure_future(take(Draw(draw.data[::-1]), reader))
    try:
        await sender.send()
        came = await taking
        assert came == sender.sent, f"{came} of {sender.sent} bytes came"
    finally:
        taking.cancel()
        for end in writer, other:
            end.transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


def run(draw):
    def scenario(loop):
        loop.run_until_complete(asyncio.wait_for(carry(draw), LIMIT))
        assert not loop.reports, loop.reports

    on("asyncfast", scenario)
