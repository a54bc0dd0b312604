#!/usr/bin/env bash
# Sees to it that the system packages are there.
#
#   tools/packages.sh KIND...
#
#   build      compiler, libuv, Python with headers and venv
#   test       the standard library's own tests, which the suite runs
#   ecosystem  PostgreSQL, Redis, nginx, whose clients tests/ecosystem are
#   lint       clang, clang-tidy, cppcheck, shellcheck
#   fuzz       clang with libFuzzer
#   valgrind   valgrind
#   package    CMake, which builds the libuv of a wheel
#
# Where apt-get is, what is missing is installed, after saying what and why.
# Elsewhere the missing packages are named, and the script fails.

cd "$(dirname "$0")/.."
. tools/common.sh

# need            apt-get              dnf                 apk                brew
NAMES='
compiler          build-essential      gcc                 build-base         gcc
pkg-config        pkg-config           pkgconf-pkg-config  pkgconf            pkgconf
libuv             libuv1-dev           libuv-devel         libuv-dev          libuv
python            python3              python3             python3            python
python-venv       python3-venv         python3             python3            python
python-headers    python3-dev          python3-devel       python3-dev        python
python-tests      libpython3-testsuite python3-test        python3-tests      python
postgresql        postgresql           postgresql-server   postgresql         postgresql
redis             redis-server         redis               redis              redis
nginx             nginx-light          nginx               nginx              nginx
clang             clang                clang               clang              llvm
clang-tidy        clang-tidy           clang-tools-extra   clang-extra-tools  llvm
libfuzzer         libclang-rt-dev      compiler-rt         compiler-rt        llvm
shellcheck        shellcheck           ShellCheck          shellcheck         shellcheck
cppcheck          cppcheck             cppcheck            cppcheck           cppcheck
valgrind          valgrind             valgrind            valgrind           valgrind
cmake             cmake                cmake               cmake              cmake
'

NEEDS=()
REASONS=()

need() {
    NEEDS+=("$1")
    REASONS+=("$2")
}

# What each kind needs

has_compiler() {
    local name
    for name in ${CC:-cc gcc clang}; do
        have "$name" && return
    done
    return 1
}

has_libuv() {
    [ -n "${ASYNCFAST_LIBUV_LIBS:-}${ASYNCFAST_LIBUV_PREFIX:-}" ] && return
    "${PKG_CONFIG:-pkg-config}" --atleast-version=1.44 libuv 2>/dev/null
}

check_python() {
    local python
    if ! python=$(find_python); then
        [ -z "${PYTHON:-}" ] || exit 1
        need python "an interpreter, CPython 3.10 or newer"
        need python-venv "keeps what is installed inside this checkout"
        need python-headers "the C API that the extension is written in"
        return
    fi
    python_has_venv "$python" \
        || need python-venv "keeps what is installed inside this checkout"
    python_has_headers "$python" \
        || need python-headers "the C API that the extension is written in"
}

check_build() {
    has_compiler || need compiler "compiles the extension"
    have "${PKG_CONFIG:-pkg-config}" || need pkg-config "finds libuv"
    has_libuv || need libuv "the library under the loop, 1.44 or newer"
    check_python
}

check_test() {
    local python
    python=$(find_python) || return 0
    is_system_python "$python" || return 0
    "$python" -c 'import test.test_asyncio' >/dev/null 2>&1 \
        || need python-tests "CPython's own asyncio tests, which the suite runs"
}

has_server() { # name
    # Debian keeps these out of PATH.
    PATH=$PATH:/usr/sbin have "$1" || compgen -G "/usr/lib/postgresql/*/bin/$1" >/dev/null
}

check_ecosystem() {
    has_server initdb || need postgresql "a server for asyncpg and psycopg"
    has_server redis-server || need redis "a server for redis"
    has_server nginx || need nginx "a server for httpx and aiohttp"
}

check_lint() {
    have clang || need clang "the second compiler that must have no warnings"
    have clang-tidy || need clang-tidy "reads the C sources"
    have cppcheck || need cppcheck "reads the C sources"
    have shellcheck || need shellcheck "reads the scripts"
}

has_libfuzzer() {
    echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' \
        | clang -fsanitize=fuzzer,address -x c - -o /dev/null 2>/dev/null
}

check_fuzz() {
    have clang || need clang "compiles what is to be fuzzed"
    has_libfuzzer || need libfuzzer "finds inputs that reach new code"
}

check_valgrind() {
    have valgrind || need valgrind "finds memory errors and counts instructions"
}

check_package() {
    have cmake || need cmake "builds the libuv that a wheel brings"
}

check() {
    local kind
    NEEDS=()
    REASONS=()
    for kind in "$@"; do
        case $kind in
        build | test | ecosystem | lint | fuzz | valgrind | package) "check_$kind" ;;
        *) die "tools/packages.sh: no such kind: $kind" ;;
        esac
    done
    [ ${#NEEDS[@]} -eq 0 ]
}

# What they are called

is_system_python() {
    [ "$("$1" -c 'import sys; print(sys.base_prefix)')" = /usr ]
}

# The distribution packages venv, headers and tests once for each version.
for_this_version() {
    local python version
    if [[ $1 != *python3-* ]] || ! python=$(find_python); then
        echo "$1"
        return
    fi
    is_system_python "$python" \
        || die "$python lacks venv or its headers (Python.h), and no package" \
            "of this system adds them. Name another with PYTHON=..."
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    echo "${1/python3-/python$version-}"
}

package_of() { # need, column
    awk -v need="$1" -v column="$2" '$1 == need { print $column }' <<<"$NAMES"
}

packages() { # column
    local name
    for name in "${NEEDS[@]}"; do
        package_of "$name" "$1"
    done | sort -u | tr '\n' ' '
}

say_what_is_missing() {
    local i
    say "This machine lacks:"
    for i in "${!NEEDS[@]}"; do
        printf '      %-16s %s\n' "${NEEDS[$i]}" "${REASONS[$i]}"
    done
}

# How they are installed

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        die "root is needed for: $*"
    fi
}

install_with_apt() {
    local names=() name
    for name in $(packages 2); do
        name=$(for_this_version "$name") || exit 1
        names+=("$name")
    done
    say "Installing with apt-get: ${names[*]}"
    # Debian starts a server when it installs it; here only tests do, for a while.
    local apt=(env DEBIAN_FRONTEND=noninteractive SYSTEMD_OFFLINE=1 apt-get -qq
        -o DPkg::Lock::Timeout=300)
    # Their progress is long and says nothing; their errors still show.
    as_root "${apt[@]}" update >/dev/null
    as_root "${apt[@]}" install -y --no-install-recommends "${names[@]}" >/dev/null
}

say_how_to_install() {
    cat >&2 <<END

Install them, and start again:

    Debian, Ubuntu   apt-get install $(packages 2)
    Fedora           dnf install $(packages 3)
    Alpine           apk add $(packages 4)
    macOS            brew install $(packages 5)
END
    exit 1
}

if ! check "$@"; then
    say_what_is_missing
    have apt-get || say_how_to_install
    install_with_apt
    if ! check "$@"; then
        say_what_is_missing
        die "apt-get has no (new enough) package for the above."
    fi
fi
