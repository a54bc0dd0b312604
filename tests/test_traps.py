"""What other libraries take for granted of a loop, beyond what asyncio documents.

The numbers are for reference only: one trap each that another loop has fallen into,
with the library that found it.
"""

import asyncio
import contextlib
import gc
import importlib.metadata
import os
import signal
import socket
import sys
import threading
import time
import warnings
import weakref
from asyncio import base_events, trsock

import pytest
from support import (
    PY,
    BufferedRecorder,
    Echo,
    Recorder,
    client_context,
    connected,
    drain,
    free_pair,
    like_asyncio,
    message,
    reset,
    server_context,
    serving,
    turns,
    until,
)

pytestmark = pytest.mark.usefixtures("threads_end")


@contextlib.asynccontextmanager
async def upgraded(loop, certificate):
    """The two transports and protocols of a connection that went over to TLS."""
    left, right = free_pair()
    client, server = Recorder(), Recorder()
    below, _ = await loop.connect_accepted_socket(lambda: client, left)
    other, _ = await loop.connect_accepted_socket(lambda: server, right)
    above, peer = await asyncio.gather(
        loop.start_tls(
            below, client, client_context(certificate), server_hostname="localhost"
        ),
        loop.start_tls(other, server, server_context(certificate), server_side=True),
    )
    try:
        yield (below, above, client), (other, peer, server)
    finally:
        above.abort()
        peer.abort()
        await until(lambda: left.fileno() == right.fileno() == -1)


# -- The root task, classes, attributes --------------------------------------------


async def test_t01_the_root_task_has_asyncios_own_callback(loop):
    """anyio tells the root task by it, to keep and clean up what belongs to a run."""
    found = [callback for callback, _ in asyncio.current_task()._callbacks]
    assert found == [base_events._run_until_complete_cb]


async def test_t01_run_variables_of_anyio_live_for_one_run(loop):
    lowlevel = pytest.importorskip("anyio.lowlevel")
    variable = lowlevel.RunVar("variable")
    variable.set(1)

    async def in_another_task():
        return variable.get()

    assert await loop.create_task(in_another_task()) == 1


async def test_t02_transports_are_asyncios_by_class(loop, certificate):
    """aiohttp checks a certificate's fingerprint only if this holds."""
    async with upgraded(loop, certificate) as ((below, above, _), _):
        assert isinstance(below, asyncio.Transport)
        assert isinstance(above, asyncio.Transport)
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, ("127.0.0.1", 0)
    )
    # asyncio's own has not been one in every version; ours is.
    if type(transport).__module__.startswith("asyncfast"):
        assert isinstance(transport, asyncio.DatagramTransport)
    assert isinstance(transport, asyncio.BaseTransport)
    transport.close()


async def test_t02_pipes_and_subprocesses_are_asyncios_by_class(loop):
    transport, protocol = await loop.subprocess_exec(
        lambda: asyncio.subprocess.SubprocessStreamProtocol(65536, loop),
        *[sys.executable, "-c", "input()"],
        stdin=-1,
        stdout=-1,
    )
    assert isinstance(transport, asyncio.SubprocessTransport)
    assert isinstance(transport.get_pipe_transport(0), asyncio.WriteTransport)
    assert isinstance(transport.get_pipe_transport(1), asyncio.ReadTransport)
    transport.get_pipe_transport(0).write(b"\n")
    assert await transport._wait() == 0
    transport.close()


async def test_t02_handles_and_servers_are_asyncios_by_class(loop):
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert isinstance(loop, asyncio.BaseEventLoop)
    for handle in (loop.call_soon(print), loop.call_soon_threadsafe(print)):
        assert isinstance(handle, asyncio.Handle)
        handle.cancel()
    timer = loop.call_later(100, print)
    assert isinstance(timer, asyncio.TimerHandle)
    timer.cancel()
    async with serving(loop) as (server, _):
        assert isinstance(server, asyncio.AbstractServer)
        assert isinstance(server, asyncio.Server)


async def test_t03_attributes_may_be_added(loop):
    """ipykernel, sanic, aiosocks and profilers leave their notes on these."""
    async with serving(loop) as (server, address):
        transport, _ = await loop.create_connection(asyncio.Protocol, *address)
        for thing in (loop, server, transport):
            thing._their_note = thing
            assert thing._their_note is thing
            assert weakref.ref(thing)() is thing
            assert {thing: 1}[thing] == 1
            del thing._their_note
        transport.close()


SCHEDULING = "call_soon call_later call_at call_soon_threadsafe call_exception_handler"


async def test_t03_scheduling_methods_may_be_replaced(loop, reports, monkeypatch):
    """Profilers wrap these on a running loop, and expect to see what tasks,
    timers, executors and errors go through."""
    seen = []

    def wrap(name):
        original = getattr(loop, name)

        def wrapper(*args, **kwargs):
            seen.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(loop, name, wrapper)

    for name in SCHEDULING.split():
        wrap(name)
    await asyncio.sleep(0)
    await asyncio.sleep(0.001)
    await loop.run_in_executor(None, time.sleep, 0.01)
    loop.call_soon(lambda: 1 / 0)
    await turns(2)
    assert type(reports.take_one()["exception"]) is ZeroDivisionError
    assert {
        "call_soon",
        "call_later",
        "call_soon_threadsafe",
        "call_exception_handler",
    } <= set(seen)


async def test_t03_a_transports_write_may_be_replaced(loop, certificate):
    """Streams and TLS call what the instance has."""
    async with upgraded(loop, certificate) as ((below, above, _), (_, _, server)):
        written = []
        original = below.write
        below.write = lambda data: (written.append(bytes(data)), original(data))
        above.write(b"secret")
        assert await server.received(6) == b"secret"
        assert written and b"secret" not in b"".join(written)


def test_t03_close_may_be_replaced(new):
    """pyzmq closes its sockets with the loop, by a close() of its own."""
    loop = new()
    closed = []
    original = loop.close
    loop.close = lambda: (closed.append(1), original())
    loop.close()
    assert closed and loop.is_closed()


# -- Sockets and transports --------------------------------------------------------


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
async def test_t04_a_transport_tells_its_socket(loop, family):
    """aiohttp, uvicorn, asyncpg, redis-py and picows set options on it, and skip
    them if there is none."""
    async with connected(loop, Recorder, family) as (transport, _, peer):
        sock = transport.get_extra_info("socket")
        assert type(sock) is trsock.TransportSocket
        assert (sock.family, sock.type) == (family, socket.SOCK_STREAM)
        assert sock.proto == transport._sock.proto
        assert sock.fileno() == transport._sock.fileno() >= 0
        assert sock.getsockname() == peer.getpeername()
        assert sock.getpeername() == peer.getsockname()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 15)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) >= 1 << 15


async def test_t04_an_empty_buffer_is_an_empty_buffer(loop):
    """picows sends on the descriptor itself as long as nothing is buffered."""
    async with connected(loop, Recorder) as (transport, _, peer):
        sock = transport.get_extra_info("socket")
        for number in range(3):
            transport.write(b"w%d" % number)
            assert transport.get_write_buffer_size() == 0
            with sock.dup() as own:
                own.send(b"s%d" % number)
        assert drain(peer) == b"w0s0w1s1w2s2"


async def test_t04_the_buffer_is_told_to_the_byte(loop):
    async with connected(loop, Recorder) as (transport, _, peer):
        written = 0
        while transport.get_write_buffer_size() == 0:
            transport.write(bytes(40000))
            written += 40000
        transport.writelines([b"abc", bytearray(4)])
        written += 7
        waiting = transport.get_write_buffer_size()
        assert waiting == written - len(drain(peer))


async def test_t05_transports_say_that_they_take_tls_and_files(loop, certificate):
    """asyncio and aiohttp ask for these before start_tls() and sendfile(); by its
    module aiohttp tells a transport that only looks able to."""
    async with upgraded(loop, certificate) as ((below, above, _), _):
        assert below._start_tls_compatible is True
        assert below._sendfile_compatible is base_events.constants._SendfileMode(2)
        assert above._sendfile_compatible is base_events.constants._SendfileMode(3)
        if PY >= (3, 11):
            assert above._start_tls_compatible is True
        assert type(below).__module__.split(".")[0] in ("asyncio", "asyncfast")


async def test_t06_a_tls_transport_is_called_so(loop, certificate):
    """Tests of aiosmtplib look for SSL in the name of the class."""
    async with upgraded(loop, certificate) as ((_, above, _), (_, peer, _)):
        assert "SSL" in type(above).__name__
        assert "SSL" in type(peer).__name__


async def test_t07_abort_of_tls_goes_through_force_close(loop, certificate):
    """asyncio's TLS calls _force_close() of the transport below it."""
    async with upgraded(loop, certificate) as ((below, above, client), (_, _, server)):
        above.abort()
        await client.saw("lost")
        await server.saw("lost")
        assert below.is_closing()
        assert client.exception is None


async def test_t07_force_close_tells_its_exception(loop):
    async with connected(loop, Recorder) as (transport, protocol, _):
        error = OSError("as they please")
        transport._force_close(error)
        await protocol.saw("lost")
        assert protocol.exception is error


async def test_t07_asyncios_processes_wait(loop):
    """asyncio.subprocess waits with transport._wait()."""
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-c", "import sys; sys.exit(len(input()))"], stdin=-1
    )
    await process.communicate(b"abc\n")
    assert await process.wait() == process.returncode == 3
    assert await process._transport._wait() == 3


def connections(server):
    return server._active_count if PY < (3, 13) else len(server._clients)


async def test_t07_a_server_knows_of_its_connections(loop):
    """A transport attaches itself to its server, and detaches when it ends."""
    async with serving(loop) as (server, address):
        transport, protocol = await loop.create_connection(Recorder, *address)
        transport.write(b"x")
        await protocol.received(1)
        assert connections(server) == 1
        transport.close()
        await until(lambda: connections(server) == 0)


async def test_t08_a_server_has_asyncios_attributes(loop, certificate):
    """Tests of websockets look at the first, callers of sockets at its type."""
    context = server_context(certificate)
    async with serving(loop, ssl=context) as (server, _):
        assert server._ssl_context is context
        assert type(server.sockets) is tuple
        assert type(server.sockets[0]) is trsock.TransportSocket
        assert server.get_loop() is server._loop is loop
        server.close()
        assert server.sockets == ()
    async with serving(loop) as (server, _):
        assert server._ssl_context is None


# -- Private attributes of the loop ------------------------------------------------


def test_t09_what_runners_and_test_suites_look_at(loop, run):
    """anyio's runner, aiomysql's and asyncio's own tests."""
    assert loop._default_executor is None
    assert loop._executor_shutdown_called is False
    run(loop.run_in_executor(None, int))
    assert loop._default_executor.submit(int).result() == 0
    run(loop.shutdown_default_executor())
    assert loop._executor_shutdown_called is True
    assert loop._debug is False
    loop.set_debug(True)
    assert loop._debug is True
    loop._check_closed()
    assert loop._closed is False
    loop.close()
    assert loop._closed is True
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop._check_closed()


def test_t09_the_thread_that_runs_it(loop, run):
    assert loop._thread_id is None

    async def thread_id():
        return loop._thread_id

    assert run(thread_id()) == threading.get_ident()
    assert loop._thread_id is None


def test_t09_stopping_can_be_taken_back(loop):
    """sanic resets it, to go on with a loop that it has stopped."""
    loop.stop()
    assert loop._stopping is True
    loop._stopping = False
    ran = []
    loop.call_soon(loop.call_soon, ran.append, 1)
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()
    assert ran == [1]
    assert loop._stopping is False


async def test_t09_open_generators_and_timers_are_known(loop):
    async def generate():
        yield 1

    generator = generate()
    await generator.__anext__()
    assert list(loop._asyncgens) == [generator]
    await generator.aclose()
    timer = loop.call_later(100, print)
    assert timer in list(loop._scheduled)
    # What a handle that is not of this loop's own kind says to it.
    loop._timer_handle_cancelled(asyncio.TimerHandle(1, print, (), loop))
    timer.cancel()


async def test_t10_sigchld_is_free(loop):
    """Tornado and supervisors reap children of their own in a handler for it,
    while others use the loop's subprocesses."""
    reaped = loop.create_future()
    started = []

    def reap():
        for pid in started[:]:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                started.remove(pid)
                reaped.set_result(os.waitstatus_to_exitcode(status))

    loop.add_signal_handler(signal.SIGCHLD, reap)
    command = [sys.executable, "-c", "import sys; sys.exit(3)"]
    started.append(os.posix_spawn(command[0], command, dict(os.environ)))
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 3
    assert await reaped == 3
    assert loop.remove_signal_handler(signal.SIGCHLD)


def test_t11_the_wrong_thread_is_told_so(loop):
    """grpc.aio looks for these words."""
    loop.set_debug(True)
    caught = []

    def other():
        with pytest.raises(RuntimeError) as info:
            loop.call_soon(print)
        caught.append(message(info))

    async def main():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    loop.run_until_complete(main())
    assert len(caught) == 1 and caught[0].startswith("Non-thread-safe operation")


# -- Readers and writers -----------------------------------------------------------


async def test_t12_every_call_of_a_reader_has_something_to_read(loop, pair):
    """grpc.aio reads one byte a call, and would block if there were none."""
    left, right = pair
    left.setblocking(True)
    right.send(b"abcde")
    got, done = [], loop.create_future()

    def read():
        got.append(left.recv(1))
        if len(got) == 5:
            done.set_result(None)

    loop.add_reader(left, read)
    await done
    await turns(5)
    right.send(b"f")
    await until(lambda: len(got) == 6)
    assert loop.remove_reader(left)
    assert b"".join(got) == b"abcdef"


async def test_t12_nothing_is_called_after_remove(loop, pair):
    left, right = pair
    called = []
    left.send(b"x")
    right.send(b"x")
    for sock, other in ((left, right), (right, left)):
        loop.add_reader(
            sock, lambda other=other: (called.append(1), loop.remove_reader(other))
        )
    await until(lambda: called)
    before = len(called)
    loop.remove_reader(left), loop.remove_reader(right)
    await turns(5)
    assert len(called) == before


async def test_t12_both_directions_are_added_for_every_wait(loop, pair):
    """psycopg adds reader and writer for each wait, and removes them after it."""
    left, right = pair

    async def wait(direction):
        ready = asyncio.Event()
        loop.add_reader(left.fileno(), lambda: direction == "read" and ready.set())
        loop.add_writer(left.fileno(), lambda: direction == "write" and ready.set())
        try:
            await ready.wait()
        finally:
            assert loop.remove_reader(left.fileno())
            assert loop.remove_writer(left.fileno())

    for number in range(20):
        await wait("write")
        left.send(bytes([number]))
        right.send(right.recv(1))
        await wait("read")
        assert left.recv(10) == bytes([number])


def test_t13_no_plugin_of_pytest_comes_along_unasked():
    """pytest-asyncio takes the mere presence of certain hooks for an answer."""
    points = importlib.metadata.entry_points(group="pytest11")
    assert [p for p in points if p.value.startswith("asyncfast")] == []


# -- Threads, processes, signals ---------------------------------------------------


def test_t15_it_runs_in_a_thread(new):
    """Servers in test suites run like this: without signals, with subprocesses."""
    done = []

    async def main():
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
        await asyncio.sleep(0.001)
        done.append(await process.wait())

    def work():
        loop = new()
        try:
            loop.run_until_complete(main())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()

    with warnings.catch_warnings():
        # asyncio's own watcher of children says that it has no loop of its own.
        warnings.simplefilter("ignore")
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert done == [0]
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_t15_a_worker_forks_before_its_loop(loop, new, run):
    """gunicorn imports the application, and what runs in it, before it forks."""
    run(asyncio.sleep(0))
    pid = os.fork()
    if pid == 0:
        own = new()
        result = own.run_until_complete(asyncio.sleep(0.001, 7))
        os._exit(result)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    run(asyncio.sleep(0.001))


def test_t16_a_plain_signal_handler_ends_an_idle_wait(loop):
    """uvicorn and asyncio.Runner use signal.signal(), and count on Ctrl-C."""
    seen = []

    def handler(signum, frame):
        seen.append(signum)
        loop.call_soon_threadsafe(loop.stop)

    previous = signal.signal(signal.SIGUSR1, handler)
    sender = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1))
    sender.start()
    try:
        loop.run_forever()
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, previous)
    assert seen == [signal.SIGUSR1]
    assert signal.set_wakeup_fd(-1) == -1


async def test_t17_a_listener_that_is_said_to_be_unix(loop, listener):
    """uvicorn takes any descriptor that it inherits for a Unix socket."""
    with socket.fromfd(listener.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        server = await loop.create_server(Echo, sock=sock)
        transport, protocol = await loop.create_connection(
            Recorder, *listener.getsockname()
        )
        transport.write(b"over TCP")
        assert await protocol.received(8) == b"over TCP"
        transport.close()
        await protocol.saw("lost")
        server.close()


# -- Protocols ---------------------------------------------------------------------


async def test_t18_what_was_written_may_be_used_again(loop):
    """picows and asyncpg write views of buffers that they fill again."""
    async with connected(loop, Recorder) as (transport, _, peer):
        buffer = bytearray(b"first")
        transport.write(memoryview(buffer))
        transport.write(buffer)
        buffer[:] = b"later"
        assert drain(peer) == b"firstfirst"
        buffer.extend(b"no view is left that would forbid this")


async def test_t18_what_waits_stays_alive(loop):
    async with connected(loop, Recorder) as (transport, _, peer):
        sent = bytearray()
        while transport.get_write_buffer_size() == 0:
            transport.write(memoryview(bytearray(b"x" * 50000)))
            sent += b"x" * 50000
        transport.writelines((b"one", bytearray(b"two"), memoryview(b"three")))
        sent += b"onetwothree"
        gc.collect()
        received = bytearray()
        while len(received) < len(sent):
            received += await loop.sock_recv(peer, 1 << 20)
        assert received == sent


class Duck:
    """Has the methods of both kinds of protocol, and the class of neither."""

    def __init__(self):
        self.called = []

    def __getattr__(self, name):
        if name not in ("connection_made", "connection_lost", "eof_received"):
            raise AttributeError(name)
        return lambda *args: None

    def get_buffer(self, hint):
        self.called.append(("get_buffer", hint))
        return bytearray(10)

    def buffer_updated(self, count):
        self.called.append(("buffer_updated", count))

    def data_received(self, data):
        self.called.append(("data_received", data))


class Mixed(Duck, asyncio.BufferedProtocol):
    pass


@pytest.mark.parametrize("kind", [Duck, Mixed])
async def test_t19_the_class_tells_how_a_protocol_reads(loop, kind):
    """pymongo and picows derive from BufferedProtocol; that alone decides."""
    expected = {
        Duck: [("data_received", b"data")],
        Mixed: [("get_buffer", -1), ("buffer_updated", 4)],
    }
    async with connected(loop, kind) as (_, protocol, peer):
        peer.send(b"data")
        await until(lambda: len(protocol.called) >= len(expected[kind]))
        assert protocol.called[: len(expected[kind])] == expected[kind]


async def test_t19_the_buffer_is_of_the_size_it_likes(loop):
    async with connected(loop, BufferedRecorder) as (_, protocol, peer):
        peer.send(b"data")
        assert await protocol.received(4) == b"data"
        assert set(protocol.hints) == {-1}


def refused(loop):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    loop.run_until_complete(loop.create_connection(Recorder, "127.0.0.1", port))


def bound_twice(loop):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        loop.run_until_complete(loop.create_server(Recorder, "127.0.0.1", port))


def ended_after_reset(loop):
    async def main():
        async with connected(loop, Recorder, socket.AF_INET) as (transport, _, peer):
            reset(peer)
            transport.write_eof()

    loop.run_until_complete(main())


@pytest.mark.parametrize("scenario", [refused, bound_twice, ended_after_reset])
def test_t20_the_systems_errors_are_oserrors(loop, scenario):
    """aiohappyeyeballs, websockets and anyio had to catch RuntimeError as well."""
    kind, error, text = like_asyncio(loop, scenario)
    assert kind == "raised" and issubclass(error, OSError)
    assert "127.0.0.1" in text or scenario is ended_after_reset


# -- Names -------------------------------------------------------------------------


async def test_t21_a_zone_stays_in_the_address(loop):
    """anyio looks names up and connects to what comes back."""
    if not socket.has_ipv6:
        pytest.skip("IPv6 is off")
    name = "fe80::1%" + socket.if_nameindex()[0][1]
    found = await loop.getaddrinfo(name, 80, type=socket.SOCK_STREAM)
    assert found == socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)
    assert found[0][4][3] == socket.if_nameindex()[0][0]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_t21_no_type_is_every_type(loop, host):
    """anyio asks for type 0."""
    found = await loop.getaddrinfo(host, 80)
    assert {entry[1] for entry in found} >= {socket.SOCK_STREAM, socket.SOCK_DGRAM}


async def test_t21_a_path_is_no_name(loop, tmp_path, monkeypatch):
    """Datagrams over Unix sockets need no lookup."""
    monkeypatch.setattr(loop, "getaddrinfo", None)
    path = str(tmp_path / "socket")
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, path, family=socket.AF_UNIX
    )
    assert transport.get_extra_info("sockname") == path
    transport.close()


# -- Newer methods -----------------------------------------------------------------


@pytest.mark.skipif(PY < (3, 11), reason="asyncio has them from 3.11 on")
async def test_t22_datagrams_without_a_transport(loop):
    with contextlib.ExitStack() as stack:
        one, two = (
            stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in "12"
        )
        for sock in (one, two):
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
        assert await loop.sock_sendto(one, b"data", two.getsockname()) == 4
        assert await loop.sock_recvfrom(two, 10) == (b"data", one.getsockname())
        await loop.sock_sendto(one, b"data", two.getsockname())
        buffer = bytearray(10)
        assert await loop.sock_recvfrom_into(two, buffer) == (4, one.getsockname())


async def test_t22_files_can_be_sent(loop, tmp_path, pair):
    (tmp_path / "file").write_bytes(b"contents")
    with open(tmp_path / "file", "rb") as file:
        assert await loop.sock_sendfile(pair[0], file) == 8
    assert drain(pair[1]) == b"contents"


def test_t22_a_regular_file_is_no_pipe(loop, tmp_path):
    file = open(tmp_path / "file", "wb")
    with file, pytest.raises(ValueError, match="Pipe transport is"):
        loop.run_until_complete(loop.connect_read_pipe(asyncio.Protocol, file))


async def test_t22_slow_callbacks_have_a_limit(loop):
    assert loop.slow_callback_duration == 0.1


# -- Patched by tests --------------------------------------------------------------


def test_t23_a_clock_that_jumps(loop):
    """Tests of aiohttp and others put a clock of their own in the loop's place."""
    now = loop.time()
    fired = []
    loop.call_at(now + 3600, fired.append, 1)
    loop.call_later(7200, fired.append, 2)
    loop.time = lambda: now + 3601
    loop.call_later(0, loop.stop)
    loop.run_forever()
    assert fired == [1]
    assert loop.time() == now + 3601


async def test_t24_extra_info_can_be_patched_in_the_base_class(loop, monkeypatch):
    """Tests of websockets patch asyncio's class, for all transports there are."""
    async with connected(loop, Recorder) as (transport, _, _):
        with monkeypatch.context() as patch:
            patch.setattr(
                asyncio.BaseTransport, "get_extra_info", lambda *args: "patched"
            )
            assert transport.get_extra_info("sockname") == "patched"
        assert transport.get_extra_info("sockname") == ""
