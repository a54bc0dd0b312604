"""Builds asyncfast._core. Everything else about the package is in pyproject.toml.

What is built can be chosen by the environment:

    ASYNCFAST_DEBUG=1                       no optimisation, asserts on
    ASYNCFAST_SANITIZE=address,undefined    sanitizers, asserts on
    ASYNCFAST_WERROR=1                      warnings are errors
    ASYNCFAST_POLLER=uv                     the portable descriptor poller
                                            (default: epoll on Linux, else uv)
    ASYNCFAST_LIBUV_CFLAGS, ASYNCFAST_LIBUV_LIBS
                                            a libuv that pkg-config cannot find
    ASYNCFAST_LIBUV_PREFIX=FOLDER           a static libuv that becomes part of the
                                            extension (tools/libuv.sh makes one)
    CC, CFLAGS, LDFLAGS, PKG_CONFIG         as everywhere
"""

import glob
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

LIBUV_MINIMUM = "1.44"

HOW_TO_INSTALL = f"""\
asyncfast needs a C compiler, the Python headers, pkg-config and libuv >= {LIBUV_MINIMUM}:

    Debian, Ubuntu   apt-get install build-essential python3-dev pkg-config libuv1-dev
    Fedora           dnf install gcc python3-devel pkgconf-pkg-config libuv-devel
    Alpine           apk add build-base python3-dev pkgconf libuv-dev
    macOS            xcode-select --install && brew install pkgconf libuv
"""

COMMON_FLAGS = [
    "-std=c11",
    "-fvisibility=hidden",
    "-iquote",
    "src",
    "-Wall",
    "-Wextra",
]


def stop(problem, advice=HOW_TO_INSTALL):
    # SystemExit, because a traceback would bury the one line that helps.
    raise SystemExit(f"\nCannot build asyncfast: {problem}\n\n{advice}")


def switched_on(name):
    return os.environ.get(name, "") not in ("", "0")


# What the machine must have


def check_interpreter():
    if sys.implementation.name != "cpython":
        stop(
            f"{sys.implementation.name} is not supported.",
            "asyncfast is written against CPython's own C API.\n",
        )
    if sys.platform == "win32":
        stop("Windows is not supported.", "asyncfast runs on Linux and macOS.\n")
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        stop(
            "free-threaded CPython is not supported yet.",
            "asyncfast relies on the GIL. Use a default build of CPython "
            "(python3.X, not python3.Xt).\n",
        )
    headers = {sysconfig.get_path("include"), sysconfig.get_path("platinclude")}
    if not any(os.path.exists(os.path.join(path, "Python.h")) for path in headers):
        version = ".".join(map(str, sys.version_info[:2]))
        stop(f"the headers of Python {version} (Python.h) are missing.")


def find_compiler():
    """The command of a C compiler that exists, as a list."""
    named = os.environ.get("CC")
    built_with = sysconfig.get_config_var("CC") or "cc"
    for command in [named] if named else [built_with, "cc", "gcc", "clang"]:
        words = shlex.split(command)
        if shutil.which(words[0]):
            if command != built_with:
                os.environ["CC"] = command
            return words
    stop(f"no C compiler was found (tried {named or built_with}).")


def pkg_config(*args):
    tool = os.environ.get("PKG_CONFIG", "pkg-config")
    return subprocess.run([tool, *args, "libuv"], capture_output=True, text=True)


def libuv_prefix():
    """The folder of a static libuv to link in, or None."""
    folder = os.environ.get("ASYNCFAST_LIBUV_PREFIX")
    if folder and not os.path.exists(os.path.join(folder, "lib", "libuv.a")):
        stop(f"ASYNCFAST_LIBUV_PREFIX={folder}: has no lib/libuv.a.", "")
    return folder


def static_libuv(folder):
    """The flags for the libuv of a folder, none of whose names leave the extension:
    another extension of the process may bring a libuv of its own.
    """
    libs = [os.path.join(folder, "lib", "libuv.a"), "-lpthread", "-ldl"]
    if sys.platform == "darwin":
        hide = ["-Wl,-exported_symbol,_PyInit__core"]
    else:
        hide = ["-lrt", "-Wl,--exclude-libs,libuv.a"]
    return ["-I" + os.path.join(folder, "include")], libs + hide


def find_libuv():
    """The flags that compile and link against libuv."""
    if folder := libuv_prefix():
        return static_libuv(folder)
    cflags = os.environ.get("ASYNCFAST_LIBUV_CFLAGS")
    libs = os.environ.get("ASYNCFAST_LIBUV_LIBS")
    if libs is not None:
        return shlex.split(cflags or ""), shlex.split(libs)
    try:
        version = pkg_config("--modversion")
    except OSError:
        stop("pkg-config, which finds libuv, is missing.")
    if version.returncode != 0:
        stop("libuv was not found (pkg-config knows no libuv).")
    if pkg_config(f"--atleast-version={LIBUV_MINIMUM}").returncode != 0:
        stop(f"libuv {version.stdout.strip()} is too old.")
    return (
        shlex.split(pkg_config("--cflags").stdout),
        shlex.split(pkg_config("--libs").stdout),
    )


# How it is compiled


def links_with(compiler, flags):
    """Whether the tool chain can link with these flags (LTO needs a plugin)."""
    with tempfile.TemporaryDirectory() as folder:
        source = os.path.join(folder, "probe.c")
        with open(source, "w") as file:
            file.write("int probe(void) { return 0; }\n")
        command = [*compiler, *flags, "-fPIC", "-shared", source, "-o", source + ".so"]
        try:
            return subprocess.run(command, capture_output=True).returncode == 0
        except OSError:
            return False


def link_time_optimisation(compiler):
    for flag in ("-flto=auto", "-flto"):
        if links_with(compiler, ["-Werror", flag]):
            return [flag]
    return []


def hardening(compiler):
    """(compiler flags, linker flags) that turn an overflow that a peer might cause
    into an end of the process, as far as the tool chain knows them.
    """
    # Nothing is bound late (-z now below), so no call needs a stub (-fno-plt), which
    # pays for the checks.
    checks = ["-fstack-protector-strong", "-fstack-clash-protection", "-fno-plt"]
    cflags = [flag for flag in checks if links_with(compiler, ["-Werror", flag])]
    # Undefined first: distributions define it on the command line or in gcc itself.
    cflags += ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"]
    fixed = ["-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack"]
    return cflags, [flag for flag in fixed if links_with(compiler, [flag])]


def build_flags(compiler):
    """(compiler flags, linker flags) of the kind of build that was asked for."""
    sanitizers = os.environ.get("ASYNCFAST_SANITIZE", "")
    if sanitizers:
        flags = [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
        return ["-O1", "-g", "-fno-omit-frame-pointer", "-UNDEBUG", *flags], flags
    if switched_on("ASYNCFAST_DEBUG"):
        return ["-O0", "-g3", "-UNDEBUG"], []
    lto = link_time_optimisation(compiler)
    checks, fixed = hardening(compiler)
    return ["-O3", "-DNDEBUG", *lto, *checks], ["-O3", *lto, *fixed]


def poller_flags():
    poller = os.environ.get("ASYNCFAST_POLLER", "")
    if poller not in ("", "epoll", "uv"):
        stop(f"ASYNCFAST_POLLER={poller}: must be epoll or uv.", "")
    if poller == "epoll" and not sys.platform.startswith("linux"):
        stop("ASYNCFAST_POLLER=epoll: only Linux has epoll.", "")
    return ["-DAF_POLLER_UV"] if poller == "uv" else []


def configure(extension):
    check_interpreter()
    compiler = find_compiler()
    libuv_cflags, libuv_libs = find_libuv()
    cflags, ldflags = build_flags(compiler)
    werror = ["-Werror"] if switched_on("ASYNCFAST_WERROR") else []
    extension.define_macros = [("AF_BUILD_FLAGS", f'"{" ".join(cflags)}"')]
    extension.extra_compile_args = [
        *COMMON_FLAGS,
        *cflags,
        *werror,
        *poller_flags(),
        *libuv_cflags,
    ]
    extension.extra_link_args = [*ldflags, *libuv_libs]


def compile_side_by_side(compiler):
    """One extension of many files: distutils would compile them one by one."""
    compile_all = compiler.compile

    def compile_each(sources, *args, **kwargs):
        def compile_one(source):
            return compile_all([source], *args, **kwargs)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return sum(pool.map(compile_one, sources), [])

    compiler.compile = compile_each


class BuildExt(build_ext):
    def run(self):
        # Here and not at import, so that an sdist can be made without libuv.
        for extension in self.extensions:
            configure(extension)
        self.force = self.force or self.options_changed()
        super().run()
        self.remember_options()

    def build_extensions(self):
        compile_side_by_side(self.compiler)
        super().build_extensions()

    # distutils rebuilds when a file is newer, and knows nothing of flags.

    def options(self):
        lines = [sys.version, os.environ.get("CC", "")]
        for extension in self.extensions:
            lines += extension.extra_compile_args + extension.extra_link_args
        return "\n".join(lines)

    def options_file(self):
        return os.path.join(self.build_temp, "options")

    def options_changed(self):
        try:
            with open(self.options_file()) as file:
                return file.read() != self.options()
        except FileNotFoundError:
            return True

    def remember_options(self):
        os.makedirs(self.build_temp, exist_ok=True)
        with open(self.options_file(), "w") as file:
            file.write(self.options())


# What a wheel says of the libuv in it


def version_of_headers(folder):
    with open(os.path.join(folder, "include", "uv", "version.h")) as file:
        text = file.read()
    numbers = (
        re.search(rf"define UV_VERSION_{part} (\d+)", text).group(1)
        for part in ("MAJOR", "MINOR", "PATCH")
    )
    return ".".join(numbers)


def bill_of_materials(name, version, libuv):
    """What the wheel is made of, in CycloneDX's form."""
    wheel = f"pkg:pypi/{name}@{version}"
    part = f"pkg:generic/libuv@{libuv}"
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library",
                "bom-ref": wheel,
                "name": name,
                "version": version,
                "purl": wheel,
                "licenses": [{"license": {"id": "MIT"}}],
            }
        },
        "components": [
            {
                "type": "library",
                "bom-ref": part,
                "name": "libuv",
                "version": libuv,
                "purl": part,
                # Two of its files were written elsewhere, as LICENSE-extra says.
                "licenses": [{"expression": "MIT AND BSD-2-Clause AND ISC"}],
                "externalReferences": [
                    {"type": "website", "url": "https://libuv.org/"}
                ],
            }
        ],
        "dependencies": [
            {"ref": wheel, "dependsOn": [part]},
            {"ref": part, "dependsOn": []},
        ],
    }


class BdistWheel(bdist_wheel):
    def write_wheelfile(self, wheelfile_base, *args, **kwargs):
        # The last that happens to the folder of metadata before it is packed.
        super().write_wheelfile(wheelfile_base, *args, **kwargs)
        if folder := libuv_prefix():
            self.tell_of_libuv(folder, wheelfile_base)

    def tell_of_libuv(self, folder, metadata):
        """Adds libuv's licence, which asks for it, and a list of parts (PEP 770)."""
        shutil.copytree(
            os.path.join(folder, "licenses"), os.path.join(metadata, "licenses/libuv")
        )
        project = self.distribution.metadata
        parts = bill_of_materials(
            project.get_name(), project.get_version(), version_of_headers(folder)
        )
        os.makedirs(os.path.join(metadata, "sboms"))
        with open(os.path.join(metadata, "sboms/libuv.cdx.json"), "w") as file:
            json.dump(parts, file, indent=2)


setup(
    ext_modules=[
        Extension(
            "asyncfast._core",
            sources=sorted(glob.glob("src/*/*.c")),
            depends=[*sorted(glob.glob("src/*/*.h")), "setup.py"],
        )
    ],
    cmdclass={"bdist_wheel": BdistWheel, "build_ext": BuildExt},
)
