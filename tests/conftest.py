"""Fixtures: one `loop` over asyncio and asyncfast, and a guard against hangs.

Every test that asks for `loop` runs twice, once on each loop; asyncio is the oracle, so
a test that fails there is a wrong test.  `ASYNCFAST_TEST_LOOPS=asyncio` (or `asyncfast`)
runs one half.  An `async def` test runs on `loop`.
"""

import asyncio
import faulthandler
import gc
import inspect
import os
import signal
import socket
import sys
import threading
import traceback

import pytest

pytest.register_assert_rewrite("support", "server_process")
from support import (  # noqa: E402
    LOOPS,
    TLS_WAYS,
    Reports,
    client_context,
    descriptors,
    finish,
    free_pair,
    new_loop,
    server_context,
    still_serves,
    tls_files,
)

GUARD = float(os.environ.get("ASYNCFAST_TEST_TIMEOUT", "30"))


# -- The guard: a hang is a failure with a name ------------------------------------


class Hang(KeyboardInterrupt):
    """The test took too long.  A KeyboardInterrupt, so that no loop swallows it."""


# xdist gives modules out in this order: a long one at the end leaves a core idle.
LONG = [
    *("test_leaks", "test_stdlib", "test_faults", "test_tls_handshake"),
    *("test_ecosystem", "test_examples", "test_every_callback", "test_task_property"),
    *("test_state_machine", "test_load", "test_tls_records", "test_testing"),
]


def pytest_collection_modifyitems(items):
    order = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONG)))


def pytest_configure(config):
    config.addinivalue_line("markers", "guard(seconds): the test may take this long")
    config.addinivalue_line(
        "filterwarnings", "error::pytest.PytestUnraisableExceptionWarning"
    )
    config.addinivalue_line("filterwarnings", "error::ResourceWarning")
    # Capturing replaces descriptor 2; the last words must reach the real one.
    config.stash[STDERR] = os.fdopen(os.dup(sys.__stderr__.fileno()), "w")


STDERR = pytest.StashKey()


def _guarded(item):
    """Give one phase of a test GUARD seconds, then raise in it; then kill it.

    The alarm reaches a loop that still answers signals.  Where it does not (stuck in C
    with the GIL), faulthandler's thread prints every stack and ends the process.
    """
    marker = item.get_closest_marker("guard")
    seconds = marker.args[0] if marker else GUARD

    def expire(signum, frame):
        stack = "".join(traceback.format_stack(frame, 12))
        raise Hang(f"{item.nodeid} hung for {seconds:g} s, at:\n{stack}")

    stderr = item.config.stash[STDERR]
    previous = signal.signal(signal.SIGALRM, expire)
    faulthandler.dump_traceback_later(seconds + 10, exit=True, file=stderr)
    # It fires again, for a handler that ate the first.
    signal.setitimer(signal.ITIMER_REAL, seconds, 2)
    try:
        return (yield)
    except Hang as hang:
        raise pytest.fail.Exception(str(hang), pytrace=False) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    return (yield from _guarded(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    return (yield from _guarded(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item):
    return (yield from _guarded(item))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run an `async def` test on its `loop` fixture."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    loop = pyfuncitem.funcargs["loop"]
    loop.run_until_complete(pyfuncitem.obj(**arguments))
    return True


# -- The loop ----------------------------------------------------------------------


@pytest.fixture(scope="session")
def _warm():
    """Descriptors that are made once per process must not look like leaks."""
    for name in LOOPS:
        try:
            loop = new_loop(name)
        except ImportError:
            continue
        loop.run_until_complete(loop.getaddrinfo("localhost", 1))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@pytest.fixture(params=LOOPS)
def loop_name(request):
    """`asyncio` or `asyncfast`; with EVERY_TLS the latter in three ways."""
    name, _, way = request.param.partition("-")
    with pytest.MonkeyPatch.context() as patch:
        if way:
            from asyncfast import tls

            patch.setattr(tls, *TLS_WAYS[way])
        yield name


@pytest.fixture
def new(loop_name, _warm):
    """Makes a loop of the kind under test; the caller closes it."""
    return lambda: new_loop(loop_name)


@pytest.fixture
def loop(new):
    """A loop of each kind; fails the test if it reports or leaks something."""
    threads = threading.active_count()
    before = descriptors()
    loop = new()
    loop.reports = Reports()
    loop.set_exception_handler(loop.reports)
    yield loop
    finish(loop)
    left = list(loop.reports)
    del loop
    after = descriptors()
    if len(after) > len(before):
        gc.collect()
        after = descriptors()
    leaked = {fd: after[fd] for fd in after.keys() - before.keys()}
    assert not left, f"reported to the exception handler: {left}"
    assert len(after) <= len(before), f"leaked descriptors: {leaked}"
    assert threading.active_count() <= threads, threading.enumerate()


@pytest.fixture
def reports(loop):
    """What the loop reported; a test takes what it expects, the rest is a failure."""
    return loop.reports


@pytest.fixture
def run(loop):
    return loop.run_until_complete


@pytest.fixture(scope="module")
def small_heap():
    """For a module that collects garbage again and again: only its own."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def serves_afterwards(loop):
    """Whatever a test did, the loop is none the worse."""
    yield
    if not loop.is_closed():
        loop.run_until_complete(still_serves(loop))


@pytest.fixture
def threads_end(request):
    """A thread that waited for a child ends a little later than the child."""
    if "loop" in request.fixturenames:
        request.getfixturevalue("loop")
    yield
    for thread in threading.enumerate():
        if "waitpid-" in thread.name:
            thread.join(10)


@pytest.fixture(autouse=True)
def _no_loop_left():
    """No test leaves a running loop, a current loop or a wake-up descriptor behind."""
    yield
    signal.set_wakeup_fd(-1)
    assert asyncio._get_running_loop() is None
    if sys.version_info < (3, 14):
        asyncio.set_event_loop(None)


# -- Things with a descriptor ------------------------------------------------------


@pytest.fixture
def pair():
    """Two connected non-blocking Unix stream sockets."""
    left, right = free_pair()
    with left, right:
        yield left, right


@pytest.fixture
def listener():
    """A non-blocking listening TCP socket."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield sock


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """(certificate, key) files for localhost and 127.0.0.1."""
    return tls_files(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def served(certificate):
    """The TLS of a server that has the certificate."""
    return server_context(certificate)


@pytest.fixture
def asked(certificate):
    """The TLS of a client that trusts it."""
    return client_context(certificate)


@pytest.fixture
def collected():
    """What a test leaves to the collector goes in this test's time."""
    yield
    gc.collect()
