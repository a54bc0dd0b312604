#!/usr/bin/env bash
# Reads the sources and changes nothing.
#
#   tools/lint.sh [format|python|types|shell|cppcheck|tidy|analyzer]...
#                                                          default: all of them
#
# Called by `make lint`, which sets up the tools.

cd "$(dirname "$0")/.."
. tools/common.sh

BIN=.venv/bin
CORES=$(getconf _NPROCESSORS_ONLN)

lint_format() {
    "$BIN/clang-format" --dry-run -Werror src/*/*.c src/*/*.h tests/faults/*.c \
        || die "make format would put this right."
}

lint_python() {
    "$BIN/ruff" check .
    "$BIN/ruff" format --check . || die "make format would put this right."
}

# Holds the stub of the extension, its docstrings and its code together.
lint_types() {
    local allowlist=()
    if [ -f tools/stubtest-allowlist.txt ]; then
        allowlist=(--allowlist tools/stubtest-allowlist.txt)
    fi
    "$BIN/python" -m mypy
    "$BIN/python" -m mypy.stubtest asyncfast \
        --mypy-config-file pyproject.toml ${allowlist[@]+"${allowlist[@]}"}
}

lint_shell() {
    shellcheck -x tools/*.sh .ci/run
}

cppcheck_as() { # CPython version, further definitions
    cppcheck --quiet --error-exitcode=1 -j "$CORES" \
        --std=c11 --language=c --inline-suppr \
        --library=posix --library=python --library=tools/cppcheck-cpython.cfg \
        --enable=warning,performance,portability,information \
        --suppress=missingInclude --suppress=missingIncludeSystem \
        --suppress=checkersReport --suppress=normalCheckLevelMaxBranches \
        --suppress=unmatchedSuppression \
        -D__linux__ -DNDEBUG -DPY_VERSION_HEX="$1" "${@:2}" -I src src
}

# It reads no system headers, so it is told the version: without, it meets an
# #error and skips the file, which only the kind "information" would tell.
lint_cppcheck() {
    cppcheck_as 0x030a0000 -DAF_POLLER_UV
    cppcheck_as 0x030d0000
}

# One compiler run a file, as many at a time as there are cores, and silent
# unless something is found.

c_flags() {
    echo -std=c11 -iquote src -Wall -Wextra
    "$BIN/python" -c 'import sysconfig
print("-isystem", sysconfig.get_path("include"))'
    pkg-config --cflags libuv
}

run_silently() {
    local output
    if ! output=$("$@" 2>&1); then
        printf '%s\n' "$output"
        return 1
    fi
}

# shellcheck disable=SC2086
read_file() { # reader, file
    case $1 in
    # Counts, for every file, the warnings that it does not show.
    tidy) run_silently clang-tidy --quiet "$2" -- $C_FLAGS ;;
    analyzer) run_silently gcc $C_FLAGS -fanalyzer -Werror -O1 -c "$2" -o /dev/null ;;
    esac
}

read_files() { # reader
    C_FLAGS=$(c_flags | tr '\n' ' ')
    export C_FLAGS
    printf '%s\n' src/*/*.c | xargs -P "$CORES" -n 1 tools/lint.sh --read "$1"
}

lint_tidy() { read_files tidy; }

lint_analyzer() { read_files analyzer; }

if [ "${1:-}" = --read ]; then
    read_file "$2" "$3"
    exit
fi

PARTS="format python types shell cppcheck tidy analyzer"

# shellcheck disable=SC2086
[ $# -gt 0 ] || set -- $PARTS
for part in "$@"; do
    [[ " $PARTS " == *" $part "* ]] || die "tools/lint.sh: no such part: $part"
    say "Lint: $part"
    "lint_$part"
done
