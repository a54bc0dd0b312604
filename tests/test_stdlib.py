"""CPython's own asyncio test classes, of the installed version, bound to asyncfast.

They come with the interpreter as the package `test.test_asyncio`.  The only changes are
the factory of the loop and what NOT_APPLICABLE and EXPECTED_FAILURES name; both are
strict, so that an entry that has become wrong fails.
"""

import functools
import importlib
import inspect
import os
import sys
import unittest

import pytest
from support import PY, new_loop

try:
    from test import support as cpython_support
    from test.test_asyncio import utils as test_utils
except ImportError as error:
    if os.environ.get("ASYNCFAST_CI") == "1":
        raise
    pytest.skip(
        f"CPython's own tests are not installed: {error}", allow_module_level=True
    )

pytestmark = [
    pytest.mark.guard(60),
    # These classes leave warnings to their own runner.
    pytest.mark.filterwarnings("default"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

PRIVATE = "looks into the stock loop: "

# "Class.test" -> why it says nothing about this loop.  These are not run.
NOT_APPLICABLE = {
    "EventLoop.test_timeout_rounding": PRIVATE
    + "replaces _run_once and _selector, and counts iterations",
    "EventLoop.test_create_server_multiple_hosts_ipv4": PRIVATE
    + "replaces asyncio.base_events.socket and _start_serving",
    "EventLoop.test_create_server_multiple_hosts_ipv6": PRIVATE
    + "replaces asyncio.base_events.socket and _start_serving",
}

# "Class.test" -> why it fails here.  These are run, and must fail.
EXPECTED_FAILURES = {}

# Name -> (module, base classes, the method that makes the loop, first version).
CLASSES = {
    "EventLoop": (
        "test_events",
        ["EventLoopTestsMixin", "SubprocessTestsMixin"],
        "create_event_loop",
        (3, 10),
    ),
    "Sock": (
        "test_sock_lowlevel",
        ["BaseSockTestsMixin"],
        "create_event_loop",
        (3, 10),
    ),
    "Sendfile": ("test_sendfile", ["SendfileTestsBase"], "create_event_loop", (3, 10)),
    "StartServer": ("test_server", ["BaseStartServer"], "new_loop", (3, 10)),
    "BufferedProtocol": (
        "test_buffered_proto",
        ["BaseTestBufferedProtocol"],
        "new_loop",
        (3, 10),
    ),
    "StartTLS": ("test_sslproto", ["BaseStartTLS"], "new_loop", (3, 10)),
    "SSL": ("test_ssl", ["TestSSL"], "new_loop", (3, 11)),
}


def load(name):
    """The bases of a class: the mixins of the installed CPython, and a TestCase."""
    module_name, mixins, _, _ = CLASSES[name]
    module = importlib.import_module(f"test.test_asyncio.{module_name}")
    bases = [getattr(module, mixin) for mixin in mixins]
    if not any(issubclass(base, unittest.TestCase) for base in bases):
        # Those that make their loop in `new_loop` do all by themselves.
        plain = CLASSES[name][2] == "new_loop"
        bases.append(unittest.TestCase if plain else test_utils.TestCase)
    return bases


def excused(method, mark):
    """The same test, marked; a copy, for the original belongs to every loop."""

    @functools.wraps(method)
    def test(self, *args, **kwargs):
        return method(self, *args, **kwargs)

    return mark(test)


def bind(name, loop_name):
    """The test class `name` on the loop `loop_name`."""

    def make_loop(self):
        return new_loop(loop_name)

    namespace = {CLASSES[name][2]: make_loop, "__module__": __name__}
    cls = type(f"{name}_{loop_name}", tuple(load(name)), namespace)
    if loop_name != "asyncio":
        for table, mark in (
            (NOT_APPLICABLE, lambda why: pytest.mark.skip(reason=why)),
            (EXPECTED_FAILURES, lambda why: pytest.mark.xfail(reason=why, strict=True)),
        ):
            for test, why in table.items():
                owner, _, method = test.partition(".")
                if owner == name and hasattr(cls, method):
                    setattr(cls, method, excused(getattr(cls, method), mark(why)))
    return cls


def setUpModule():
    cpython_support.use_resources = ["network"]
    cpython_support.verbose = 0


LOOPS = os.environ.get("ASYNCFAST_TEST_LOOPS", "asyncfast").split(",")
for _name in CLASSES:
    for _loop_name in LOOPS:
        if PY >= CLASSES[_name][3]:
            _class = bind(_name, _loop_name)
            globals()[_class.__name__] = _class
_class = None


@pytest.mark.parametrize("test", [*NOT_APPLICABLE, *EXPECTED_FAILURES])
def test_an_excuse_is_for_a_test_that_exists(test):
    owner, _, method = test.partition(".")
    assert any(hasattr(base, method) for base in load(owner)), sys.version


@pytest.mark.parametrize("name", CLASSES)
def test_each_class_has_tests(name):
    """A base that was renamed or emptied must not pass for a success."""
    if CLASSES[name][3] > PY:
        pytest.skip("new in a later version")
    tests = {
        test
        for base in load(name)
        for test, _ in inspect.getmembers(base, callable)
        if test.startswith("test_")
    }
    assert len(tests) >= 1
    minimum = {"EventLoop": 70, "Sock": 10, "Sendfile": 20, "StartTLS": 5, "SSL": 15}
    assert len(tests) >= minimum.get(name, 1)
