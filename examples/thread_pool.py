"""Threads: keep blocking calls away from the loop, in a pool of your own.

Teaches run_in_executor() with a ThreadPoolExecutor: the loop stays free while files
are read, the size of the pool limits how many are read at once, an exception in a
thread arrives at the `await`, and call_soon_threadsafe() brings progress from the
threads to the loop. (For one call and no limit, to_thread.py is shorter.)

Prints the checksum of each file and how much was read.

    python examples/thread_pool.py
"""

import asyncio
import hashlib
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncfast

CHUNK = 64 * 1024
FILES = {"contract.pdf": 150_000, "minutes.pdf": 64_000, "scan.tiff": 1_000_000}


class Progress:
    """Counts what was read. Only the loop's thread calls it, so it needs no lock."""

    def __init__(self) -> None:
        self.bytes = 0
        self.reports = 0

    def add(self, size: int) -> None:
        self.bytes += size
        self.reports += 1


def checksum(path: Path, report: Callable[[int], object]) -> str:
    """A blocking function, as it would be written without asyncio."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            report(len(chunk))
    return digest.hexdigest()[:12]


async def checksums(paths: list[Path], progress: Progress) -> list[str | BaseException]:
    loop = asyncio.get_running_loop()

    def report(size: int) -> None:
        loop.call_soon_threadsafe(progress.add, size)

    with ThreadPoolExecutor(max_workers=2) as pool:
        jobs = [loop.run_in_executor(pool, checksum, path, report) for path in paths]
        return await asyncio.gather(*jobs, return_exceptions=True)


async def main() -> None:
    progress = Progress()
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in FILES]
        for path in paths:
            path.write_bytes(path.name.encode().ljust(FILES[path.name], b"."))
        paths.append(Path(folder, "lost.txt"))
        results = await checksums(paths, progress)

    for path, result in zip(paths, results, strict=True):
        failed = isinstance(result, BaseException)
        print(f"{path.name}: {type(result).__name__ if failed else result}")
    print(f"{progress.bytes:,} bytes read, progress reported {progress.reports} times")


if __name__ == "__main__":
    asyncfast.run(main())
