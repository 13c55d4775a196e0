#!/usr/bin/env bash
# Every crash point of the source stands in points.txt, and nothing else does; a test that a point is left to is there.
# usage: points_list_test.bash SOURCE_FOLDER
set -u -o pipefail
export LC_ALL=C
cd "$1" || exit 1
listed=$(grep -v '^#' tests/crash/points.txt | awk 'NF { print $1 }' | sort)
coded=$(grep -rhoE 'OBX_CRASH_POINT\("[a-z0-9-]+"\)' base outbox-relay consumer-lib broker-bridge sql examples |
    cut -d'"' -f2 | sort -u)
rc=0
if ! diff <(echo "$listed") <(echo "$coded"); then
    echo "points_list_test: < stands in tests/crash/points.txt only, > in the source only" >&2
    rc=1
fi
while read -r file; do
    [ -f "$file" ] || { echo "points_list_test: there is no $file" >&2; rc=1; }
done < <(grep -v '^#' tests/crash/points.txt | awk '$3 ~ /\// { print $3 }' | sort -u)
[ -n "$listed" ] || rc=1
exit $rc
