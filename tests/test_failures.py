"""What hardly ever fails, failing: all that tests/faults has found and was mended.

asyncio itself does not pass all of these.
"""

import asyncio
import errno
import socket

import pytest
from support import Echo, connected, reset, serving, until


@pytest.fixture(params=["asyncfast"])
def loop_name(request):
    return request.param


def refuse(*args, **kwargs):
    raise OSError(errno.ENOMEM, "no memory")


# -- Connections -------------------------------------------------------------------


async def test_a_connection_that_cannot_be_set_up_for_tls_is_reported(
    loop, reports, served, monkeypatch
):
    async with serving(loop, ssl=served) as (_, address):
        with monkeypatch.context() as patch:
            patch.setattr(loop, "_accept_tls", refuse, raising=False)
            with socket.create_connection(address) as client:
                await until(lambda: reports)
                client.settimeout(10)
                assert client.recv(1) == b""
        report = reports.take_one()
        assert report["message"] == "Exception in callback of accept"
        assert str(report["exception"]) == "[Errno 12] no memory"
        # It goes on to serve.
        with socket.create_connection(address):
            await asyncio.sleep(0)


@pytest.mark.parametrize("ends", ["read", "write"])
async def test_a_connection_is_closed_even_if_its_error_cannot_be_told(
    loop, reports, monkeypatch, ends
):
    monkeypatch.setattr(loop, "_log_transport_error", refuse, raising=False)
    async with connected(loop, Echo, socket.AF_INET) as (transport, protocol, peer):
        if ends == "write":
            transport.pause_reading()
        reset(peer)
        if ends == "write":
            with pytest.raises(OSError, match="no memory"):
                transport.write(b"x")
        await protocol.saw("lost")
        assert type(protocol.exception) in (ConnectionResetError, BrokenPipeError)
    if ends == "read":
        report = reports.take_one()
        assert report["message"] == "Exception in callback of transport"


async def test_a_future_that_refuses_its_result_is_reported(loop, reports, pair):
    class Choosy(asyncio.Future):
        def set_result(self, result):
            raise LookupError

    loop.create_future = lambda: Choosy(loop=loop)
    task = loop.create_task(loop.sock_recv(pair[0], 10))
    await asyncio.sleep(0)
    pair[1].send(b"x")
    while not reports:
        await asyncio.sleep(0)
    assert type(reports.take_one()["exception"]) is LookupError
    del loop.create_future
    task.cancel()
    await asyncio.wait([task])
