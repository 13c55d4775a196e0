#!/usr/bin/env bash
# tests/evidence counts what programs print, fails when something failed or an audit found damage, and invents nothing.
#
# usage: evidence_test.bash SOURCE_DIR
set -u -o pipefail
export LC_ALL=C
evidence=${1:?}/tests/evidence
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

die() {
    printf 'evidence_test: %s\n' "$*" >&2
    cat "$work/page" >&2
    exit 1
}

# A folder that looks like a clone after a run.
mkdir -p "$work/tests" "$work/build/run"
cp "$evidence" "$work/tests/evidence"
echo '0123456789abcdef0123456789abcdef01234567 2 2026-12-01' >"$work/build/run/commit"
cat >"$work/build/run/dev-crash.log" <<'LOG'
      Start  7: crash_random_kill_test
7: [ RUN      ] books_are_in_order_after_kills_and_silence
7:    2.4 s  kill -9 relay 1
7:    8.2 s  kill -9 database 0
7:   10.0 s  back: database 0
7:   24.8 s  SIGSTOP relay 1
7:   37.2 s  silent line to the database: relay 1
7: audit: committed=1200 applied=1200 lost=0 doubled=0 ghosts=0 disorder=0 outbox=0 parked=0 queued=0 dead=0: clean
7: [       OK ] books_are_in_order_after_kills_and_silence
      Start  8: crash_points_test
8: [       OK ] lane-settled
8: [       OK ] lane-settled, database
LOG
cat >"$work/build/run/dev-unit.log" <<'LOG'
      Start  1: lane_sim_test
1: evidence: worlds=600
1: model inbox one_order -DNO_BLOCK: fails, 1.5e+03 states
1: [       OK ] every_world_ends_well
LOG

expect() {
    grep -qxF "$1" "$work/page" || die "no line: $1"
}

"$work/tests/evidence" --out "$work/page" || die "it fails though all went well"
expect '| a program is killed (SIGKILL) | 1 |'
expect '| a server is killed (SIGKILL) | 1 |'
expect '| a line falls silent: nothing arrives, nothing is closed | 1 |'
expect '| the program is killed at a named point of the code | 1 |'
expect '| the database is killed while a program stands at a named point | 1 |'
expect '| messages committed | 1,200 |'
expect '| lost | 0 |'
expect '| inbox | one_order | block | fails | 1,500 |'
# shellcheck disable=SC2016  # the page has them
expect '| commit | `0123456789ab, with 2 files changed` |'
expect '| dev | 4 | 0 | 0 |'
! grep -q 'fuzz' "$work/page" || die "it speaks of fuzzing that nobody did"

sed -i 's/ghosts=0 \(.*\): clean/ghosts=1 \1: DAMAGE/' "$work/build/run/dev-crash.log"
! "$work/tests/evidence" --out "$work/page" || die "damage is no failure"
expect '| ghosts | 1 |'
expect '| audits that found damage | 1 |'
printf '9: [  FAILED  ] something\n' >>"$work/build/run/dev-crash.log"
! "$work/tests/evidence" --out "$work/page" || die "a failed case is no failure"
grep -q 'something' "$work/page" || die "the failed case is not named"
echo '[       OK ] evidence is what the logs say'
