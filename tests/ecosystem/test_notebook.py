"""Jupyter: a kernel on asyncfast, and a client of it."""

import contextlib
import json
import sys

import pytest
from support import use

# Of slow tests one is enough, with the client on asyncfast as well.
ON_ASYNCFAST = pytest.mark.parametrize("loop_name", ["asyncfast"], indirect=True)
KERNEL = {
    "argv": [sys.executable, "-m", "asyncfast", "-m", "ipykernel_launcher"]
    + ["-f", "{connection_file}"],
    "display_name": "Python on asyncfast",
    "language": "python",
}
CELL = """
import asyncio

async def double(number):
    await asyncio.sleep(0.001)
    return number * 2

loop = asyncio.get_running_loop()
print(type(loop).__module__, await asyncio.gather(*map(double, range(3))))
process = await asyncio.create_subprocess_exec(
    "echo", "child", stdout=asyncio.subprocess.PIPE
)
print((await process.communicate())[0].decode(), end="")
"""


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    """Jupyter's folders are the test's own, with one kernel: asyncfast."""
    for name in ("JUPYTER_PATH", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    folder = tmp_path / "JUPYTER_PATH" / "kernels" / "asyncfast"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(json.dumps(KERNEL))


@contextlib.asynccontextmanager
async def kernel():
    """A client of a kernel that answers."""
    manager = use("jupyter_client").AsyncKernelManager(kernel_name="asyncfast")
    await manager.start_kernel()
    client = manager.client()
    try:
        client.start_channels()
        await client.wait_for_ready(timeout=60)
        yield manager, client
    finally:
        client.stop_channels()
        await manager.shutdown_kernel()
        manager.context.destroy(0)


async def execute(client, code):
    """(the status, what was printed)."""
    printed = []

    def keep(message):
        if message["msg_type"] == "stream":
            printed.append(message["content"]["text"])

    reply = await client.execute_interactive(code, output_hook=keep, timeout=60)
    return reply["content"]["status"], "".join(printed)


@ON_ASYNCFAST
@pytest.mark.guard(60)
async def test_a_kernel(loop, kernels):
    use("ipykernel")
    async with kernel() as (_, client):
        assert await execute(client, CELL) == (
            "ok",
            "asyncfast.loop [0, 2, 4]\nchild\n",
        )
        assert await execute(client, "print(await double(21))") == ("ok", "42\n")
        status, _ = await execute(client, "1 / 0")
        assert status == "error"


@ON_ASYNCFAST
@pytest.mark.guard(60)
async def test_a_kernel_is_interrupted(loop, kernels):
    """A cell that awaits ends; the kernel goes on, with the same loop."""
    use("ipykernel")
    async with kernel() as (manager, client):
        await execute(client, "import asyncio; loop = asyncio.get_running_loop()")
        code = "print('begun', flush=True); await asyncio.sleep(60)"
        interrupts = []

        def interrupt(message):
            if message["msg_type"] == "stream":
                interrupts.append(loop.create_task(manager.interrupt_kernel()))

        reply = await client.execute_interactive(
            code, output_hook=interrupt, timeout=30
        )
        assert reply["content"]["status"] == "error"
        code = "print(loop is asyncio.get_running_loop())"
        assert await execute(client, code) == ("ok", "True\n")
