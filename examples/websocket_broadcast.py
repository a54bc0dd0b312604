"""websockets: a chat room in which everybody hears what anybody says.

Teaches a WebSocket server and its clients with the websockets library: one
coroutine for each connection, the set of those who are there, and broadcast(), which
never waits for the slowest of them.

Prints what each member of the room heard, in the order heard.

    python examples/websocket_broadcast.py
"""

import sys

import asyncfast

try:
    from websockets.asyncio.client import ClientConnection, connect
    from websockets.asyncio.server import ServerConnection, broadcast, serve
except ImportError as missing:
    sys.exit(
        "websocket_broadcast.py needs websockets 13 or newer: "
        f"python -m pip install websockets ({missing})"
    )


class Room:
    """Passes on what one member says to all members."""

    def __init__(self) -> None:
        self._members: set[ServerConnection] = set()

    async def enter(self, member: ServerConnection) -> None:
        """Serve one connection, from its first message, a name, to its end."""
        name = str(await member.recv())
        self._members.add(member)
        broadcast(self._members, f"* {name} is here")
        try:
            async for message in member:
                broadcast(self._members, f"{name}: {message!s}")
        finally:
            self._members.discard(member)
            broadcast(self._members, f"* {name} has left")


async def hear_until(member: ClientConnection, last: str) -> list[str]:
    """Listen up to and including a message: no clock needed to know it is over."""
    heard: list[str] = []
    while last not in heard:
        heard.append(str(await member.recv()))
    return heard


async def conversation(url: str) -> dict[str, list[str]]:
    heard: dict[str, list[str]] = {}
    async with connect(url) as dora:
        await dora.send("Dora")
        heard["Dora"] = await hear_until(dora, "* Dora is here")
        async with connect(url) as emil:
            await emil.send("Emil")
            heard["Emil"] = await hear_until(emil, "* Emil is here")
            await emil.send("hello, is somebody in?")
            heard["Dora"] += await hear_until(dora, "Emil: hello, is somebody in?")
            await dora.send("I am")
            heard["Emil"] += await hear_until(emil, "Dora: I am")
        heard["Dora"] += await hear_until(dora, "* Emil has left")
    return heard


async def main() -> None:
    async with serve(Room().enter, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        for name, messages in (await conversation(f"ws://127.0.0.1:{port}")).items():
            print(f"{name} heard: {' | '.join(messages)}")


if __name__ == "__main__":
    asyncfast.run(main())
