#!/usr/bin/env bash
# Makes a folder with a static libuv, to be linked into the extension of a wheel.
#
#   tools/libuv.sh FOLDER              downloads and builds the release named below
#   tools/libuv.sh FOLDER SOURCE       builds the unpacked source in a folder instead
#
# The folder gets include/, lib/libuv.a and licenses/; setup.py is told of it by
# ASYNCFAST_LIBUV_PREFIX. The download is held against its hash. CMake and a C
# compiler are needed.

cd "$(dirname "$0")/.."
. tools/common.sh

VERSION=1.51.0
SHA256=5f0557b90b1106de71951a3c3931de5e0430d78da1d9a10287ebc7a3f78ef8eb
URL=https://dist.libuv.org/dist/v$VERSION/libuv-v$VERSION.tar.gz

# What makes it fit for a wheel: one archive, of code that a shared object can hold.
CMAKE_OPTIONS=(
    -DCMAKE_BUILD_TYPE=Release
    -DCMAKE_POSITION_INDEPENDENT_CODE=ON
    -DLIBUV_BUILD_SHARED=OFF
    -DBUILD_TESTING=OFF
)

sha256_of() {
    if have sha256sum; then
        sha256sum "$1"
    else
        shasum -a 256 "$1"
    fi | cut -d ' ' -f 1
}

download() { # folder to unpack it into
    local file=$1.tar.gz
    say "Downloading $URL"
    curl --fail --silent --show-error --location --retry 3 --output "$file" "$URL"
    [ "$(sha256_of "$file")" = "$SHA256" ] \
        || die "$URL has another hash than it had: $(sha256_of "$file")."
    mkdir "$1"
    tar -xzf "$file" -C "$1" --strip-components 1
}

build() { # source, folder to build it in
    have cmake || die "CMake, which builds libuv, is missing."
    say "Building libuv"
    cmake -S "$1" -B "$2" "${CMAKE_OPTIONS[@]}" && cmake --build "$2" --target uv_a
}

gather() { # source, folder it was built in, folder to fill
    rm -rf "$3"
    mkdir -p "$3/lib" "$3/licenses"
    cp -R "$1/include" "$3/include"
    cp "$2/libuv.a" "$3/lib/libuv.a"
    cp "$1/LICENSE" "$1/LICENSE-extra" "$3/licenses"
}

case $# in
1 | 2) ;;
*) die "usage: tools/libuv.sh FOLDER [SOURCE]" ;;
esac

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
SOURCE=${2:-$WORK/source}
[ $# -eq 2 ] || download "$SOURCE"
build "$SOURCE" "$WORK/build" >"$WORK/log" 2>&1 \
    || { cat "$WORK/log" >&2; die "libuv could not be built."; }
gather "$SOURCE" "$WORK/build" "$1"
