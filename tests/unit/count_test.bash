#!/usr/bin/env bash
# Unit test of tests/support/count.awk: what "ctest -V" prints must be counted honestly, above all when
# a program dies.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../support" || exit 1
failures=0

# expect NAME WANTED < output of ctest
expect() {
    local got
    got=$(awk -f count.awk)
    if [ "$got" != "$2" ]; then
        printf 'FAILED: %s\n--- wanted\n%s\n--- got\n%s\n' "$1" "$2" "$got"
        failures=$((failures + 1))
    fi
}

expect "all pass" "total 2 0 0" <<'END'
1: [==========] Running 2 test(s).
1: [ RUN      ] a
1: [       OK ] a
1: [ RUN      ] b
1: [       OK ] b
1: [==========] 2 test(s) run.
1: [  PASSED  ] 2 test(s).
1/1 Test #1: first_test .......................   Passed    0.07 sec
END

expect "the list of failed cases at the end is not counted again" \
    "failed: first_test: b ***Failed    0.07 sec
total 1 1 0" <<'END'
1: [==========] tests: Running 2 test(s).
1: [ RUN      ] a
1: [       OK ] a
1: [ RUN      ] b
1: [  ERROR   ] --- 0x1 != 0x2
1: [  FAILED  ] b
1: [==========] 2 test(s) run.
1: [  PASSED  ] 1 test(s).
1: [  FAILED  ] 1 test(s), listed below:
1: [  FAILED  ] b
1:  1 FAILED TEST(S)
1/1 Test #1: first_test .......................***Failed    0.07 sec
END

expect "a program that dies loses the case it was in and those after it" \
    "failed: first_test: b (2 never run) ***Exception: SegFault  0.07 sec
total 1 3 0" <<'END'
1: [==========] Running 4 test(s).
1: [ RUN      ] a
1: [       OK ] a
1: [ RUN      ] b
1/1 Test #1: first_test .......................***Exception: SegFault  0.07 sec
END

expect "a program that leaves with status 0 in the middle of a case has failed" \
    "failed: first_test: a (1 never run) 
total 0 2 0" <<'END'
1: [==========] Running 2 test(s).
1: [ RUN      ] a
1/1 Test #1: first_test .......................   Passed    0.07 sec
END

expect "a failure after the last case, such as a leak, is a failure" \
    "failed: first_test: ***Failed    0.07 sec
total 1 1 0" <<'END'
1: [==========] Running 1 test(s).
1: [ RUN      ] a
1: [       OK ] a
1: [==========] 1 test(s) run.
1: ERROR: LeakSanitizer: detected memory leaks
1/1 Test #1: first_test .......................***Failed    0.07 sec
END

expect "programs side by side, skipped cases, a script, one that times out" \
    "failed: third_test: c ***Timeout  60.01 sec
total 3 1 1" <<'END'
2: [==========] Running 2 test(s).
1: plain script says hello
3: [==========] Running 1 test(s).
2: [ RUN      ] a
3: [ RUN      ] c
2: noise without an end of line [       OK ] a
2: [ RUN      ] b
2: [  SKIPPED ] b
1/3 Test #1: script_test ......................   Passed    0.01 sec
2: [==========] Running 1 test(s).
2: [ RUN      ] again
2: [       OK ] again
2/3 Test #2: second_test ......................   Passed    0.02 sec
3/3 Test #3: third_test .......................***Timeout  60.01 sec
END

expect "a program that was not built" \
    "failed: first_test: ***Not Run   0.00 sec
total 0 1 0" <<'END'
1/1 Test #1: first_test .......................***Not Run   0.00 sec
END

[ $failures = 0 ] && echo "7 outputs counted right"
exit $((failures > 0))
