"""CPython's own asyncio tests, of the installed version, on any event loop.

They come with the interpreter as the package `test.test_asyncio`, and are run as they
are.  A group of them runs in a process of its own, each test under a watchdog, and every
result is a line in a file: a test that hangs or crashes has a name, and the rest runs on
in a new process.

As a program this file is that process; `run_group` starts it.
"""

import asyncio
import errno
import faulthandler
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import traceback
import unittest
from dataclasses import dataclass, field

PY = sys.version_info[:2]
TIMEOUT = float(os.environ.get("ASYNCFAST_TEST_TIMEOUT", "30"))


# -- What there is to run ----------------------------------------------------------


@dataclass(frozen=True)
class Mixins:
    """Base classes whose one method `hook` makes the loop of every test."""

    module: str
    bases: tuple
    hook: str
    since: tuple = (3, 10)
    at_least: int = 1


@dataclass(frozen=True)
class Module:
    """A module, or some of its classes, written for asyncio's default loop."""

    module: str
    since: tuple = (3, 10)
    classes: tuple = ()
    at_least: int = 1
    # Gives the classes that mock a loop one that works: called with the module.
    rebind: object = None


@dataclass(frozen=True)
class Classes:
    """The tests of asyncio's Future and Task in C, on the package's own instead."""

    module: str
    since: tuple = (3, 10)
    at_least: int = 1
    # Of those that hold the classes in C, the ones that test something else.
    others: tuple = ()


def runner_loops(module, default):
    """test_runners asks its loops whether asynchronous generators were shut down."""

    def new_loop(test):
        loop = default.make()
        loop.shutdown_ag_run = False
        shutdown = loop.shutdown_asyncgens

        async def shutdown_asyncgens():
            loop.shutdown_ag_run = True
            await shutdown()

        loop.shutdown_asyncgens = shutdown_asyncgens
        return loop

    module.BaseTest.new_loop = new_loop


def syntax_loops(module, default):
    base = module.BaseTest

    def setUp(test):
        super(base, test).setUp()
        test.loop = default.make()
        test.set_event_loop(test.loop)

    base.setUp = setUp


CREATE = "create_event_loop"
NEW = "new_loop"

ALL_GROUPS = {
    "EventLoop": Mixins(
        "test_events",
        ("EventLoopTestsMixin", "SubprocessTestsMixin"),
        CREATE,
        (3, 10),
        70,
    ),
    "Sock": Mixins("test_sock_lowlevel", ("BaseSockTestsMixin",), CREATE, (3, 10), 10),
    "Sendfile": Mixins("test_sendfile", ("SendfileTestsBase",), CREATE, (3, 10), 20),
    "StartServer": Mixins("test_server", ("BaseStartServer",), NEW),
    "BufferedProtocol": Mixins(
        "test_buffered_proto", ("BaseTestBufferedProtocol",), NEW
    ),
    "StartTLS": Mixins("test_sslproto", ("BaseStartTLS",), NEW, (3, 10), 5),
    "SSL": Mixins("test_ssl", ("TestSSL",), NEW, (3, 11), 15),
}

for _module in (
    Module("test_context"),
    Module("test_eager_task_factory", (3, 12), at_least=30),
    Module("test_free_threading", (3, 14)),
    Module("test_futures2", (3, 11)),
    Module("test_graph", (3, 14)),
    Module("test_locks", at_least=40),
    Module("test_pep492", at_least=10, rebind=syntax_loops),
    Module("test_queues", (3, 11), at_least=40),
    Module("test_runners", at_least=8, rebind=runner_loops),
    Module("test_server", (3, 12)),
    Module("test_sslproto", classes=("SslProtoHandshakeTests",)),
    Module("test_staggered", (3, 13)),
    Module("test_streams", at_least=50),
    Module("test_subprocess", at_least=50),
    Module("test_taskgroups", (3, 11), at_least=20),
    Module("test_tasks", at_least=500),
    Module("test_threads"),
    Module("test_timeouts", (3, 11), at_least=15),
    Module("test_unix_events", classes=("TestFunctional", "TestFork")),
    Module("test_waitfor", at_least=10),
):
    ALL_GROUPS[_module.module] = _module

# Those of Future and Task, which run on stock loops as well.
for _classes in (
    Classes("test_eager_task_factory", (3, 12), at_least=15),
    Classes("test_futures", at_least=100),
    Classes("test_futures2", at_least=1),
    Classes(
        "test_tasks",
        at_least=600,
        others=("CIntrospectionTests", "CCurrentLoopTests"),
    ),
):
    ALL_GROUPS[f"own {_classes.module}"] = _classes

GROUPS = {name: group for name, group in ALL_GROUPS.items() if PY >= group.since}
OWN_GROUPS = [name for name in GROUPS if isinstance(GROUPS[name], Classes)]
LOOP_GROUPS = [name for name in GROUPS if name not in OWN_GROUPS]


# -- The process of a group --------------------------------------------------------


def loop_factory(loop_name):
    if loop_name == "asyncio":
        return asyncio.SelectorEventLoop
    return importlib.import_module(loop_name).new_event_loop


class DefaultLoop:
    """Makes one kind of loop asyncio's default, and counts how often it was used."""

    def __init__(self, loop_name):
        self.made = 0
        self.name = loop_name
        self.factory = loop_factory(loop_name)
        self.policy = self._policy_type(loop_name)

    def _policy_type(self, loop_name):
        # uvloop's own policy lacks the child watchers that the tests set.
        if loop_name == "asyncfast":
            base = importlib.import_module("asyncfast").EventLoopPolicy
        else:
            base = type(get_policy())

        def new_event_loop(policy):
            return self.make()

        return type("Policy", (base,), {"new_event_loop": new_event_loop})

    def make(self, *_):
        self.made += 1
        loop = self.factory()
        if not hasattr(loop, "_default_executor"):
            # Their teardown reads it, which no test of uvloop could survive.
            loop._default_executor = None
        return loop

    def install(self):
        set_policy(self.policy())


def get_policy():
    # The names without underscore warn from CPython 3.14 on.
    get = getattr(asyncio.events, "_get_event_loop_policy", None)
    return (get or asyncio.get_event_loop_policy)()


def set_policy(policy):
    put = getattr(asyncio.events, "_set_event_loop_policy", None)
    return (put or asyncio.set_event_loop_policy)(policy)


def bound_class(name, group, default):
    """The mixins of a group and a TestCase, on the loop under test."""
    from test.test_asyncio import utils

    module = importlib.import_module(f"test.test_asyncio.{group.module}")
    bases = [getattr(module, base) for base in group.bases]
    if not any(issubclass(base, unittest.TestCase) for base in bases):
        # Those that make their loop in `new_loop` do all by themselves.
        bases.append(unittest.TestCase if group.hook == NEW else utils.TestCase)
    hook = {group.hook: default.make, "__module__": module.__name__}
    return type(name, tuple(bases), hook)


def names_its_loop(cls):
    """It is a stock class then; what it has in common is among the Mixins."""
    return any(hasattr(cls, hook) for hook in (CREATE, NEW))


def module_classes(group, default):
    module = importlib.import_module(f"test.test_asyncio.{group.module}")
    if group.rebind:
        group.rebind(module, default)
    found = [
        cls
        for cls in vars(module).values()
        if isinstance(cls, type) and issubclass(cls, unittest.TestCase)
        if cls.__module__ == module.__name__
        if group.rebind or not names_its_loop(cls)
    ]
    for cls in found:
        if getattr(cls, "loop_factory", None) is not None:
            cls.loop_factory = staticmethod(default.make)
    if group.classes:
        return [cls for cls in found if cls.__name__ in group.classes]
    return found


def default_test_loops(default):
    """Where a test doesn't tell its loop the time, on which asyncio's own loop for
    tests is made, it gets a real one."""
    from test.test_asyncio import utils

    fake = utils.TestLoop

    def new_test_loop(test, gen=None):
        loop = fake(gen) if gen is not None else default.make()
        test.set_event_loop(loop)
        return loop

    utils.TestCase.new_test_loop = new_test_loop


def own_classes(group, default):
    """The tests of the classes in C, which are then those of the package."""
    own = importlib.import_module("asyncfast")
    asyncio.futures._CFuture, asyncio.tasks._CTask = own.Future, own.Task
    if default.name != "asyncio":
        default_test_loops(default)
    module = importlib.import_module(f"test.test_asyncio.{group.module}")
    return [
        cls
        for name, cls in vars(module).items()
        if isinstance(cls, type) and issubclass(cls, unittest.TestCase)
        if cls.__module__ == module.__name__
        if re.match("C[A-Z]|.*(CFuture|CTask)", name) and name not in group.others
    ]


def load(name, default):
    """All tests of a group, in an order that is the same every time."""
    group = GROUPS[name]
    loader = unittest.TestLoader()
    if isinstance(group, Classes):
        classes = own_classes(group, default)
    elif isinstance(group, Mixins):
        classes = [bound_class(name, group, default)]
    else:
        classes = module_classes(group, default)
    return [test for cls in classes for test in loader.loadTestsFromTestCase(cls)]


def name_of(test):
    if not hasattr(test, "_testMethodName"):
        return test.id()  # of a setUpClass or setUpModule
    return f"{type(test).__qualname__}.{test._testMethodName}"


class Reporter(unittest.TestResult):
    """Writes one line when a test begins and one when it ends."""

    def __init__(self, path, default, timeout):
        super().__init__()
        self.file = open(path, "a")
        self.default = default
        self.timeout = timeout
        self.begun = None

    def write(self, **line):
        print(json.dumps(line), file=self.file, flush=True)

    def startTest(self, test):
        super().startTest(test)
        self.default.install()
        self.begun = name_of(test)
        self.outcome, self.detail = "passed", ""
        self.write(begun=self.begun)
        faulthandler.dump_traceback_later(self.timeout, exit=True, file=sys.__stderr__)

    def stopTest(self, test):
        faulthandler.cancel_dump_traceback_later()
        super().stopTest(test)
        self.write(test=self.begun, outcome=self.outcome, detail=self.detail)
        self.begun = None
        # What the next test makes before it begins is on the same loop.
        self.default.install()

    def note(self, test, outcome, detail):
        if self.begun is None:
            self.write(test=name_of(test), outcome=outcome, detail=detail)
        elif self.outcome != "failed":
            self.outcome, self.detail = outcome, detail

    def addFailure(self, test, error):
        self.note(test, "failed", "".join(traceback.format_exception(*error)))

    addError = addFailure

    def addSubTest(self, test, subtest, error):
        if error is not None:
            self.addFailure(test, error)

    def addSkip(self, test, reason):
        self.note(test, "skipped", reason)

    def addUnexpectedSuccess(self, test):
        self.note(test, "failed", "passed, where CPython expects a failure")


def run_tests(order):
    from test import support

    support.use_resources = ["network"]
    support.verbose = 0
    default = DefaultLoop(order["loop"])
    default.install()
    reporter = Reporter(order["path"], default, order["timeout"])
    tests = load(order["group"], default)
    if order["only"] is not None:
        tests = [test for test in tests if name_of(test) in order["only"]]
    unittest.TestSuite(tests[order["start"] :]).run(reporter)
    reporter.write(loops=default.made)


def main():
    # A job in the background of a shell ignores Ctrl-C, and what it starts does.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = 1
    try:
        run_tests(json.loads(sys.argv[1]))
        code = 0
    except unittest.SkipTest as skip:
        print(f"skipped as a whole: {skip}", file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        # Without waiting for what a failed test may have left running.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


# -- Who starts it -----------------------------------------------------------------


class SuiteError(Exception):
    """The tests of a group could not be run."""


@dataclass
class Results:
    """What became of the tests of a group on a loop."""

    outcomes: dict = field(default_factory=dict)
    details: dict = field(default_factory=dict)
    loops: int = 0

    def add(self, test, outcome, detail):
        self.outcomes[test] = outcome
        self.details[test] = detail

    def count(self, outcome):
        return list(self.outcomes.values()).count(outcome)

    @property
    def unsuccessful(self):
        return [t for t, o in self.outcomes.items() if o not in ("passed", "skipped")]


def run_group(name, loop_name, only=None, timeout=TIMEOUT):
    """Run a group to its end, with a new process after each hang or crash."""
    results = Results()
    begun = 0
    while True:
        with tempfile.TemporaryDirectory() as folder:
            order = {
                "group": name,
                "loop": loop_name,
                "path": os.path.join(folder, "results"),
                "timeout": timeout,
                "only": only,
                "start": begun,
            }
            code, words = _run_process(order, folder)
            count, unfinished, done = _read(order["path"], results)
        begun += count
        if done:
            return results
        if unfinished is None:
            raise SuiteError(f"{name} on {loop_name}: ended with {code}\n{words}")
        hung = "Timeout (" in words
        results.add(unfinished, "hung" if hung else "crashed", f"{code}\n{words}")


def _start(order, folder, words, tries=3):
    """Start a process that runs what is ordered.

    Some virtual machines fail an execve with EFAULT once in ten thousand, which
    says nothing of the loop: no test has begun yet.
    """
    try:
        return subprocess.Popen(
            [sys.executable, __file__, json.dumps(order)],
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            cwd=folder,
            start_new_session=True,
        )
    except OSError as error:
        if error.errno != errno.EFAULT or tries == 1:
            raise
        return _start(order, folder, words, tries - 1)


def _run_process(order, folder):
    """(exit code, last words) of a process that runs what is ordered."""
    with open(os.path.join(folder, "words"), "w+b") as words:
        process = _start(order, folder, words)
        try:
            code = process.wait()
        finally:
            if process.returncode != 0:
                _end_session(process)
        words.seek(0)
        return code, words.read().decode(errors="replace")[-6000:]


def _end_session(process):
    """End what an interrupted test left running, and itself if it still does."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _read(path, results):
    """(tests begun, the one that did not end, whether all were run)."""
    begun, unfinished, done = 0, None, False
    if not os.path.exists(path):
        return 0, None, False
    with open(path) as lines:
        for line in map(json.loads, lines):
            if "begun" in line:
                begun, unfinished = begun + 1, line["begun"]
            elif "test" in line:
                results.add(**line)
                unfinished = None
            else:
                results.loops += line["loops"]
                done = True
    return begun, unfinished, done


if __name__ == "__main__":
    main()
