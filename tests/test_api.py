"""api/ and asyncfast/: the ways in: run, new_event_loop, install, python -m asyncfast."""

import asyncio
import inspect
import re
import signal
import subprocess
import sys
import textwrap

import pytest
from support import PY, outcome, python


@pytest.fixture
def asyncfast():
    return pytest.importorskip("asyncfast")


async def what_runs():
    return type(asyncio.get_running_loop()).__module__.split(".")[0]


# -- run ---------------------------------------------------------------------------


def test_run(asyncfast):
    assert asyncfast.run(what_runs()) == "asyncfast"
    assert asyncio._get_running_loop() is None


def test_run_raises_what_main_raises(asyncfast):
    async def main():
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        asyncfast.run(main())


@pytest.mark.parametrize("debug", [True, False])
def test_run_with_debug(asyncfast, debug):
    async def main():
        return asyncio.get_running_loop().get_debug()

    assert asyncfast.run(main(), debug=debug) is debug


def test_run_with_another_loop_factory(asyncfast):
    made = []

    class Mine(asyncfast.Loop):
        def __init__(self):
            super().__init__()
            made.append(self)

    async def main():
        return asyncio.get_running_loop()

    assert asyncfast.run(main(), loop_factory=Mine) is made[0]
    assert made[0].is_closed()


def test_run_cancels_what_is_left(asyncfast):
    ended = []

    async def background():
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append("task")

    async def numbers():
        try:
            yield 1
        finally:
            ended.append("generator")

    async def main():
        main.task = asyncio.ensure_future(background())
        main.generator = numbers()
        await main.generator.__anext__()
        await asyncio.sleep(0)

    asyncfast.run(main())
    assert ended == ["task", "generator"]


def test_run_waits_for_the_executor(asyncfast):
    done = []

    async def main():
        loop = asyncio.get_running_loop()
        loop.run_in_executor(None, lambda: done.append(1))

    asyncfast.run(main())
    assert done == [1]


@pytest.mark.parametrize("thing", [None, 1, what_runs])
def test_run_refuses_what_asyncio_refuses(asyncfast, thing):
    assert outcome(asyncfast.run, thing) == outcome(asyncio.run, thing)


def test_run_inside_a_running_loop(asyncfast):
    async def main():
        coro = what_runs()
        try:
            with pytest.raises(RuntimeError, match="from a running event loop"):
                asyncfast.run(coro)
        finally:
            coro.close()

    asyncfast.run(main())


@pytest.mark.skipif(PY < (3, 11), reason="Runner is new in 3.11")
def test_asyncios_runner(asyncfast):
    with asyncio.Runner(loop_factory=asyncfast.new_event_loop) as runner:
        assert runner.run(what_runs()) == "asyncfast"
        assert runner.run(what_runs()) == "asyncfast"


@pytest.mark.skipif(PY < (3, 12), reason="loop_factory= is new in 3.12")
def test_asyncios_run(asyncfast):
    factory = asyncfast.new_event_loop
    assert asyncio.run(what_runs(), loop_factory=factory) == "asyncfast"


# -- The names ---------------------------------------------------------------------


def test_new_event_loop(asyncfast):
    loop = asyncfast.new_event_loop()
    assert type(loop) is asyncfast.Loop
    assert isinstance(loop, asyncio.AbstractEventLoop)
    loop.close()


def test_versions(asyncfast):
    assert re.fullmatch(r"\d+\.\d+\.\d+", asyncfast.libuv_version())
    assert re.match(r"\d+\.\d+\.\d+", asyncfast.__version__)


def test_everything_named_is_there(asyncfast):
    for name in asyncfast.__all__:
        assert getattr(asyncfast, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = asyncfast.nothing


def test_signatures_can_be_read(asyncfast):
    """Editors and documentation show them."""
    broken = []
    for name in dir(asyncfast.Loop):
        method = getattr(asyncfast.Loop, name)
        if not name.startswith("_") and callable(method):
            try:
                inspect.signature(method)
            except ValueError:
                broken.append(name)
    assert broken == []


def parameters(method):
    """The names of the parameters that can be given by name."""
    found = inspect.signature(method).parameters.values()
    return {p.name for p in found if p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD)}


def test_methods_take_the_keywords_of_asyncios(asyncfast):
    missing = {}
    for name in dir(asyncio.SelectorEventLoop):
        method = getattr(asyncio.SelectorEventLoop, name)
        if name.startswith("_") or not callable(method):
            continue
        ours = getattr(asyncfast.Loop, name, None)
        lacking = parameters(method) - parameters(ours) if ours else name
        if lacking:
            missing[name] = lacking
    assert missing == {}


def test_a_loop_can_be_subclassed_and_extended(asyncfast):
    class Mine(asyncfast.Loop):
        futures = callbacks = 0

        def create_future(self):
            self.futures += 1
            return super().create_future()

        def call_soon(self, callback, *args, context=None):
            self.callbacks += 1
            return super().call_soon(callback, *args, context=context)

    loop = Mine()
    assert loop.run_until_complete(asyncio.sleep(0.001, 5)) == 5
    loop.run_until_complete(loop.getaddrinfo("localhost", 1))
    assert loop.futures == 2
    loop.call_soon(int)
    assert loop.callbacks >= 1
    loop.close()


def test_a_loop_is_made_by_its_own_type(asyncfast):
    with pytest.raises(TypeError):
        object.__new__(asyncfast.Loop)


def test_a_subclass_that_forgets_init(asyncfast):
    """Nothing works then, and nothing crashes."""
    code = """
        import asyncfast

        class Forgetful(asyncfast.Loop):
            def __init__(self):
                pass

        loop = Forgetful()
        arguments = {"call_soon": (int,), "call_later": (1, int), "call_at": (1, int),
                     "add_reader": (0, int), "remove_reader": (0,),
                     "call_soon_threadsafe": (int,), "set_debug": (True,)}
        for name in ("call_soon", "call_later", "call_at", "call_soon_threadsafe",
                     "add_reader", "remove_reader", "stop", "time", "run_forever",
                     "set_debug", "is_running", "is_closed", "__repr__", "close"):
            try:
                getattr(loop, name)(*arguments.get(name, ()))
            except (AttributeError, RuntimeError, OSError):
                pass
        print("alive")
    """
    done = python("-W", "ignore", "-c", textwrap.dedent(code))
    assert done.stdout == "alive\n", done.stderr


@pytest.mark.skipif(PY >= (3, 16), reason="policies are gone")
class TestPolicy:
    def test_install(self, asyncfast):
        code = """
            import asyncio, asyncfast
            asyncfast.install()

            async def main():
                return type(asyncio.get_running_loop()) is asyncfast.Loop

            print(asyncio.run(main()), isinstance(
                asyncio.new_event_loop(), asyncfast.Loop))
        """
        done = python("-W", "ignore", "-c", textwrap.dedent(code))
        assert done.stdout == "True True\n"

    @pytest.mark.skipif(PY >= (3, 14), reason="get_event_loop makes none any more")
    def test_get_event_loop_makes_one_in_the_main_thread(self, asyncfast):
        code = """
            import asyncio, asyncfast
            asyncio.set_event_loop_policy(asyncfast.EventLoopPolicy())
            loop = asyncio.get_event_loop()
            print(type(loop) is asyncfast.Loop, asyncio.get_event_loop() is loop)
            loop.close()
        """
        done = python("-W", "ignore", "-c", textwrap.dedent(code))
        assert done.stdout == "True True\n"

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_the_policy_is_asyncios_with_another_loop(self, asyncfast):
        policy = asyncfast.EventLoopPolicy()
        assert isinstance(policy, asyncio.DefaultEventLoopPolicy)
        loop = policy.new_event_loop()
        assert type(loop) is asyncfast.Loop
        policy.set_event_loop(loop)
        assert policy.get_event_loop() is loop
        policy.set_event_loop(None)
        loop.close()


# -- python -m asyncfast -----------------------------------------------------------

PROGRAM = """
import asyncio, sys

async def main():
    print(type(asyncio.get_running_loop()).__module__.split(".")[0], sys.argv[1:])

asyncio.run(main())
"""


@pytest.fixture
def program(tmp_path, asyncfast):
    """Writes a program; returns its path."""

    def write(source, name="program.py"):
        path = tmp_path / name
        path.write_text(textwrap.dedent(source))
        return str(path)

    return write


def both_ways(*args, **kwargs):
    """The program without asyncfast and with it."""
    plain = python(*args, check=False, **kwargs)
    fast = python("-m", "asyncfast", *args, check=False, **kwargs)
    return plain, fast


def test_a_program(program):
    plain, fast = both_ways(program(PROGRAM), "one", "-x", "--two=3")
    assert plain.stdout == "asyncio ['one', '-x', '--two=3']\n"
    assert fast.stdout == "asyncfast ['one', '-x', '--two=3']\n"
    assert fast.stderr == plain.stderr


def test_a_module(program, tmp_path):
    program(PROGRAM, "some_module.py")
    plain, fast = both_ways("-m", "some_module", "-m", "x", cwd=tmp_path)
    assert plain.stdout == "asyncio ['-m', 'x']\n"
    assert fast.stdout == "asyncfast ['-m', 'x']\n"


def test_a_package(program, tmp_path):
    (tmp_path / "package").mkdir()
    program("", "package/__init__.py")
    program("print(__package__, __name__)", "package/__main__.py")
    plain, fast = both_ways("-m", "package", cwd=tmp_path)
    assert fast.stdout == plain.stdout == "package __main__\n"


CODES = {
    "falls off the end": ("pass", 0),
    "sys.exit(3)": ("import sys; sys.exit(3)", 3),
    "sys.exit(text)": ("import sys; sys.exit('bad')", 1),
    "SystemExit in a task": (
        "import asyncio\nasync def main():\n    raise SystemExit(7)\n"
        "asyncio.run(main())",
        7,
    ),
    "an exception": ("1 / 0", 1),
    "os._exit": ("import os; os._exit(9)", 9),
    "a signal": (
        "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)",
        -signal.SIGTERM,
    ),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", -signal.SIGINT),
    "no syntax": ("def", 1),
}


@pytest.mark.parametrize("name", CODES)
def test_exit_codes_and_tracebacks_are_those_of_the_program(program, name):
    source, code = CODES[name]
    plain, fast = both_ways(program(source))
    assert plain.returncode == code
    assert fast.returncode == plain.returncode
    assert (fast.stdout, fast.stderr) == (plain.stdout, plain.stderr)


def test_a_traceback_from_inside_a_coroutine(program):
    source = """
        import asyncio

        async def inner():
            raise ValueError("deep")

        async def main():
            await inner()

        asyncio.run(main())
    """
    plain, fast = both_ways(program(source))
    assert fast.returncode == plain.returncode == 1
    own = r'(?m)^  File ".*program.py", line .*\n.*\n'
    assert re.findall(own, fast.stderr) == re.findall(own, plain.stderr)
    assert fast.stderr.splitlines()[-1] == "ValueError: deep"


def test_what_a_program_sees_of_itself(program):
    source = """
        import sys, __main__
        print(__name__, __file__ == sys.argv[0], __main__.__dict__ is globals())
        print(sys.path[0] == __import__("os").path.dirname(__file__))
        print(sorted(name for name in globals() if name.startswith("__")))
        class C: pass
        print(__import__("pickle").loads(__import__("pickle").dumps(C())).__class__ is C)
    """
    plain, fast = both_ways(program(source))
    assert fast.stdout == plain.stdout
    assert plain.stdout.startswith("__main__ True True\nTrue\n")


def test_standard_input_goes_to_the_program(program):
    path = program("print(input().upper())")
    assert python("-m", "asyncfast", path, input="hello\n").stdout == "HELLO\n"


def test_a_program_that_is_not_there(program, tmp_path):
    plain, fast = both_ways(str(tmp_path / "nothing.py"))
    assert fast.returncode == plain.returncode == 2
    assert "No such file" in fast.stderr


def test_a_module_that_is_not_there(program):
    plain, fast = both_ways("-m", "no_such_module_anywhere")
    assert fast.returncode == plain.returncode == 1
    assert fast.stderr.splitlines()[-1] == plain.stderr.splitlines()[-1]


def test_usage_and_version(asyncfast):
    done = python("-m", "asyncfast", check=False)
    assert done.returncode == 2 and "usage" in done.stderr
    assert done.stderr.endswith("arguments are required: PROGRAM\n")
    done = python("-m", "asyncfast", "--help")
    assert "PROGRAM" in done.stdout
    done = python("-m", "asyncfast", "--version")
    assert asyncfast.__version__ in done.stdout
    assert asyncfast.libuv_version() in done.stdout
    info = asyncfast.build_info()
    assert all(info[name] in done.stdout for name in info)
    assert "-O" in info["flags"]


def test_debug(program):
    path = program(
        """
        import asyncio

        async def main():
            print(asyncio.get_running_loop().get_debug())

        asyncio.run(main())
        """
    )
    assert python("-m", "asyncfast", path).stdout == "False\n"
    assert python("-m", "asyncfast", "--debug", path).stdout == "True\n"
    refused = python("-E", "-m", "asyncfast", "--debug", path, check=False)
    assert refused.returncode == 2
    assert "--debug doesn't go with -E" in refused.stderr


def test_bench(asyncfast):
    """With fewer turns, for a test need not be exact."""
    short = "import asyncfast.bench as bench; bench._TURNS = 1; bench.main()"
    lines = python("-c", short).stdout.splitlines()
    assert "CPU per operation" in lines[0]
    assert lines[2].split()[0] == "asyncio" and lines[2].split()[-1] == "asyncfast"
    assert len(lines) == 11
    assert all(re.search(r" \d+\.\d\dx$", line) for line in lines[3:])


def test_bench_tells_what_it_does():
    done = python("-m", "asyncfast", "bench", "--help")
    assert done.stdout.startswith("usage: python -m asyncfast bench")
    done = python("-m", "asyncfast", "bench", "fast", check=False)
    assert done.returncode == 2 and "unrecognized arguments: fast" in done.stderr


def test_bench_takes_no_file_of_that_name(program, tmp_path):
    program("print('a file')", "bench")
    assert python("-m", "asyncfast", "./bench", cwd=tmp_path).stdout == "a file\n"
    assert "bench" in python("-m", "asyncfast", "--help").stdout


def test_as_uvloop(program):
    """For programs that name uvloop."""
    path = program(
        """
        import asyncio, importlib.util
        import uvloop, uvloop.loop
        from uvloop import new_event_loop

        assert importlib.util.find_spec("uvloop")
        assert tuple(map(int, uvloop.__version__.split("."))) > (0, 20)

        async def main():
            loop = asyncio.get_running_loop()
            assert isinstance(loop, uvloop.Loop) and isinstance(loop, uvloop.loop.Loop)
            return type(loop).__module__.split(".")[0]

        print(uvloop.run(main()))
        loop = new_event_loop()
        print(loop.run_until_complete(main()))
        loop.close()
        if hasattr(uvloop, "EventLoopPolicy"):
            uvloop.install()
            asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        print(asyncio.run(main()))
        """
    )
    done = python("-W", "ignore", "-m", "asyncfast", "--as-uvloop", path)
    assert done.stdout == "asyncfast\n" * 3


def test_as_uvloop_comes_too_late(asyncfast, monkeypatch):
    from asyncfast import as_uvloop

    monkeypatch.setitem(sys.modules, "uvloop", asyncio)
    with pytest.raises(ImportError, match="uvloop has been imported already"):
        as_uvloop.register()


def test_ctrl_c_ends_a_program(program):
    path = program(
        """
        import asyncio

        async def main():
            print("ready", flush=True)
            await asyncio.sleep(60)

        asyncio.run(main())
        """
    )
    with subprocess.Popen(
        [sys.executable, "-m", "asyncfast", path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in errors


# -- The extension module ----------------------------------------------------------


def test_it_cannot_be_loaded_a_second_time_over_the_first(asyncfast):
    """Loops of the first go on working, whatever the second import says."""
    code = """
        import asyncio, importlib, sys, asyncfast
        loop = asyncfast.new_event_loop()
        del sys.modules["asyncfast._core"]
        try:
            importlib.import_module("asyncfast._core")
        except ImportError:
            pass
        print(loop.run_until_complete(asyncio.sleep(0.001, "works")))
        loop.close()
    """
    done = python("-c", textwrap.dedent(code))
    assert (done.stdout, done.stderr) == ("works\n", "")


def test_a_program_that_ends_with_an_open_loop_exits_cleanly(program):
    """Interpreter shutdown with live loops, timers, readers, transports."""
    source = """
        import asyncio, asyncfast, socket, threading
        loop = asyncfast.new_event_loop()
        left, right = socket.socketpair()
        loop.add_reader(left, print)
        loop.call_soon(print)
        loop.call_later(5, print)
        loop.call_soon_threadsafe(print)

        async def main():
            a, b = socket.socketpair()
            await loop.connect_accepted_socket(asyncio.Protocol, a)
            await loop.getaddrinfo("localhost", 80)
            await loop.run_in_executor(None, print, "done")

        loop.run_until_complete(main())
    """
    done = python("-W", "ignore", program(source))
    assert "done" in done.stdout
    assert done.stderr == ""
