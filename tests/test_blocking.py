"""Calls that may block are asyncio's own: the fourteenth trap of test_traps.py.

Tools that find blocking calls in a running loop, such as blockbuster, excuse those of
asyncio by the file and function that they are in.
"""

import asyncio
import os
import socket
import sys
from asyncio import base_events, unix_events

import pytest
from support import PY, Recorder, connected

MAY_BLOCK = {
    "stat": {
        ("unix_events.py", "create_unix_server"),
        ("unix_events.py", "_stop_serving"),
    },
    "unlink": {("unix_events.py", "_stop_serving")},
    "sendfile": {
        ("base_events.py", "sendfile"),
        ("unix_events.py", "_sock_sendfile_native_impl"),
    },
}
if PY < (3, 13):
    MAY_BLOCK["remove"] = {("unix_events.py", "create_unix_server")}


@pytest.fixture
def blocking_calls(monkeypatch):
    """Watches calls that may block, as blockbuster does: {name: [is it excused?]}."""
    calls = {}

    def watch(name, excused):
        original = getattr(os, name)

        def wrapper(*args, **kwargs):
            if asyncio._get_running_loop() is not None:
                code = [(os.path.basename(f), n) for f, n in stack(sys._getframe(1))]
                calls.setdefault(name, []).append(bool(excused & set(code)))
            return original(*args, **kwargs)

        monkeypatch.setattr(os, name, wrapper)

    for name, excused in MAY_BLOCK.items():
        watch(name, excused)
    return calls


def stack(frame):
    while frame is not None:
        yield frame.f_code.co_filename, frame.f_code.co_name
        frame = frame.f_back


async def test_t14_a_unix_server_blocks_where_asyncios_may(
    loop, tmp_path, blocking_calls
):
    """blockbuster excuses calls from asyncio's files and functions by name."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    server = await loop.create_unix_server(asyncio.Protocol, path)
    server.close()
    assert os.path.exists(path) == (PY < (3, 13))
    assert blocking_calls.pop("stat")[0]
    assert all(all(excused) for excused in blocking_calls.values()), blocking_calls


async def test_t14_sendfile_blocks_where_asyncios_may(loop, tmp_path, blocking_calls):
    (tmp_path / "file").write_bytes(b"contents")
    async with connected(loop, Recorder, socket.AF_INET) as (transport, _, peer):
        with open(tmp_path / "file", "rb") as file:
            assert await loop.sendfile(transport, file) == 8
        assert await loop.sock_recv(peer, 100) == b"contents"
    assert all(blocking_calls.get("sendfile", ["none in Python"]))


INHERITED = [
    (base_events, "sendfile sock_sendfile subprocess_exec subprocess_shell"),
    (base_events, "shutdown_default_executor create_server create_connection"),
    (unix_events, "create_unix_server create_unix_connection _stop_serving"),
    (unix_events, "_sock_sendfile_native_impl"),
]


@pytest.mark.parametrize(
    "module, name", [(m, name) for m, names in INHERITED for name in names.split()]
)
def test_t14_what_may_block_is_asyncios_own_code(loop, module, name):
    code = getattr(type(loop), name).__code__
    if name == "_stop_serving" and PY < (3, 13):
        pytest.skip("does not block there")
    assert code.co_filename == module.__file__
    assert code.co_name == name
