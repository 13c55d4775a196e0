#!/usr/bin/env bash
# Installs the build tree into a folder, moves the folder, and uses every installed library from there
# as a stranger would: by pkg-config from C and C++, and by its CMake package.
# usage: install_test.bash BUILD_FOLDER [SANITIZERS]
set -u -o pipefail
export LC_ALL=C
build=$1 flags=${2:+-fsanitize=$2}

die() {
    printf 'install_test: %s\n' "$*" >&2
    exit 1
}

work=$(mktemp -d "${TMPDIR:-/tmp}/obx-install-XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
cmake --install "$build" --prefix "$work/first" >"$work/log" 2>&1 || { cat "$work/log"; die "cmake --install"; }
mv "$work/first" "$work/moved"
for file in bin/outbox-relay bin/outboxctl bin/inbox-relay lib/systemd/system/inbox-relay.service lib/systemd/system/outbox-relay.service \
    share/doc/rowpost/outbox-relay.conf.example share/doc/rowpost/sidecar.yaml \
    share/doc/rowpost/inbox-relay.conf.example share/doc/rowpost/grants.md; do
    [ -s "$work/moved/$file" ] || die "$file was not installed"
done
program=$(sed -n 's,^ExecStart=\(/[^ @]*\) --config /.*,\1,p' "$work/moved/lib/systemd/system/outbox-relay.service")
case $program in
/*/outbox-relay) ;;
*) die "the systemd unit starts '$program'" ;;
esac
mapfile -t pcs < <(find "$work/moved" -name '*.pc')
[ ${#pcs[@]} -gt 0 ] || die "no .pc file was installed"
leaked=$(grep -rIl -e "$work/first" -e "$build" "$work/moved")
[ -z "$leaked" ] || die "installed files name the build folder or the prefix: $leaked"

# A program that includes every header of the package and calls nothing.
write_program() {
    local header
    (cd "$work/moved/include" && find . -name '*.h') | sed 's,^\./,,' | sort | while read -r header; do
        echo "#include <$header>"
    done
    echo 'int main(void) { return 0; }'
}
write_program >"$work/use.c"
cp "$work/use.c" "$work/use.cpp"
grep -q include "$work/use.c" || die "no header was installed"

use_pkg_config() {
    local name=$1 words
    words=$(PKG_CONFIG_PATH="$(dirname "$2")" pkg-config --cflags --libs "$name") || die "pkg-config $name"
    # shellcheck disable=SC2086
    gcc $flags -std=c11 -Wall -Wextra -Wpedantic -Werror "$work/use.c" -o "$work/use" -Wl,--no-as-needed $words ||
        die "a C program with $name.pc"
    # shellcheck disable=SC2086
    g++ $flags -std=c++11 -Wall -Wextra -Wpedantic -Werror "$work/use.cpp" -o "$work/use-cpp" $words ||
        die "a C++ program with $name.pc"
    LD_LIBRARY_PATH=$(dirname "$(dirname "$2")") "$work/use" || die "the program with $name does not run"
}

use_cmake() {
    local name=$1 target=$2
    mkdir -p "$work/cmake-$name"
    cat >"$work/cmake-$name/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.22)
project(use C)
find_package($name 1.0 REQUIRED CONFIG)
add_executable(use ../use.c)
target_link_libraries(use PRIVATE $target)
END
    if ! cmake -G Ninja -S "$work/cmake-$name" -B "$work/cmake-$name/build" -DCMAKE_PREFIX_PATH="$work/moved" \
        -DCMAKE_C_FLAGS="$flags" >"$work/log" 2>&1 ||
        ! cmake --build "$work/cmake-$name/build" >>"$work/log" 2>&1; then
        cat "$work/log"
        die "find_package($name)"
    fi
    "$work/cmake-$name/build/use" || die "the program built with find_package($name) does not run"
}

# Only what is meant to be seen: no symbol without the prefix.
check_symbols() {
    local library=$1 others
    others=$(nm -D --defined-only "$library" | awk '{ print $NF }' | grep -v '^obx_' |
        grep -vE '^(__asan|__ubsan|__tsan|__odr|__gcov|mangle_path)')
    [ -z "$others" ] || die "$library exports $others"
}

for pc in "${pcs[@]}"; do
    name=$(basename "$pc" .pc)
    use_pkg_config "$name" "$pc"
    targets=$(find "$work/moved" -name "$name-targets.cmake")
    target=$(sed -n 's/^add_library(\(obx::[a-z_]*\) .*/\1/p' "$targets" | head -n 1)
    use_cmake "$name" "${target:?}"
    check_symbols "$(dirname "$(dirname "$pc")")/lib$name.so"
    echo "$name: works by pkg-config from C and C++, and by CMake as $target"
done
