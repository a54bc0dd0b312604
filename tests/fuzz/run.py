"""Fuzzes the extension with libFuzzer: inputs that reach new code in it are kept and
changed again.

    python tests/fuzz/run.py [--target NAME]... [--seconds 60] [--jobs 2]
    python tests/fuzz/run.py --target NAME --input FILE

The extension is compiled by clang with -fsanitize=fuzzer-no-link,address,undefined, the
interpreter is embedded into a harness of libFuzzer's (harness.c), and each target_NAME.py
says what is done with an input; mostly the same is done on asyncio, and must come out
the same.  --seconds is shared by the targets.  What is built, the inputs that were kept
and those that failed are in build/fuzz; the exit code is 1 if one failed.  corpus/ has
the inputs to begin with, which `make test` runs, too.
"""

import argparse
import collections
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGETS = sorted(file.stem.removeprefix("target_") for file in HERE.glob("target_*.py"))
BUILD = ROOT / "build" / "fuzz"
HARNESS = BUILD / "harness"
LIBRARY = BUILD / "lib"
SANITIZERS = "fuzzer-no-link,address,undefined"
INPUT_LIMIT = 20  # seconds that one input may take
MEMORY_LIMIT = 2000  # MiB
LONGEST = 1000  # bytes of an input
MOST_LINES = 50  # of what a failed run said


def build():
    """The instrumented package in build/fuzz/lib, and the harness."""
    if not shutil.which("clang"):
        sys.exit("fuzz: clang, which has libFuzzer, is missing")
    environment = dict(os.environ, CC="clang", ASYNCFAST_SANITIZE=SANITIZERS)
    where = ["--build-lib", str(LIBRARY), "--build-temp", str(BUILD / "temp")]
    command = [sys.executable, "setup.py", "--quiet", "build_ext", *where]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    link_package()
    subprocess.run(harness_command(), check=True)


def link_package():
    """The package's Python half beside the extension, as it is in the checkout."""
    for entry in (ROOT / "asyncfast").iterdir():
        link = LIBRARY / "asyncfast" / entry.name
        if entry.suffix != ".so" and not link.exists():
            link.symlink_to(entry)


def harness_command():
    setting = sysconfig.get_config_var
    version = setting("LDVERSION")
    folders = [f"-L{setting('LIBDIR')}", f"-L{setting('LIBPL')}"]
    return [
        *("clang", "-g", "-O1", "-Wall", "-Wextra", "-Werror"),
        "-fsanitize=fuzzer,address,undefined",
        f"-I{sysconfig.get_path('include')}",
        str(HERE / "harness.c"),
        *folders,
        f"-lpython{version}",
        f"-Wl,-rpath,{setting('LIBDIR')}",
        *shlex.split(f"{setting('LIBS') or ''} {setting('SYSLIBS') or ''}"),
        "-rdynamic",
        *("-o", str(HARNESS)),
    ]


def environment(target):
    folders = LIBRARY, HERE, HERE.parent
    return dict(
        os.environ,
        ASYNCFAST_FUZZ_PYTHON=sys.executable,
        ASYNCFAST_FUZZ_TARGET=target,
        PYTHONPATH=os.pathsep.join(map(str, folders)),
        # An input does the same each time, and ASan sees Python's memory.
        PYTHONHASHSEED="0",
        PYTHONMALLOC="malloc",
        PYTHONDONTWRITEBYTECODE="1",
        # It would take SIGABRT from libFuzzer, which keeps the input then.
        PYTHONFAULTHANDLER="",
        # Sizes of terabytes are a MemoryError.
        ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1"
        ":max_allocation_size_mb=500",
        UBSAN_OPTIONS="print_stacktrace=1",
    )


def options():
    return [
        f"-timeout={INPUT_LIMIT}",
        f"-rss_limit_mb={MEMORY_LIMIT}",
        "-malloc_limit_mb=1000000000",
        # CPython leaks at exit; once.py looks for what grows.
        "-detect_leaks=0",
    ]


def trouble(text):
    """What a run said, from where it went wrong."""
    lines = text.splitlines()
    signs = "Traceback", "ERROR:", "runtime error:", "harness:"
    begin = (i for i, line in enumerate(lines) if any(sign in line for sign in signs))
    return "\n".join(lines[next(begin, -MOST_LINES) :][:MOST_LINES])


class Job:
    """One process of libFuzzer's on one target."""

    def __init__(self, target, seconds, number):
        self.target = target
        kept = BUILD / "corpus" / target
        kept.mkdir(parents=True, exist_ok=True)
        self.log = BUILD / f"{target}-{number}.log"
        self.failed = BUILD / "failed" / target
        self.failed.mkdir(parents=True, exist_ok=True)
        command = [
            *(HARNESS, *options()),
            f"-max_total_time={seconds}",
            f"-max_len={LONGEST}",
            f"-artifact_prefix={self.failed}/",
            "-print_final_stats=1",
            # Names of functions would be asked of a process, whose pipes stay.
            "-print_funcs=0",
            # The other jobs' finds come in by the folder that they share.
            "-reload=5",
            kept,
            HERE / "corpus" / target,
        ]
        self.process = subprocess.Popen(
            list(map(str, command)),
            env=environment(target),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.log.open("wb"),
        )

    def finish(self):
        """(executions, edges, whether nothing was wrong)."""
        code = self.process.wait()
        text = self.log.read_text(errors="replace")
        counted = re.findall(r"number_of_executed_units: (\d+)|^#(\d+)\t", text, re.M)
        executions = max((int(a or b) for a, b in counted), default=0)
        edges = max(map(int, re.findall(r" cov: (\d+)", text)), default=0)
        if code != 0:
            print(trouble(text))
            print(f"fuzz: {self.target} failed, {self.log}")
        return executions, edges, code == 0


def fuzz(targets, seconds, jobs):
    """Fuzz one target after the other; whether all went well."""
    well = True
    each = max(1, round(seconds / len(targets)))
    for target in targets:
        began = time.monotonic()
        running = [Job(target, each, number) for number in range(jobs)]
        totals = collections.Counter()
        try:
            for job in running:
                executions, edges, good = job.finish()
                totals["executions"] += executions
                totals["edges"] = max(totals["edges"], edges)
                well = well and good
        finally:
            for job in running:
                job.process.terminate()
        took = time.monotonic() - began
        print(
            f"{target:10} {totals['executions']:9} inputs  {took:6.0f} s  "
            f"{totals['edges']:6} edges",
            flush=True,
        )
    return well


def run_one(target, file):
    """Give one input to a target, as the fuzzer would."""
    command = [str(HARNESS), *options(), file]
    return subprocess.run(command, env=environment(target)).returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--target", action="append", choices=TARGETS)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--input", help="run one file, not the fuzzer")
    arguments = parser.parse_args()
    if arguments.input and len(arguments.target or ()) != 1:
        parser.error("--input needs one --target")
    if arguments.seconds <= 0 or arguments.jobs < 1:
        parser.error("--seconds and --jobs must be above zero")
    build()
    targets = arguments.target or TARGETS
    if arguments.input:
        well = run_one(targets[0], arguments.input)
    else:
        well = fuzz(targets, arguments.seconds, arguments.jobs)
    sys.exit(not well)


if __name__ == "__main__":
    main()
