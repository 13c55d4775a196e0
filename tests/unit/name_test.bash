#!/usr/bin/env bash
# The product has one name. The earlier one, which somebody else's library has, is nowhere in the tree: not in a file, not in
# the name of one.
#
# usage: name_test.bash SOURCE_DIR
set -u -o pipefail
export LC_ALL=C

cd "${1:?}" || exit 1
old=once
old+=box
hits=$(
    grep -riIn --exclude-dir=build --exclude-dir=.git "$old" .
    find . \( -name build -o -name .git \) -prune -o -iname "*$old*" -print
)
if [ -n "$hits" ]; then
    printf 'the earlier name of the product stands in:\n%s\n' "$hits"
    exit 1
fi
echo '[       OK ] the earlier name is nowhere'
