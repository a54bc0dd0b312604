"""What must hold of an installed wheel with libuv in it, and what a newcomer does with it.

Not part of the suite: run it with the interpreter that the wheel was installed for,
outside the checkout, where the packages of the group "newcomer" are:

    python -m pytest -c /dev/null --noconftest .../tests/installed.py

The programs and commands are those of README.md and docs/tutorial.md.
"""

import ctypes
import importlib.metadata
import importlib.resources
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

import asyncfast
from asyncfast import _core

CHECKOUT = Path(__file__).resolve().parent.parent
DISTRIBUTION = importlib.metadata.distribution("asyncfast-loop")
LIMIT = 60  # seconds, for any one program


def text_of_metadata(name):
    """The text of the one file of the wheel's metadata that has this name."""
    (path,) = (each for each in DISTRIBUTION.files if each.match(f"*.dist-info/{name}"))
    return path.read_text(encoding="utf-8")


# What is in it


def test_it_is_the_wheel_and_not_the_checkout():
    assert CHECKOUT / "asyncfast" not in Path(asyncfast.__file__).resolve().parents
    assert DISTRIBUTION.version == asyncfast.__version__


def test_metadata():
    metadata = DISTRIBUTION.metadata
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata.get_all("Requires-Dist") is None


def test_every_module_is_in_it():
    folder = CHECKOUT / "asyncfast"
    missing = [
        path.relative_to(folder)
        for path in folder.rglob("*.py")
        if not importlib.resources.files(asyncfast)
        .joinpath(*path.relative_to(folder).parts)
        .is_file()
    ]
    assert missing == []


def test_types_come_with_it():
    for name in ("py.typed", "_core.pyi"):
        assert importlib.resources.files(asyncfast).joinpath(name).is_file()


def test_pytest_finds_the_plugin():
    names = [point.name for point in DISTRIBUTION.entry_points]
    assert "asyncfast" in names


# libuv inside


def test_libuv_is_named_with_its_version():
    parts = json.loads(text_of_metadata("sboms/libuv.cdx.json"))
    (libuv,) = parts["components"]
    assert libuv["name"] == "libuv"
    assert libuv["version"] == asyncfast.libuv_version()
    assert parts["metadata"]["component"]["version"] == asyncfast.__version__


def test_the_licence_of_libuv_comes_with_it():
    assert "libuv project contributors" in text_of_metadata("licenses/libuv/LICENSE")


@pytest.mark.skipif(
    not os.path.exists("/proc/self/maps"),
    reason="only Linux tells what a process has loaded",
)
def test_no_other_libuv_is_loaded():
    program = (
        "import asyncfast\n"
        "asyncfast.new_event_loop().close()\n"
        "print(open('/proc/self/maps').read())"
    )
    loaded = run(sys.executable, "-c", program)
    assert "asyncfast/_core" in loaded
    assert "libuv" not in loaded


def test_no_name_of_libuv_leaves_the_extension():
    extension = ctypes.CDLL(_core.__file__)
    assert hasattr(extension, "PyInit__core")
    assert not hasattr(extension, "uv_run")


# The newcomer's path


def run(*command, **kwargs):
    """The standard output of a command, which must succeed."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT, **kwargs
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def programs(page):
    return re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


@pytest.fixture
def tutorial():
    return (CHECKOUT / "docs" / "tutorial.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tutorial, tmp_path):
    """A folder with the tutorial's files, each named by its first line."""
    for program in programs(tutorial):
        if name := re.match(r"# (\w+\.py)\n", program):
            (tmp_path / name[1]).write_text(program, encoding="utf-8")
    return tmp_path


def words_of(page, beginning):
    """The words of the one command of a page that begins so."""
    (line,) = re.findall(rf"^    ({re.escape(beginning)}.*)$", page, re.MULTILINE)
    return line.split()


def module(words, *more):
    """The command with this interpreter, whatever the PATH says."""
    program = words[1:] if words[0] == "python" else ["-m", *words]
    return [sys.executable, *program, *more]


def test_the_program_of_the_readme():
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    output = run(sys.executable, "-c", programs(readme)[0])
    assert "one second later, on <Loop" in output


def test_the_first_program(tutorial, folder):
    output = run(*module(words_of(tutorial, "python hello.py")), cwd=folder)
    assert output.splitlines()[-1] == "asyncfast"


def test_the_unchanged_program(tutorial, folder):
    command = words_of(tutorial, "python -m asyncfast unchanged.py")
    assert run(*module(command), cwd=folder) == "asyncfast\n"
    assert run(sys.executable, "unchanged.py", cwd=folder) != "asyncfast\n"


def test_the_web_application(tutorial, folder):
    command = words_of(tutorial, "uvicorn --loop")
    server = subprocess.Popen(
        module(command, "--uds", "web.sock"),
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in server.stderr:
            if "Uvicorn running" in line:
                break
        transport = httpx.HTTPTransport(uds=str(folder / "web.sock"))
        with httpx.Client(transport=transport, timeout=LIMIT) as client:
            answer = client.get("http://localhost/")
        assert answer.json() == {"loop": "asyncfast"}
    finally:
        server.terminate()
        server.communicate(timeout=LIMIT)


def test_the_tests(tutorial, folder):
    command = words_of(tutorial, "pytest --asyncfast")
    assert " passed" in run(*module(command), cwd=folder)
