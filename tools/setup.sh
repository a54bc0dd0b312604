#!/usr/bin/env bash
# Makes this checkout ready to run, in .venv and in place.
#
#   tools/setup.sh [GROUP...]      groups as in pyproject.toml
#
# System packages when missing, a virtual environment, the Python packages of
# the groups, the extension. What is done already is left alone, so a second
# call is quick. PYTHON=... chooses the interpreter; setup.py says what the
# build can be told.

cd "$(dirname "$0")/.."
. tools/common.sh

VENV=.venv

system_packages() {
    local kinds=build group
    for group in "$@"; do
        case $group in
        test | ecosystem | lint | package) kinds="$kinds $group" ;;
        esac
    done
    # shellcheck disable=SC2086
    tools/packages.sh $kinds
}

# The environment

identity() {
    "$1" -c 'import sys; print(sys.base_prefix, sys.version)' 2>/dev/null
}

has_environment() {
    is_supported_python "$VENV/bin/python" || return 1
    [ -f "$VENV/stamp-environment" ] || return 1
    [ -z "${PYTHON:-}" ] && return
    [ "$(identity "$PYTHON")" = "$(identity "$VENV/bin/python")" ]
}

make_environment() {
    has_environment && return
    local python
    python=$(find_python) || exit 1
    # Never with the environment that is about to be replaced.
    python=$(base_python "$python")
    say "Making a virtual environment in $VENV ($("$python" -V))"
    "$python" -m venv --clear "$VENV"
    # Dependency groups came with pip 25.1.
    "$VENV/bin/python" -m pip install --quiet --upgrade "pip>=25.1"
    echo "$PWD" >"$("$VENV/bin/python" -c \
        'import sysconfig; print(sysconfig.get_path("purelib"))')/checkout.pth"
    touch "$VENV/stamp-environment"
}

has_group() {
    is_stamped "$VENV/stamp-group-$1" "$(cksum pyproject.toml)"
}

install_group() {
    has_group "$1" && return
    say "Installing the Python packages of the group '$1' into $VENV"
    # Of all that pip says, what it installed.
    "$VENV/bin/python" -m pip install --progress-bar off --group "$1" \
        | sed -n 's/^Successfully installed/     /p'
    cksum pyproject.toml >"$VENV/stamp-group-$1"
}

# The extension

# Contents and not times: a checkout of another branch may bring older files.
build_fingerprint() {
    env | grep -E '^(ASYNCFAST_(DEBUG|SANITIZE|WERROR|POLLER|LIBUV_.*)|CC|CFLAGS|CPPFLAGS|LDFLAGS|PKG_CONFIG.*)=' \
        | sort || true
    cksum setup.py src/*/*.c src/*/*.h
}

is_built() {
    compgen -G 'asyncfast/_core.*.so' >/dev/null \
        && is_stamped "$VENV/stamp-built" "$(build_fingerprint)"
}

build() {
    is_built && return
    say "Building the extension"
    rm -f "$VENV/stamp-built"
    "$VENV/bin/python" setup.py --quiet build_ext --inplace --force
    build_fingerprint >"$VENV/stamp-built"
}

is_ready() {
    local group
    has_environment || return 1
    for group in "$@"; do
        has_group "$group" || return 1
    done
    is_built
}

set -- build "$@"
if ! is_ready "$@"; then
    system_packages "$@"
    make_environment
    for group in "$@"; do
        install_group "$group"
    done
    build
fi
