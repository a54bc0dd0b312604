"""What the test modules share: loops, protocols that record, comparing with asyncio."""

import asyncio
import contextlib
import gc
import importlib
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import time

import pytest

PY = sys.version_info[:2]
LOOPS = os.environ.get("ASYNCFAST_TEST_LOOPS", "asyncio,asyncfast").split(",")


def missing(what):
    """Skip for want of a program or package; in CI, where all must be there, fail."""
    if os.environ.get("ASYNCFAST_CI") == "1":
        pytest.fail(f"missing in CI: {what}", pytrace=False)
    pytest.skip(f"needs {what}")


def use(module):
    """Import it; without it, skip."""
    try:
        return importlib.import_module(module)
    except ImportError:
        missing(f"the package {module.split('.')[0]}")


def aiohttp_session(**kwargs):
    """A client session; `kwargs` go to its connector."""
    aiohttp = use("aiohttp")
    # Not by aiodns, where that is installed: its threads outlive the session.
    resolver = aiohttp.ThreadedResolver()
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=resolver, **kwargs)
    )


# -- Loops -------------------------------------------------------------------------


def new_loop(name):
    if name == "asyncio":
        return asyncio.SelectorEventLoop()
    import asyncfast

    return asyncfast.new_event_loop()


def reporting_loop(name):
    """A new loop that keeps what it reports in `reports`."""
    loop = new_loop(name)
    loop.reports = Reports()
    loop.set_exception_handler(loop.reports)
    return loop


def finish(loop):
    """End what a test left, as asyncio.run() does, and close the loop."""
    if loop.is_closed():
        return
    tasks = [t for t in asyncio.all_tasks(loop) if not t.done()]
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    if not getattr(loop, "_executor_shutdown_called", False):
        loop.run_until_complete(loop.shutdown_default_executor())
    # A closed transport gives up its socket in the iteration after.
    for _ in range(3):
        loop.call_soon(loop.stop)
        loop.run_forever()
    loop.close()


class Reports(list):
    """An exception handler that keeps the contexts it is given."""

    def __call__(self, loop, context):
        self.append(context)

    def take(self):
        """All contexts so far, which are thereby expected."""
        taken = self[:]
        self.clear()
        return taken

    def take_one(self):
        taken = self.take()
        assert len(taken) == 1, taken
        return taken[0]


def once(loop):
    """Run exactly one iteration: asyncio's `stop(); run_forever()`."""
    loop.stop()
    loop.run_forever()


async def turns(count=1):
    """Let the loop go round a few times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition):
    """Go round until a condition holds; the guard ends it if it never does."""
    while not condition():
        await asyncio.sleep(0.001)


def busy(seconds):
    """Keep the loop from going on."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


# -- Comparing with asyncio --------------------------------------------------------


def normalise(text):
    """Drop from a message what differs from run to run, or by class name."""
    text = re.sub(r"0x[0-9a-fA-F]+", "0x", text)
    # asyncio's text for the same mistake, before and after a release of 3.14.
    text = text.replace("bytes, bytearray, or memoryview object", "bytes-like object")
    text = re.sub(r"when=[\d.e+-]+", "when=T", text)
    text = re.sub(r"fd=\d+|descriptor \d+", "fd=N", text)
    text = re.sub(r"<[\w.]*(Transport|Server|Loop)\b", r"<\1", text)
    return re.sub(r"(127\.0\.0\.1'?, )\d+", r"\1PORT", text)


def outcome(call, *args):
    """What a call did, in a form that two loops can be compared by."""
    try:
        result = call(*args)
    except BaseException as error:  # KeyboardInterrupt is an outcome too
        if type(error).__name__ == "Hang":
            raise
        return "raised", type(error), normalise(str(error))
    if not isinstance(result, (type(None), bool, int, str, bytes, list, tuple)):
        result = type(result).__name__
    return "returned", result


def on_asyncio(scenario):
    """The outcome of `scenario(loop)` on a stock loop of its own."""
    loop = reporting_loop("asyncio")
    try:
        return outcome(scenario, loop)
    finally:
        finish(loop)


def like_asyncio(loop, scenario):
    """Assert that `scenario(loop)` does what it does on asyncio; return that."""
    expected = on_asyncio(scenario)
    got = outcome(scenario, loop)
    assert got == expected
    return got


def message(info):
    """The text of what pytest.raises caught."""
    return str(info.value)


def text_of(error):
    """An exception, or None, in a form that two loops can be compared by."""
    return error and (type(error), normalise(str(error)))


def told(loop):
    """The reports so far; callbacks are named differently by each loop."""
    return [
        (report["message"].split(" callback ")[0], text_of(report.get("exception")))
        for report in loop.reports.take()
    ]


# -- Descriptors -------------------------------------------------------------------


def settled_descriptors(is_settled, loop_name="asyncfast"):
    """descriptors() as soon as they are so, or after two seconds."""
    for _ in range(200):
        there = descriptors()
        if is_settled(there):
            break
        # A lookup that outlives its loop is given up when another closes.
        new_loop(loop_name).close()
        gc.collect()
        time.sleep(0.01)
    return there


def descriptors():
    """{descriptor: what it is} of this process."""
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    found = {}
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):
            os.fstat(int(name))
            found[int(name)] = os.readlink(f"{folder}/{name}")
    return found


def free_pair(family=socket.AF_UNIX):
    """Two connected non-blocking stream sockets, Unix or TCP."""
    if family == socket.AF_UNIX:
        left, right = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as server:
            left = socket.create_connection(server.getsockname())
            right, _ = server.accept()
    left.setblocking(False)
    right.setblocking(False)
    return left, right


def fill(sock):
    """Write to a non-blocking socket until its peer's buffer is full."""
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += sock.send(bytes(65536))
    return sent


def drain(sock):
    """Read all that is there from a non-blocking socket."""
    data = bytearray()
    with contextlib.suppress(BlockingIOError):
        while chunk := sock.recv(1 << 18):
            data += chunk
    return bytes(data)


def reset(sock):
    """Close a TCP socket so that its peer sees a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def small_buffers(sock, size=4096):
    """Make a socket buffer little, so that few bytes are enough to fill it."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    return sock


# -- Protocols ---------------------------------------------------------------------


class Recorder(asyncio.Protocol):
    """Records every callback in `events`, and lets a test wait for them."""

    keep_open = False

    def __init__(self):
        self.events = []
        self.data = bytearray()
        self.transport = None
        self.exception = None
        self._waiters = []

    def _saw(self, event):
        self.events.append(event)
        for condition, waiter in self._waiters[:]:
            if condition() and not waiter.done():
                waiter.set_result(None)

    async def until(self, condition):
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append((condition, waiter))
        try:
            if not condition():
                await waiter
        finally:
            self._waiters.remove((condition, waiter))

    async def saw(self, event):
        await self.until(lambda: event in self.events)

    async def received(self, count):
        await self.until(lambda: len(self.data) >= count)
        return bytes(self.data)

    def connection_made(self, transport):
        self.transport = transport
        self._saw("made")

    def data_received(self, data):
        self.data += data
        self._saw("data")

    def eof_received(self):
        self._saw("eof")
        return self.keep_open

    def pause_writing(self):
        self._saw("pause")

    def resume_writing(self):
        self._saw("resume")

    def connection_lost(self, exception):
        self.exception = exception
        self._saw("lost")


class HalfOpen(Recorder):
    """Keeps writing after the peer has ended."""

    keep_open = True


class BufferedRecorder(asyncio.BufferedProtocol):
    """A Recorder that is read into a buffer of its own."""

    _saw = Recorder._saw
    until = Recorder.until
    saw = Recorder.saw
    received = Recorder.received
    connection_made = Recorder.connection_made
    eof_received = Recorder.eof_received
    pause_writing = Recorder.pause_writing
    resume_writing = Recorder.resume_writing
    connection_lost = Recorder.connection_lost
    keep_open = False

    def __init__(self, size=1024):
        Recorder.__init__(self)
        self.buffer = bytearray(size)
        self.hints = []

    def get_buffer(self, hint):
        self.hints.append(hint)
        return self.buffer

    def buffer_updated(self, count):
        self.data += self.buffer[:count]
        self._saw("data")


class Echo(Recorder):
    """Sends back what it gets."""

    def data_received(self, data):
        super().data_received(data)
        self.transport.write(data)


@contextlib.asynccontextmanager
async def connected(loop, factory=Recorder, family=socket.AF_UNIX, **kwargs):
    """(transport, protocol, peer): a transport, and the raw socket at its other end."""
    sock, peer = free_pair(family)
    with peer:
        transport, protocol = await loop.connect_accepted_socket(
            factory, sock, **kwargs
        )
        try:
            yield transport, protocol, peer
        finally:
            if sock.fileno() != -1:
                transport.abort()
            await until(lambda: sock.fileno() == -1)


@contextlib.asynccontextmanager
async def serving(loop, factory=Echo, **kwargs):
    """(server, address) of a TCP server on the loopback interface."""
    server = await loop.create_server(factory, "127.0.0.1", 0, **kwargs)
    try:
        yield server, server.sockets[0].getsockname()
    finally:
        server.close()


async def still_serves(loop):
    """Fails if a fresh server of this loop doesn't echo."""
    async with serving(loop) as (_, address):
        transport, protocol = await loop.create_connection(Recorder, *address)
        transport.write(b"works")
        assert await protocol.received(5) == b"works"
        transport.close()
        await protocol.saw("lost")


# -- TLS ---------------------------------------------------------------------------

# How to make asyncfast do TLS otherwise than it chose to.
TLS_WAYS = {"by_ssl_module": ("direct", False), "by_asyncio": ("in_c", False)}

# A mark for tests that are to run in each of these ways too.
EVERY_TLS = pytest.mark.parametrize(
    "loop_name",
    [*LOOPS, *(f"asyncfast-{way}" for way in TLS_WAYS if "asyncfast" in LOOPS)],
    indirect=True,
)

# Marks for tests of TLS: that of 3.10 warns of transports that their peer has closed.
QUIET_TLS = [
    pytest.mark.filterwarnings(
        "ignore:unclosed transport <asyncio.ssl:ResourceWarning"
    ),
    pytest.mark.usefixtures("collected"),
]


def tls_files(folder):
    """Make (certificate, key) files for localhost with the openssl program."""
    if not shutil.which("openssl"):
        missing("the openssl program")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    subprocess.run(
        [*command.split(), "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        + ["-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
    )
    return str(cert), str(key)


def server_context(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


def client_context(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificate[0])
    return context


def ends(kind=Echo):
    """(factory, the protocols it has made)."""
    made = []

    def factory():
        made.append(kind())
        return made[-1]

    return factory, made


@contextlib.asynccontextmanager
async def connected_tls(loop, served, asked, server=Echo, client=Recorder, **kwargs):
    """(client's transport, its protocol, the server's protocol)."""
    factory, made = ends(server)
    async with serving(loop, factory, ssl=served) as (_, address):
        kwargs.setdefault("server_hostname", "localhost")
        transport, protocol = await loop.create_connection(
            client, *address, ssl=asked, **kwargs
        )
        await until(lambda: made and "made" in made[0].events)
        try:
            yield transport, protocol, made[0]
        finally:
            transport.abort()
            made[0].transport.abort()
            await until(lambda: "lost" in made[0].events)
            await turns(3)


# -- Other interpreters ------------------------------------------------------------


def python(*args, check=True, timeout=60, **kwargs):
    """Run this interpreter; return the finished process with its texts."""
    env = dict(os.environ, PYTHONPATH=os.path.dirname(__file__))
    env.update(kwargs.pop("env", {}))
    done = subprocess.run(
        [sys.executable, *args],
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout,
        **kwargs,
    )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done
