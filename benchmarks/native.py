"""Builds the C programs of load/ when they are first needed, into build/."""

import functools
import os
import pathlib
import shlex
import subprocess
import tempfile
from dataclasses import dataclass

from registry import HERE

SOURCES = HERE / "load"
BUILD = HERE / "build"
FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra")
CLIENT = (
    "load.c",
    "pace.c",
    "options.c",
    "histogram.c",
    "stream.c",
    "datagram.c",
    "connect.c",
    "tls.c",
    "common.c",
)


class BuildError(Exception):
    pass


@dataclass(frozen=True)
class Program:
    sources: tuple[str, ...]
    defines: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()

    def command(self, output: str) -> list[str]:
        compiler = shlex.split(os.environ.get("CC", "cc"))
        sources = [str(SOURCES / name) for name in self.sources]
        rest = [*self.defines, "-o", output, *sources, *self.libraries]
        return [*compiler, *FLAGS, *rest]


PROGRAMS = {
    "load": Program(CLIENT),
    "load-tls": Program(CLIENT, ("-DLOAD_TLS",), ("-lssl", "-lcrypto")),
    "echo_epoll": Program(("echo_epoll.c", "common.c")),
    "echo_libuv": Program(("echo_libuv.c", "common.c"), (), ("-luv",)),
    "count.so": Program(("count.c",), ("-shared", "-fPIC")),
}


@functools.cache
def tool(name: str) -> str:
    """The path of a built program; BuildError where it cannot be built."""
    BUILD.mkdir(exist_ok=True)
    target = BUILD / name
    if not _is_fresh(target):
        _build(PROGRAMS[name], target)
    return str(target)


def available(name: str) -> bool:
    try:
        tool(name)
    except BuildError:
        return False
    return True


@functools.cache
def certificate(directory: str) -> tuple[str, str]:
    """A self-signed certificate and its key, made in the directory."""
    paths = f"{directory}/certificate.pem", f"{directory}/key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1"
    names = ["-nodes", "-days", "30", "-subj", "/CN=localhost"]
    _run([*command.split(), *names, "-out", paths[0], "-keyout", paths[1]])
    return paths


def _is_fresh(target: pathlib.Path) -> bool:
    if not target.exists():
        return False
    newest = max(path.stat().st_mtime for path in SOURCES.iterdir())
    return target.stat().st_mtime > newest


def _build(program: Program, target: pathlib.Path) -> None:
    # Renamed into place, so that two runs at once never start half a program.
    with tempfile.TemporaryDirectory(dir=BUILD) as scratch:
        made = os.path.join(scratch, target.name)
        _run(program.command(made))
        os.replace(made, target)


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except OSError as error:
        raise BuildError(f"{command[0]}: {error.strerror}") from error
    if done.returncode != 0:
        raise BuildError(done.stderr.strip() or f"{command[0]} failed")
