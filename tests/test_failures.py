"""What hardly ever fails, failing: all that tests/faults has found and was mended.

asyncio itself does not pass all of these.
"""

import asyncio
import errno
import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import Echo, connected, descriptors, once, reset, serving, until


@pytest.fixture(params=["asyncfast"])
def loop_name(request):
    return request.param


def refuse(*args, **kwargs):
    raise OSError(errno.ENOMEM, "no memory")


# -- Running and closing -----------------------------------------------------------


def test_a_run_that_cannot_begin_leaves_the_loop_usable(loop, run, monkeypatch):
    before = sys.get_asyncgen_hooks()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "set_asyncgen_hooks", refuse)
        with pytest.raises(OSError, match="no memory"):
            loop.run_forever()
    assert not loop.is_running()
    assert asyncio._get_running_loop() is None
    assert run(asyncio.sleep(0, "runs")) == "runs"
    assert sys.get_asyncgen_hooks() == before


def test_a_wakeup_pipe_that_could_not_be_watched_is_made_anew(loop, run, monkeypatch):
    before = descriptors().keys()
    with monkeypatch.context() as patch:
        patch.setattr(os, "set_blocking", refuse)
        with pytest.raises(OSError, match="no memory"):
            once(loop)
    assert descriptors().keys() == before
    arrived = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, arrived.set_result, "arrived")
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    assert run(arrived) == "arrived"
    loop.remove_signal_handler(signal.SIGUSR1)


def test_an_executor_that_cannot_be_shut_down_keeps_no_descriptor(new):
    class Stubborn(ThreadPoolExecutor):
        def shutdown(self, *args, **kwargs):
            raise LookupError

    before = descriptors().keys()
    loop = new()
    once(loop)
    loop.set_default_executor(Stubborn())
    with pytest.raises(LookupError):
        loop.close()
    assert loop.is_closed()
    assert descriptors().keys() == before


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


# -- Processes ---------------------------------------------------------------------


def is_reaped(pid):
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


@pytest.fixture
def pids(monkeypatch):
    """The process ids of the children that are started."""
    found = []
    original = asyncio.unix_events._UnixSubprocessTransport._start

    def start(self, *args, **kwargs):
        original(self, *args, **kwargs)
        found.append(self._proc.pid)

    monkeypatch.setattr(asyncio.unix_events._UnixSubprocessTransport, "_start", start)
    return found


async def test_a_pipe_that_cannot_be_connected_ends_the_child(loop, pids, monkeypatch):
    monkeypatch.setattr(loop, "_make_read_pipe_transport", refuse, raising=False)
    with pytest.raises(OSError, match="no memory"):
        await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    assert is_reaped(pids[0])


async def test_a_child_that_nobody_can_wait_for_is_ended(loop, pids, monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    assert is_reaped(pids[0])
