#!/usr/bin/env bash
# Builds the sdist and, out of it, a wheel with libuv inside, in build/package, and
# tries the wheel in an environment of its own. For Linux.
#
#   tools/package.sh [SOURCE]
#
# SOURCE is an unpacked source of libuv; without, tools/libuv.sh downloads the
# release that published wheels get.

cd "$(dirname "$0")/.."
. tools/common.sh

FOLDER=$PWD/build/package
PYTHON=$PWD/.venv/bin/python

build_sdist() {
    say "Building the sdist"
    "$PYTHON" -c 'import sys
from setuptools import build_meta
build_meta.build_sdist(sys.argv[1])' "$FOLDER" >"$FOLDER/sdist.log" 2>&1 \
        || { cat "$FOLDER/sdist.log"; return 1; }
}

# Offline: whoever builds a distribution's package has no index to ask.
build_wheel() {
    say "Building a wheel out of it"
    ASYNCFAST_LIBUV_PREFIX=$FOLDER/libuv "$PYTHON" -m pip wheel --quiet --no-index \
        --no-deps --no-build-isolation --wheel-dir "$FOLDER" "$FOLDER"/*.tar.gz
}

# A library that not every Linux has would be copied into the wheel; that there was
# none to copy is for tests/installed.py to see.
repair_wheel() {
    say "Naming it after the systems it runs on"
    PATH=$PWD/.venv/bin:$PATH auditwheel repair --strip \
        --wheel-dir "$FOLDER/wheelhouse" "$FOLDER"/*.whl
}

try_wheel() {
    say "Installing it into an environment of its own"
    "$PYTHON" -m venv "$FOLDER/venv"
    "$FOLDER/venv/bin/python" -m pip install --quiet --upgrade "pip>=25.1"
    "$FOLDER/venv/bin/python" -m pip install --quiet --group newcomer \
        "$FOLDER"/wheelhouse/*.whl
    say "Trying it as a newcomer would"
    (
        cd "$FOLDER"
        venv/bin/python -m pytest -c /dev/null --noconftest -p no:cacheprovider \
            ../../tests/installed.py
    )
}

tools/setup.sh package
rm -rf "$FOLDER"
mkdir -p "$FOLDER"
tools/libuv.sh "$FOLDER/libuv" "$@"
build_sdist
build_wheel
repair_wheel
try_wheel
