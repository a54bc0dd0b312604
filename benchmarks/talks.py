"""What is said to servers that don't just echo: HTTP requests, websocket frames.

The harness says it once, in order to learn what a reply looks like; the load client
then counts replies of that length with that beginning.
"""

import os
import re
import socket
import struct
from dataclasses import dataclass

SECONDS = 10
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
END = b"\r\n\r\n"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
BINARY_FRAME = 0x82
MASKED = 0x80
SHORT_FRAME = 125
SWITCHING = b"HTTP/1.1 101"


class TalkError(Exception):
    pass


@dataclass(frozen=True)
class Talk:
    """`hello` opens a connection; every `message` is answered by a reply that
    begins with `start`."""

    message: bytes
    start: bytes
    hello: bytes = b""
    reply_size: int | None = None


def http(load):
    return Talk(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 200")


def websocket(load):
    """A binary frame of the load's size, masked with zeros, which change nothing."""
    if load.size <= SHORT_FRAME:
        head, answer = bytes([load.size | MASKED]), bytes([load.size])
    else:
        length = struct.pack(">H", load.size)
        head, answer = bytes([126 | MASKED]) + length, bytes([126]) + length
    first, payload = bytes([BINARY_FRAME]), b"x" * load.size
    return Talk(
        message=first + head + bytes(4) + payload,
        start=first + answer,
        hello=UPGRADE,
        reply_size=len(first + answer) + load.size,
    )


def options(talk, port, scratch):
    """The load client's options, which name files in `scratch`."""
    parts = {"message": talk.message, "reply": learn(talk, port)}
    if talk.hello:
        parts["hello"] = talk.hello
    found = []
    for name, data in parts.items():
        path = os.path.join(scratch, name)
        with open(path, "wb") as out:
            out.write(data)
        found += [f"--{name}", path]
    return found


def learn(talk, port):
    """Say it once; the reply."""
    try:
        with socket.create_connection(("127.0.0.1", port), SECONDS) as sock:
            if talk.hello:
                sock.sendall(talk.hello)
                expect(read_until(sock, has_head), SWITCHING)
            sock.sendall(talk.message)
            reply = read_until(sock, lambda data: is_complete(talk, data))
    except OSError as error:
        raise TalkError(f"the server does not answer: {error}") from error
    return expect(reply, talk.start)


def read_until(sock, complete):
    data = b""
    while not complete(data):
        chunk = sock.recv(65536)
        if not chunk:
            raise TalkError(f"the server hung up after {data[:100]!r}")
        data += chunk
    return data


def expect(reply, start):
    if not reply.startswith(start):
        raise TalkError(f"unexpected reply: {reply[:100]!r}")
    return reply


def has_head(data):
    return END in data


def is_complete(talk, data):
    if talk.reply_size is not None:
        return len(data) >= talk.reply_size
    head, end, body = data.partition(END)
    length = LENGTH.search(head)
    return bool(end) and (length is None or len(body) >= int(length[1]))
