"""Dask's distributed: a scheduler and two workers, each a process on asyncfast."""

import contextlib
import os
import subprocess
import sys

import pytest
from support import python, until, use

# Of slow tests one is enough, with the client on asyncfast as well.
ON_ASYNCFAST = pytest.mark.parametrize("loop_name", ["asyncfast"], indirect=True)
CLUSTER = """
import asyncio
import asyncfast
from distributed import Client, LocalCluster

asyncfast.install()

def whose():
    return type(asyncio.get_running_loop()).__module__

async def loop_of_worker(dask_worker):
    return whose()

if __name__ == "__main__":
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        print(sorted(client.run(loop_of_worker).values()))
        print(client.sync(loop_of_worker, None))
        print(client.submit(sum, client.map(abs, range(-50, 50))).result())
"""


async def loop_of_worker(dask_worker):
    import asyncio

    return type(asyncio.get_running_loop()).__module__


async def loop_of_scheduler(dask_scheduler):
    import asyncio

    return type(asyncio.get_running_loop()).__module__


def environment(folder):
    """Quiet, and with its files in this folder."""
    return {
        **os.environ,
        "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "critical",
        "DASK_TEMPORARY_DIRECTORY": str(folder),
        # The processes are sent functions of this module by name.
        "PYTHONPATH": os.pathsep.join(sys.path),
    }


@contextlib.contextmanager
def cluster(folder):
    """The processes, and the file in which the scheduler writes where it is."""
    file = folder / "scheduler.json"
    start = [sys.executable, "-m", "asyncfast", "-m"]
    options = ["--scheduler-file", str(file), "--host", "127.0.0.1", "--no-dashboard"]
    worker = [*options, "--no-nanny", "--nthreads", "1"]
    commands = [
        [*start, "distributed.cli.dask_scheduler", *options, "--port", "0"],
        *[[*start, "distributed.cli.dask_worker", *worker]] * 2,
    ]
    with contextlib.ExitStack() as stack:
        processes = []
        for command in commands:
            process = subprocess.Popen(command, env=environment(folder), cwd=folder)
            stack.callback(process.wait)
            stack.callback(process.kill)
            processes.append(process)
        yield processes, str(file)


@ON_ASYNCFAST
@pytest.mark.guard(60)
async def test_a_cluster(loop, tmp_path):
    Client = use("distributed").Client
    with cluster(tmp_path) as (processes, file):
        await until(lambda: os.path.exists(file))
        async with Client(scheduler_file=file, asynchronous=True) as client:
            await client.wait_for_workers(2, timeout=30)
            assert await client.run_on_scheduler(loop_of_scheduler) == "asyncfast.loop"
            loops = await client.run(loop_of_worker)
            assert list(loops.values()) == ["asyncfast.loop"] * 2
            numbers = client.map(lambda number: bytes(number), range(0, 100_000, 1000))
            total = client.submit(lambda parts: sum(map(len, parts)), numbers)
            assert await total == sum(range(0, 100_000, 1000))
            assert len(await client.who_has(numbers)) == 100
            failing = client.submit(lambda: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await failing
        # One after another: a worker that the scheduler has told to close, and that
        # gets a signal then, never ends, on asyncio either.
        for process in processes[::-1]:
            process.terminate()
            assert process.wait(20) == 0


@pytest.mark.guard(60)
def test_a_local_cluster(tmp_path):
    """Its workers are new interpreters, which import the program once more."""
    use("distributed")
    (tmp_path / "program.py").write_text(CLUSTER)
    done = python("program.py", cwd=tmp_path, env=environment(tmp_path))
    assert done.stdout.splitlines() == [
        "['asyncfast.loop', 'asyncfast.loop']",
        "asyncfast.loop",
        "2500",
    ]
