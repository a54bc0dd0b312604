"""Nothing is left behind: whatever is done a thousand times costs no memory in the end.

What is counted sees one object, one reference or a few bytes per operation: blocks of
Python's allocator, objects that the collector knows, bytes that malloc has given out,
descriptors, and references to what outlives the operations.  A debug build of Python
counts all references.  Noise does not come back when the operations do; a leak does.
"""

import asyncio
import contextlib
import contextvars
import ctypes
import gc
import os
import signal
import socket
import ssl
import sys
import threading
import weakref

import pytest
from support import (
    PY,
    BufferedRecorder,
    Echo,
    Recorder,
    client_context,
    connected,
    descriptors,
    fill,
    free_pair,
    new_loop,
    server_context,
    serving,
    turns,
    until,
)

import asyncfast

ROUNDS = 4

# AddressSanitizer replaces the allocators that are asked for their counts.
pytestmark = [pytest.mark.nosanitizer, pytest.mark.usefixtures("small_heap")]


@pytest.fixture(params=["asyncfast"])
def loop_name(request):
    """asyncio would pass too; that takes twice the time and finds nothing here."""
    return request.param


# -- Counting ----------------------------------------------------------------------


class MallocInfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks "
            "fordblks keepcost"
        ).split()
    ]


def find_mallinfo():
    """glibc's count of what malloc has given out, or None."""
    try:
        function = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return None
    function.restype = MallocInfo
    return function


MALLINFO = find_mallinfo()
PAGE = os.sysconf("SC_PAGESIZE")


def nothing(*args):
    """A callback that outlives every handle."""


CONTEXT = contextvars.copy_context()
WATCHED = [None, nothing, CONTEXT, Recorder, socket.socket, asyncio.Future, b"", ()]


# The types of the package, which are loaded by then; each object of theirs holds a reference.
OWN_TYPES = [
    thing
    for thing in gc.get_objects()
    if isinstance(thing, type) and str(thing.__module__).startswith("asyncfast")
]
assert asyncfast.Loop in OWN_TYPES


def count_all(*lasting):
    """{what: how much of it there is now}."""
    for _ in range(3):
        gc.collect()
    numbers = {
        "blocks": sys.getallocatedblocks(),
        "objects": len(gc.get_objects()),
        "descriptors": len(descriptors()),
        "threads": threading.active_count(),
    }
    for thing in [*WATCHED, *OWN_TYPES, *lasting]:
        numbers[f"references to {thing!r:.60}"] = sys.getrefcount(thing)
    if hasattr(sys, "gettotalrefcount"):
        numbers["references"] = sys.gettotalrefcount()
    if MALLINFO:
        info = MALLINFO()
        numbers["bytes of malloc"] = info.uordblks + info.hblkhd
    if os.path.exists("/proc/self/statm"):
        with open("/proc/self/statm") as file:
            numbers["resident bytes"] = int(file.read().split()[1]) * PAGE
    return numbers


def margin(what, times):
    """Less than what one leak per operation would cost."""
    if what == "bytes of malloc":
        return times * 16 + 8192
    if what == "resident bytes":
        return max(times * 4096, 1 << 22)
    if what in ("descriptors", "threads"):
        return 2
    return times // 2


def growth(before, after, times):
    return {
        what: after[what] - number
        for what, number in before.items()
        if after[what] - number > margin(what, times)
    }


def hold_still(operate, times, *lasting):
    """Assert that `times` operations, done again and again, cost nothing at last."""
    operate(max(times // 4, 50))
    grown = {}
    before = count_all(*lasting)
    for _ in range(ROUNDS):
        operate(times)
        after = count_all(*lasting)
        grown = growth(before, after, times)
        if not grown:
            return
        before = after
    pytest.fail(f"{times} operations leak: {grown}")


# -- A loop's own things -----------------------------------------------------------


@pytest.fixture
def leak_free(loop):
    """Do an `async def operation(loop)` so and so many times on one loop."""

    def check(operation, times=1000):
        async def repeat(count):
            for _ in range(count):
                await operation(loop)

        def operate(count):
            loop.run_until_complete(repeat(count))
            loop.run_until_complete(turns(3))

        hold_still(operate, times, loop)

    return check


async def callbacks(loop):
    loop.call_soon(nothing)
    loop.call_soon(nothing, 1, object())
    loop.call_soon(nothing, context=CONTEXT)
    loop.call_soon(nothing, object(), context=contextvars.copy_context())
    loop.call_soon_threadsafe(nothing, object())
    await asyncio.sleep(0)


async def cancelled_callbacks(loop):
    for handle in (
        loop.call_soon(nothing, object()),
        loop.call_later(1000, nothing, object()),
        loop.call_at(loop.time() + 500, nothing),
    ):
        handle.cancel()
        handle.cancel()
    await asyncio.sleep(0)


async def kept_handles(loop):
    """Still held when they run, and looked at in every way."""
    cycle = []
    handles = [loop.call_soon(nothing, cycle), loop.call_later(0, nothing)]
    cycle += [repr(handles), handles]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not handles[0].cancelled()
    assert handles[1].when() < loop.time()
    assert handles[1] == handles[1] and handles[1] <= handles[1]


async def timers(loop):
    loop.call_later(0, nothing, object())
    loop.call_at(loop.time() - 1, nothing, context=CONTEXT)
    loop.call_later(-1, nothing)
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def failing_callbacks(loop):
    loop.call_soon(int, "no number")
    loop.call_later(0, int, "no number")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    loop.reports.clear()


async def futures(loop):
    future = loop.create_future()
    future.add_done_callback(nothing)
    loop.call_soon(future.set_result, object())
    await future
    loop.create_future().cancel()


async def tasks(loop):
    async def work(fail):
        await asyncio.sleep(0)
        if fail:
            raise LookupError
        return object()

    done = loop.create_task(work(False))
    failed = loop.create_task(work(True), name="fails")
    ended = loop.create_task(asyncio.sleep(1000))
    await asyncio.sleep(0)
    ended.cancel()
    await asyncio.wait([done, failed, ended])
    assert failed.exception()


async def timeouts(loop):
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(loop.create_future(), 1e-6)
    await asyncio.wait_for(asyncio.sleep(0), 1000)


async def async_generators(loop):
    async def numbers():
        yield 1
        yield 2

    async for _ in numbers():
        break


async def executor_jobs(loop):
    await loop.run_in_executor(None, nothing, object())
    with contextlib.suppress(ValueError):
        await loop.run_in_executor(None, int, "no number")
    await asyncio.to_thread(nothing, object())
    loop.run_in_executor(None, nothing, object()).cancel()
    await asyncio.gather(*(loop.run_in_executor(None, nothing, n) for n in "abc"))
    await loop.run_in_executor(loop._default_executor, nothing, object())


async def signals(loop):
    loop.add_signal_handler(signal.SIGUSR1, nothing, object())
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.sleep(0)
    loop.remove_signal_handler(signal.SIGUSR1)


async def lookups(loop):
    await loop.getaddrinfo("127.0.0.1", 80)
    await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
    await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST)
    with contextlib.suppress(socket.gaierror):
        await loop.getaddrinfo("x", 80, flags=socket.AI_NUMERICHOST)


async def refused_calls(loop):
    for call in (
        lambda: loop.add_reader(-1, nothing),
        lambda: loop.add_writer(object(), nothing),
        lambda: loop.remove_reader("no"),
        lambda: loop.call_later("soon", nothing),
        lambda: loop.call_later(None, nothing),
        lambda: loop.call_soon(),
        lambda: loop.call_soon(nothing, colour=object()),
        lambda: loop.run_until_complete(object()),
        lambda: loop.run_forever(),
        lambda: loop.close(),
        lambda: loop.sock_recv(),
        lambda: loop.set_task_factory(object()),
    ):
        with contextlib.suppress(TypeError, ValueError, RuntimeError):
            call()


SIMPLE = [callbacks, cancelled_callbacks, kept_handles, timers, failing_callbacks]
SIMPLE += [futures, tasks, timeouts, async_generators, executor_jobs, signals]
SIMPLE += [lookups, refused_calls]


DEBUG = [callbacks, cancelled_callbacks, timers, failing_callbacks, tasks]


@pytest.mark.parametrize("operation", SIMPLE, ids=lambda f: f.__name__)
def test_scheduling(leak_free, operation):
    leak_free(operation)


@pytest.mark.parametrize("operation", DEBUG, ids=lambda f: f.__name__)
def test_scheduling_in_debug_mode(loop, leak_free, operation):
    loop.set_debug(True)
    leak_free(operation, 200)


# -- Descriptors -------------------------------------------------------------------


async def watches(loop):
    left, right = free_pair()
    with left, right:
        loop.add_reader(left, nothing, object())
        loop.add_writer(left, nothing)
        loop.add_reader(left, nothing)
        await asyncio.sleep(0)
        loop.remove_writer(left)
        loop.remove_reader(left)


async def forgotten_watches(loop):
    """Closed first, removed then."""
    left, right = free_pair()
    loop.add_reader(left, nothing, object())
    fd = left.fileno()
    await asyncio.sleep(0)
    left.close()
    right.close()
    with contextlib.suppress(OSError):
        loop.remove_reader(fd)


async def sock_operations(loop):
    left, right = free_pair()
    with left, right:
        await loop.sock_sendall(right, b"hello")
        await loop.sock_recv(left, 10)
        waiting = loop.create_task(loop.sock_recv_into(left, bytearray(10)))
        await asyncio.sleep(0)
        await loop.sock_sendall(right, bytearray(b"hello"))
        await waiting
        right.close()
        with contextlib.suppress(OSError):
            await loop.sock_sendall(left, b"nobody there")


async def cancelled_sock_operations(loop):
    left, right = free_pair()
    with left, right:
        fill(left)
        tasks = [
            loop.create_task(loop.sock_recv(left, 10)),
            loop.create_task(loop.sock_sendall(left, b"too much")),
        ]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        loop.sock_recv(left, 10).close()


async def connects(loop):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        server.setblocking(False)
        client.setblocking(False)
        accepting = loop.create_task(loop.sock_accept(server))
        await loop.sock_connect(client, server.getsockname())
        (await accepting)[0].close()


async def datagrams(loop):
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        await loop.sock_sendto(sock, b"hello", sock.getsockname())
        await loop.sock_recvfrom(sock, 10)
        await loop.sock_sendto(sock, b"hello", sock.getsockname())
        await loop.sock_recvfrom_into(sock, bytearray(10))


DESCRIPTORS = [watches, forgotten_watches, sock_operations, cancelled_sock_operations]
DESCRIPTORS += [connects] + [datagrams] * (PY >= (3, 11))


@pytest.mark.parametrize("operation", DESCRIPTORS, ids=lambda f: f.__name__)
def test_descriptors(leak_free, operation):
    leak_free(operation)


# -- Transports --------------------------------------------------------------------


async def connections(loop):
    async with connected(loop, Echo) as (transport, protocol, peer):
        peer.send(b"hello")
        await protocol.received(5)
        transport.pause_reading()
        transport.resume_reading()
        transport.writelines([b"a", bytearray(b"b")])
        sock = transport.get_extra_info("socket")
        sock.getsockname()
        with contextlib.suppress(RuntimeError):
            loop.add_reader(sock, nothing)
        transport.set_protocol(Recorder())
        transport.anything = repr(transport)
        transport.close()
    await asyncio.sleep(0)


async def buffered_connections(loop):
    async with connected(loop, BufferedRecorder) as (transport, protocol, peer):
        peer.send(bytes(5000))
        await protocol.received(5000)
        peer.shutdown(socket.SHUT_WR)
        await protocol.saw("lost")


async def aborted_connections(loop):
    async with connected(loop) as (transport, _, _):
        transport.write(bytearray(1 << 20))
        transport.write(b"more")
        transport.writelines([b"more", memoryview(b"and more")])
        transport.abort()


async def drained_connections(loop):
    async with connected(loop) as (transport, protocol, peer):
        transport.write(bytearray(1 << 19))
        transport.write(b"more")
        transport.close()
        while await loop.sock_recv(peer, 1 << 18):
            pass
        await protocol.saw("lost")


async def broken_connections(loop):
    class Broken(Recorder):
        def data_received(self, data):
            raise LookupError

    async with connected(loop, Broken) as (transport, protocol, peer):
        with contextlib.suppress(TypeError):
            transport.write("text")
        with contextlib.suppress(TypeError):
            transport.writelines([b"x", 5])
        peer.send(b"x")
        await protocol.saw("lost")
        protocol.exception = None
    loop.reports.clear()


async def servers(loop):
    async with serving(loop) as (server, address):
        transport, protocol = await loop.create_connection(Recorder, *address)
        transport.write(b"hello")
        await protocol.received(5)
        transport.close()
        await protocol.saw("lost")
    await server.wait_closed()
    await turns(2)


async def refused_connections(loop):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = unused.getsockname()
    with contextlib.suppress(ConnectionRefusedError):
        await loop.create_connection(Recorder, *address)


async def streams(loop):
    async def handle(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"hello\n")
    assert await reader.read() == b"hello\n"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    await turns(3)


async def pipes(loop):
    read, write = os.pipe()
    reader, protocol = await loop.connect_read_pipe(Recorder, os.fdopen(read, "rb", 0))
    writer, _ = await loop.connect_write_pipe(
        asyncio.BaseProtocol, os.fdopen(write, "wb", 0)
    )
    writer.write(b"hello")
    await protocol.received(5)
    writer.close()
    await protocol.saw("lost")
    await turns(2)


async def endpoints(loop):
    class Datagrams(asyncio.DatagramProtocol):
        def __init__(self):
            self.got = loop.create_future()

        def datagram_received(self, data, address):
            self.got.set_result(data)

    transport, protocol = await loop.create_datagram_endpoint(
        Datagrams, local_addr=("127.0.0.1", 0)
    )
    transport.sendto(b"hello", transport.get_extra_info("sockname"))
    await protocol.got
    transport.close()
    await turns(2)


TRANSPORTS = [connections, buffered_connections, aborted_connections, servers]
TRANSPORTS += [drained_connections, broken_connections, refused_connections]
TRANSPORTS += [streams, pipes, endpoints]


@pytest.mark.parametrize("operation", TRANSPORTS, ids=lambda f: f.__name__)
def test_transports(leak_free, operation):
    leak_free(operation, 300)


# The TLS of 3.10 warns of transports that their peer has closed.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_tls(loop, leak_free, certificate):
    served, asked = server_context(certificate), client_context(certificate)

    async def operation(loop):
        async with serving(loop, ssl=served) as (_, address):
            transport, protocol = await loop.create_connection(
                Recorder, *address, ssl=asked, server_hostname="localhost"
            )
            transport.write(b"hello")
            await protocol.received(5)
            transport.close()
            await protocol.saw("lost")
        await turns(5)

    leak_free(operation, 200)


def test_refused_tls(loop, leak_free, certificate):
    served, asked = server_context(certificate), ssl.create_default_context()
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(1))

    async def operation(loop):
        async with serving(loop, ssl=served) as (_, address):
            with contextlib.suppress(ssl.SSLError):
                await loop.create_connection(
                    Recorder, *address, ssl=asked, server_hostname="localhost"
                )
        await turns(5)

    leak_free(operation, 200)


def test_sendfile(loop, leak_free, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(10_000))

    async def operation(loop):
        async with connected(loop) as (transport, _, peer):
            with open(path, "rb") as file:
                await loop.sendfile(transport, file)
                assert await loop.sock_recv(peer, 1 << 16)
                await loop.sock_sendfile(peer, file, fallback=True)

    leak_free(operation, 300)


def test_subprocesses(loop, leak_free):
    async def operation(loop):
        process = await asyncio.create_subprocess_exec("true", stdout=-1)
        await process.communicate()
        await until(lambda: process.returncode is not None)

    with contextlib.ExitStack() as stack:
        if PY < (3, 12):
            watcher = asyncio.ThreadedChildWatcher()
            asyncio.set_child_watcher(watcher)
            stack.callback(asyncio.set_child_watcher, None)
        leak_free(operation, 200)


# -- Loops -------------------------------------------------------------------------


def use(loop):
    """A loop with something of everything, some of it undone."""
    left, right = free_pair()
    loop.add_reader(left, nothing, object())
    loop.call_later(1000, nothing, object())
    transport, _ = loop.run_until_complete(
        loop.connect_accepted_socket(Recorder, right)
    )
    loop.run_until_complete(asyncio.sleep(0))
    loop.call_soon(nothing, object())
    transport.abort()
    loop.remove_reader(left)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.call_soon_threadsafe(nothing, object())
    left.close()


def test_loops(loop_name, _warm):
    def operate(count):
        for _ in range(count):
            loop = new_loop(loop_name)
            use(loop)
            loop.close()

    hold_still(operate, 300)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_forgotten_loops(loop_name, _warm):
    """Never closed: they go with what they held."""

    def operate(count):
        for _ in range(count):
            loop = new_loop(loop_name)
            loop.call_soon(nothing, loop)
            loop.call_later(1000, nothing, loop)
            loop.anything = loop

    hold_still(operate, 300)


def test_loops_with_executors_and_lookups(loop_name, _warm):
    def operate(count):
        for _ in range(count):
            loop = new_loop(loop_name)
            loop.run_until_complete(loop.run_in_executor(None, nothing))
            loop.run_until_complete(loop.getaddrinfo("localhost", 80))
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    hold_still(operate, 200)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_forgotten_loops_with_executors(loop_name, _warm):
    def operate(count):
        threads = []
        for _ in range(count):
            loop = new_loop(loop_name)
            loop.run_until_complete(loop.run_in_executor(None, nothing, loop))
            threads += loop._default_executor._threads
            loop = None
        gc.collect()
        for thread in threads:
            thread.join(20)

    hold_still(operate, 50)


def test_interrupted_runs(loop, leak_free):
    def interrupt():
        raise KeyboardInterrupt

    def operate(count):
        for _ in range(count):
            loop.call_soon(interrupt)
            loop.call_later(0, nothing, object())
            with contextlib.suppress(KeyboardInterrupt):
                loop.run_forever()

    hold_still(operate, 1000, loop)


# -- One by one --------------------------------------------------------------------


def test_everything_of_a_connection_goes(loop):
    """Transport, protocol, socket and context, by weak references."""

    class Protocol(Recorder):
        pass

    gone = []

    async def main():
        async with connected(loop, Protocol) as (transport, protocol, peer):
            gone.extend(weakref.ref(thing) for thing in (transport, protocol))
            transport.close()
        await turns(3)

    loop.run_until_complete(main())
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


def test_counting_sees_one_object(loop):
    """The counting itself: one object per operation is found, whatever it is."""
    kept = []
    with pytest.raises(pytest.fail.Exception, match="leak.*blocks"):
        hold_still(lambda count: kept.extend(object() for _ in range(count)), 200)
    with pytest.raises(pytest.fail.Exception, match="leak.*references to"):
        hold_still(lambda count: kept.extend([nothing] * count), 200)
