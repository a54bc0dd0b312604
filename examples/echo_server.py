"""Streams: a TCP server that sends back what it hears, and its clients.

Teaches start_server() and open_connection(): a coroutine for each connection,
drain() so that a slow reader slows the writer, the end of the stream as an empty
read, and closing both sides in good order.

Prints what three clients, connected at the same time, hear back.

    python examples/echo_server.py
"""

import asyncio

import asyncfast

CHATS = {
    "Alba": ["good morning", "is this thing on?"],
    "Bruno": ["ahoy"],
    "Chiara": ["one", "two", "three"],
}


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection until the client has said all."""
    try:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    finally:
        writer.close()
        await writer.wait_closed()


async def chat(port: int, name: str, lines: list[str]) -> list[str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    heard: list[str] = []
    for line in lines:
        writer.write(f"{name}: {line}\n".encode())
        await writer.drain()
        heard.append((await reader.readline()).decode().strip())
    # Says "that was all" but still listens: the server closes in its own time.
    writer.write_eof()
    await reader.read()
    writer.close()
    await writer.wait_closed()
    return heard


async def main() -> None:
    # Port 0: the system picks one that is free.
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        chats = (chat(port, name, lines) for name, lines in CHATS.items())
        for heard in await asyncio.gather(*chats):
            print(" | ".join(heard))
    print(f"server still open: {server.is_serving()}")


if __name__ == "__main__":
    asyncfast.run(main())
