# shellcheck shell=bash
# shellcheck disable=SC2154  # the variables are set by examples/demo
# Packages, the build, and the installed tree that the examples are built against.
# Sourced by examples/demo.

built() {
    local what=$1 log=$2
    shift 2
    run_logged "$log" "$@" && return 0
    tail -n 30 "$log" >&2
    fail "$what; the whole log is $log"
}

# The tests are left out: the demo is about what is installed.
build_product() {
    local log=$base/build.log
    : >"$log"
    built "configuring Rowpost" "$log" cmake --preset release -S "$root" -B "$base/release" \
        -DOBX_BUILD_TESTS=OFF &&
        built "building Rowpost" "$log" cmake --build "$base/release" &&
        built "installing Rowpost" "$log" cmake --install "$base/release" --prefix "$prefix"
}

build_examples() {
    local log=$base/examples.log
    : >"$log"
    built "configuring the examples" "$log" cmake -G Ninja -S "$here" -B "$base/examples" \
        -DCMAKE_PREFIX_PATH="$prefix" &&
        built "building the examples" "$log" cmake --build "$base/examples"
}

build_all() {
    say "looking for missing Debian packages, and installing them"
    : >"$base/packages.log"
    built "packages" "$base/packages.log" bash "$root/tests/support/packages" || return 1
    say "  $(tail -n 1 "$base/packages.log")"
    # The driver of the service in Python; its client comes from this tree.
    built "packages" "$base/packages.log" bash "$root/tests/support/packages" --only python3-pymysql || return 1
    say "building Rowpost (preset release) and installing it into ${prefix#"$root"/}"
    # The preset is looked for in the current folder.
    cd "$root" && build_product || return 1
    say "building the example programs against what was installed"
    build_examples
}
