"""asyncfast/children.py: child processes, and who waits for them."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
from support import (
    PY,
    connected,
    connected_tls,
    descriptors,
    like_asyncio,
    python,
    turns,
    until,
)

PYTHON = sys.executable


def code(*lines):
    """Arguments of an interpreter that runs these lines, and starts quickly."""
    return PYTHON, "-S", "-c", "\n".join(lines)


ECHO = code("import sys", "sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])")
SLEEP = code("import time", "time.sleep(60)")

pytestmark = pytest.mark.usefixtures("threads_end")


class Watcher(asyncio.SubprocessProtocol):
    """Records every callback."""

    def __init__(self):
        self.events = []
        self.data = {1: b"", 2: b""}
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport
        self.events.append("made")

    def pipe_data_received(self, fd, data):
        self.data[fd] += data

    def pipe_connection_lost(self, fd, exc):
        self.events.append(f"pipe {fd} lost")

    def process_exited(self):
        self.events.append("exited")

    def connection_lost(self, exc):
        self.events.append("lost")


async def spawn(*args, **kwargs):
    return await asyncio.create_subprocess_exec(*args, **kwargs)


async def output(*args, **kwargs):
    process = await spawn(*args, stdout=subprocess.PIPE, **kwargs)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out


# -- Running one -------------------------------------------------------------------


async def test_returncode(loop):
    process = await spawn(*code("raise SystemExit(7)"))
    assert await process.wait() == 7
    assert process.returncode == 7


async def test_communicate(loop):
    process = await spawn(*ECHO, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    data = os.urandom(1_000_000)
    out, err = await process.communicate(data)
    assert (out, err, process.returncode) == (data[::-1], None, 0)


async def test_shell(loop):
    process = await asyncio.create_subprocess_shell(
        "echo to stdout; echo to stderr >&2; exit 3",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert await process.communicate() == (b"to stdout\n", b"to stderr\n")
    assert process.returncode == 3


async def test_all_callbacks_come_in_order(loop):
    transport, protocol = await loop.subprocess_exec(
        Watcher, *code("import os", "os.write(1, b'out')", "os.write(2, b'err')")
    )
    await until(lambda: "lost" in protocol.events)
    assert protocol.data == {1: b"out", 2: b"err"}
    assert protocol.events[0] == "made"
    assert protocol.events[-1] == "lost"
    assert set(protocol.events[1:-1]) == {
        "exited",
        "pipe 0 lost",
        "pipe 1 lost",
        "pipe 2 lost",
    }
    assert transport.get_returncode() == 0
    transport.close()


async def test_pipes_outlive_the_process(loop):
    """A grandchild may hold them: connection_lost waits for it."""
    script = code(
        "import os, sys",
        "if os.fork() == 0:",
        "    sys.stdin.read(1)",
        "    os.write(1, b'grandchild')",
    )
    process = await spawn(*script, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    await until(lambda: process.returncode is not None)
    process.stdin.write(b"x")
    assert await process.stdout.read() == b"grandchild"
    assert await process.wait() == 0
    process.stdin.close()


async def test_many_at_once(loop):
    async def one(number):
        return await output(*code(f"print({number})"))

    numbers = await asyncio.gather(*map(one, range(12)))
    assert [int(number) for number in numbers] == list(range(12))


# -- Signals and the end -----------------------------------------------------------


@pytest.mark.parametrize(
    "how, number",
    [
        (lambda process: process.kill(), signal.SIGKILL),
        (lambda process: process.terminate(), signal.SIGTERM),
        (lambda process: process.send_signal(signal.SIGHUP), signal.SIGHUP),
    ],
    ids=["kill", "terminate", "send_signal"],
)
async def test_a_signal_ends_it(loop, how, number):
    process = await spawn(*SLEEP)
    how(process)
    assert await process.wait() == -number


async def test_signals_after_the_end(loop):
    process = await spawn(*code("pass"))
    await process.wait()
    if PY < (3, 13):
        with pytest.raises(ProcessLookupError):
            process.kill()
    else:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


async def test_close_kills_it(loop):
    transport, protocol = await loop.subprocess_exec(
        Watcher, *SLEEP, stdin=None, stdout=None, stderr=None
    )
    transport.close()
    await until(lambda: "lost" in protocol.events)
    assert transport.get_returncode() == -signal.SIGKILL


async def test_cancelled_communicate(loop):
    process = await spawn(*SLEEP, stdout=subprocess.PIPE)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(process.communicate(), 0.01)
    process.kill()
    assert await process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("loop_name", ["asyncfast"], indirect=True)
async def test_reaped_by_somebody_else(loop, caplog):
    process = await spawn(*code("pass"))
    os.waitpid(process.pid, 0)
    assert await process.wait() == 255
    assert "exit status already read" in caplog.text


@pytest.mark.parametrize("loop_name", ["asyncfast"], indirect=True)
@pytest.mark.parametrize("pidfd", [True, False], ids=["pidfd", "thread"])
@pytest.mark.skipif(PY < (3, 14), reason="asyncio's watchers know no better")
async def test_no_signal_goes_to_the_next_owner_of_a_pid(loop, monkeypatch, pidfd):
    """asyncio saw to it in a release of 3.14."""
    if not pidfd:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    really_kill = os.kill

    def kill(pid, number):
        # Raises if there is no such child any more.
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        really_kill(pid, number)

    monkeypatch.setattr(os, "kill", kill)
    process = await spawn(*SLEEP)
    while process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await asyncio.sleep(0)
    assert await process.wait() == -signal.SIGKILL


async def test_only_own_children_are_reaped(loop):
    """Others are for whoever started them."""
    other = subprocess.Popen(code("raise SystemExit(5)"))
    process = await spawn(*code("pass"))
    await process.wait()
    await asyncio.to_thread(os.waitid, os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    await turns(5)
    assert other.wait() == 5


@pytest.mark.parametrize("loop_name", ["asyncfast"], indirect=True)
@pytest.mark.parametrize("how", ["signal", "close"])
async def test_one_that_ended_just_before(loop, caplog, how):
    """subprocess looks whether the child lives before it sends a signal, and reaps
    it itself if not; asyncio may lose its exit status."""
    process = await spawn(*code("raise SystemExit(5)"))
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    if how == "signal":
        process.send_signal(signal.SIGTERM)
    else:
        process._transport.close()
    assert await process.wait() == 5
    assert not caplog.text


async def test_sigchld_is_the_user_s(loop):
    heard = asyncio.Event()
    loop.add_signal_handler(signal.SIGCHLD, heard.set)
    process = await spawn(*code("raise SystemExit(4)"))
    assert await process.wait() == 4
    await heard.wait()
    assert loop.remove_signal_handler(signal.SIGCHLD)


def test_in_another_thread(new):
    """No child watcher is asked for, and none has to be attached."""
    results = []

    def work():
        loop = new()
        try:
            results.append(loop.run_until_complete(output(*code("print('hi')"))))
        finally:
            loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results == [b"hi\n"]


@pytest.mark.parametrize("loop_name", ["asyncfast"], indirect=True)
async def test_without_a_pidfd(loop, monkeypatch):
    """An old kernel, or another system: a thread waits."""
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    processes = [await spawn(*code(f"raise SystemExit({n})")) for n in range(3)]
    assert [await process.wait() for process in processes] == [0, 1, 2]


@pytest.mark.parametrize("loop_name", ["asyncfast"], indirect=True)
@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="no pidfd")
async def test_no_pidfd_to_spare(loop, monkeypatch):
    def refuse(pid):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    process = await spawn(*code("raise SystemExit(6)"))
    assert await process.wait() == 6


@pytest.mark.parametrize("loop_name", ["asyncfast"], indirect=True)
@pytest.mark.filterwarnings("ignore")
def test_a_loop_closed_before_its_child_ends(new):
    before = descriptors()
    loop = new()
    process = loop.run_until_complete(spawn(*SLEEP))
    pid = process.pid
    loop.close()
    del process, loop
    gc.collect()
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert descriptors().keys() == before.keys()


async def test_a_program_that_is_not_there(loop):
    with pytest.raises(FileNotFoundError) as info:
        await spawn("/nowhere/to be found")
    assert info.value.filename == "/nowhere/to be found"


async def test_a_protocol_that_raises(loop, reports):
    class Refuses(Watcher):
        def connection_made(self, transport):
            super().connection_made(transport)
            raise RuntimeError("no")

    transport, protocol = await loop.subprocess_exec(
        Refuses, *code("pass"), stdin=None, stdout=None, stderr=None
    )
    await until(lambda: "lost" in protocol.events)
    assert isinstance(reports.take_one()["exception"], RuntimeError)
    transport.close()


# -- Keywords ----------------------------------------------------------------------


async def test_cwd_and_env(loop, tmp_path):
    out = await output(
        *code("import os", "print(os.getcwd(), os.environ['SEEN'])"),
        cwd=tmp_path,
        env={**os.environ, "SEEN": "yes"},
    )
    assert out.decode().split() == [str(tmp_path), "yes"]


async def test_pass_fds(loop):
    read, write = os.pipe()
    try:
        out = await output(
            *code("import os", f"os.write({write}, b'through')", "print('done')"),
            pass_fds=[write],
        )
        assert (out, os.read(read, 100)) == (b"done\n", b"through")
    finally:
        os.close(read)
        os.close(write)


async def test_descriptors_are_not_inherited(loop):
    """Neither the loop's own nor the user's."""
    lines = "import os", "print(*sorted(int(n) for n in os.listdir('/dev/fd')))"
    out = await output(*code(*lines), stdin=subprocess.DEVNULL)
    # The last is the listing's own.
    assert [int(n) for n in out.split()][:-1] == [0, 1, 2]


@contextlib.asynccontextmanager
async def everything_open(loop, tmp_path, served, asked):
    """Something of each kind that has a descriptor."""
    loop.call_soon_threadsafe(int)
    await loop.run_in_executor(None, int)
    await loop.getaddrinfo("localhost", 80)
    reading, writing = os.pipe()
    reader, writer = os.fdopen(reading, "rb", 0), os.fdopen(writing, "wb", 0)
    loop.add_signal_handler(signal.SIGUSR1, int)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(turns, 3)
        stack.callback(loop.remove_signal_handler, signal.SIGUSR1)
        for family in (socket.AF_INET, socket.AF_UNIX):
            await stack.enter_async_context(connected(loop, family=family))
        await stack.enter_async_context(connected_tls(loop, served, asked))
        server = await loop.create_unix_server(asyncio.Protocol, str(tmp_path / "unix"))
        stack.callback(server.close)
        for made in (
            loop.connect_read_pipe(asyncio.Protocol, reader),
            loop.connect_write_pipe(asyncio.Protocol, writer),
            loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0)),
        ):
            transport, _ = await made
            stack.callback(transport.close)
        child = await spawn("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        stack.push_async_callback(child.communicate, b"")
        yield


LIST_OPEN = code(
    "import contextlib, os",
    "for name in os.listdir('/dev/fd'):",
    "    with contextlib.suppress(OSError):",
    "        os.fstat(int(name))",
    "        print(name)",
)


async def test_a_child_that_closes_nothing_inherits_nothing(
    loop, tmp_path, served, asked
):
    """Of the loop's; another thread's child could get what isn't marked from its
    first moment on."""
    inherited = {fd for fd in descriptors() if os.get_inheritable(fd)} | {0, 1, 2}
    async with everything_open(loop, tmp_path, served, asked):
        assert len(descriptors()) > len(inherited) + 16
        out = await output(*LIST_OPEN, stdin=subprocess.DEVNULL, close_fds=False)
    assert {int(name) for name in out.split()} == inherited


async def test_preexec_fn(loop):
    out = await output(
        *code("import os", "print(os.environ.get('X'), os.umask(0))"),
        preexec_fn=lambda: os.umask(0o77),
    )
    assert out == b"None 63\n"


async def test_start_new_session(loop):
    out = await output(
        *code("import os", "print(os.getsid(0) == os.getpid())"),
        start_new_session=True,
    )
    assert out == b"True\n"


@pytest.mark.skipif(PY < (3, 11), reason="process_group= is new in 3.11")
async def test_process_group(loop):
    lines = "import os", "print(os.getpgid(0) == os.getpid())"
    assert await output(*code(*lines), process_group=0) == b"True\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
async def test_user_group_and_umask(loop):
    out = await output(
        "/bin/sh",
        "-c",
        "id -u; id -g; id -G; umask",
        user=65534,
        group=65534,
        extra_groups=[65533],
        umask=0o27,
    )
    assert out.split() == [b"65534", b"65534", b"65534", b"65533", b"0027"]


async def test_pipes_of_the_user(loop):
    read, write = os.pipe()
    with open(read, "rb") as reader:
        process = await spawn(*code("print('into a pipe')"), stdout=write)
        os.close(write)
        assert await process.wait() == 0
        assert reader.read() == b"into a pipe\n"


async def test_stderr_into_stdout(loop):
    lines = "import os", "os.write(1, b'a')", "os.write(2, b'b')"
    assert await output(*code(*lines), stderr=subprocess.STDOUT) == b"ab"


async def test_path_like_arguments(loop, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("print('ran')")
    assert await output(PYTHON, script) == b"ran\n"


REFUSED = {
    "universal_newlines": True,
    "shell": True,
    "bufsize": 1,
    "text": True,
    "encoding": "utf-8",
    "errors": "strict",
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("method", ["subprocess_exec", "subprocess_shell"])
def test_refused_keywords(loop, method, name):
    if (method, name) == ("subprocess_shell", "shell"):
        value = False
    else:
        value = REFUSED[name]

    def scenario(loop):
        call = getattr(loop, method)
        loop.run_until_complete(call(Watcher, "true", **{name: value}))

    assert like_asyncio(loop, scenario)[:2] == ("raised", ValueError)


@pytest.mark.parametrize("argument", [1, None, b"", []], ids=repr)
def test_wrong_commands(loop, argument):
    def scenario(loop):
        loop.run_until_complete(loop.subprocess_shell(Watcher, argument))

    if argument != b"":
        assert like_asyncio(loop, scenario)[:2] == ("raised", ValueError)


# -- What it costs -----------------------------------------------------------------


SPAWN_AND_WAIT = """
import asyncio, sys, time
import asyncfast

async def main(megabytes, count=30):
    ballast = bytearray(megabytes << 20)
    ballast[::4096] = b"x" * len(ballast[::4096])
    for _ in range(count):
        process = await asyncio.create_subprocess_exec("/bin/true")
        await process.wait()
    best = []
    for _ in range(count):
        begin = time.perf_counter()
        process = await asyncio.create_subprocess_exec("/bin/true")
        await process.wait()
        best.append(time.perf_counter() - begin)
    print(sorted(best)[count // 4])

asyncfast.run(main(int(sys.argv[1])))
"""


@pytest.mark.guard(120)
def test_the_memory_of_the_parent_costs_nothing():
    """With fork() the pages of 500 MB would cost milliseconds."""
    if sys.platform != "linux":
        pytest.skip("vfork is used on Linux")

    def cost(megabytes):
        return float(python("-c", SPAWN_AND_WAIT, str(megabytes)).stdout)

    # Machines are noisy, and it is never the small one that is too slow.
    assert any(cost(500) < 1.5 * cost(0) + 0.0005 for _ in range(3))
