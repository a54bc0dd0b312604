# shellcheck shell=bash
# common.sh -- what the other scripts share. Sourced, never run.
# Kept to what bash 3.2 knows, which is the bash of macOS.

set -euo pipefail
shopt -s inherit_errexit 2>/dev/null || true

say() { printf '==> %s\n' "$*"; }

die() {
    printf '\nerror: %s\n' "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Asked of the interpreter itself: the name in PATH may be a shim that runs
# nothing, and headers and ensurepip are separate packages on some systems.
is_supported_python() {
    "$1" -c 'import sys
sys.exit(sys.version_info < (3, 10) or sys.implementation.name != "cpython")' \
        >/dev/null 2>&1
}

python_has_venv() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

python_has_headers() {
    "$1" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
        >/dev/null 2>&1
}

is_complete_python() {
    is_supported_python "$1" && python_has_venv "$1" && python_has_headers "$1"
}

# Prints the interpreter to work with: PYTHON where it is given, else one that
# needs nothing installed, else any that would do. Fails when there is none.
find_python() {
    local name
    if [ -n "${PYTHON:-}" ]; then
        is_supported_python "$PYTHON" \
            || die "PYTHON=$PYTHON does not run as CPython 3.10 or newer."
        echo "$PYTHON"
        return
    fi
    local names="python3 python3.13 python3.12 python3.11 python3.10"
    for name in $names; do
        if is_complete_python "$name"; then
            echo "$name"
            return
        fi
    done
    for name in $names; do
        if is_supported_python "$name"; then
            echo "$name"
            return
        fi
    done
    return 1
}

# The interpreter under an environment, or itself.
base_python() {
    "$1" -c 'import sys; print(getattr(sys, "_base_executable", sys.executable))'
}

# Whether a stamp holds exactly this text.
is_stamped() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }
