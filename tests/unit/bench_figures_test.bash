#!/usr/bin/env bash
# Unit test of tests/bench/lib/figures.bash: turns, medians, lines and rows. A benchmark that counts wrongly
# misleads for years.
# shellcheck disable=SC2034,SC2317  # what the library reads and calls
set -u -o pipefail
export LC_ALL=C
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT
mkdir "$out/results"
is_smoke=no
# shellcheck source=tests/bench/lib/figures.bash
. "$(dirname "${BASH_SOURCE[0]}")/../bench/lib/figures.bash"
failures=0 cases=0

# expect WHAT WANTED GOT
expect() {
    cases=$((cases + 1))
    if [ "$2" != "$3" ]; then
        printf 'FAILED: %s\n--- wanted\n%s\n--- got\n%s\n' "$1" "$2" "$3"
        failures=$((failures + 1))
    fi
}

# quiet COMMAND...: without what it says on standard error.
quiet() {
    "$@" 2>/dev/null
}

expect "the median of an odd count" 3.000000 "$(median 10 1 3)"
expect "the median of an even count is between the two in the middle" 2.500000 "$(median 4 1 2 3)"
expect "numbers are not sorted as text" "9 10" "$(min 10 9) $(max 10 9)"
expect "numbers as a person reads them" "12850 48.3 0.934" "$(tidy 12849.7) $(tidy 48.26) $(tidy 0.9341)"
expect "a target is judged by the value, not by the printed one" "missed reached reached missed" \
    "$(verdict 0.8996 'at least 0.90') $(verdict 0.90 'at least 0.90') $(verdict 4 'at most 4.06 (2 x)') \
$(verdict 4.07 'at most 4.06 (2 x)')"

# Two functions that know how often they were called; who came first is written down.
step() {
    printf '%s' "$1" >>"$out/order"
    echo $(($(grep -o "$1" "$out/order" | wc -l) * $2))
}
ours() {
    step a 30
}
theirs() {
    step b 10
}
quiet in_turns 3 ours theirs
expect "another one is first in every round" abbaab "$(cat "$out/order")"
expect "values are kept in order" "30 60 90" "$(values ours | paste -sd ' ')"
expect "ratios are made round by round" "3.000000 3.000000 3.000000" "$(ratios ours theirs | paste -sd ' ')"
expect "the typical value" 60.0 "$(typical ours)"
keep pairs $'1 4\n2 5\n3 6' 2>/dev/null
expect "columns" "4 5 6" "$(values pairs 2 | paste -sd ' ')"

mute() {
    :
}
broken() {
    echo 5
    return 1
}
expect "a program that prints nothing" failed "$(quiet in_turns 1 mute || echo failed)"
expect "a program that fails" failed "$(quiet in_turns 1 broken || echo failed)"
expect "nothing can be divided by zero" failed "$(keep zero 0 2>/dev/null; ratios pairs zero || echo failed)"

figure one "a figure"
measure_one() {
    result one ratio "at least 0.90" "by hand" 0.95 0.89 0.93
}
expect "the line of a value" \
    "bench one 0.930 ratio (min 0.890 max 0.950, by hand; at least 0.90: reached)" "$(quiet measure_figure one)"
expect "its row" "| \`one\` | at least 0.90 | 0.930 ratio | min 0.890 max 0.950 | by hand | reached |" \
    "$(cat "$out/results/one.rows")"
figure two "a figure without a value"
measure_two() {
    result two ratio "" ""
}
expect "a figure without a value fails" failed "$(quiet measure_figure two || echo failed)"
figure three "a figure that lacks one of two values"
measure_three() {
    result three ratio "" ""
    result four ratio "" "" 1
}
expect "nor does one of two values do" failed "$(quiet measure_figure three >"$out/said" || echo failed)"
is_smoke=yes
expect "a smoke run judges nothing and keeps nothing" "bench one 0.930 ratio (min 0.890 max 0.950, by hand)" \
    "$(rm "$out/results/one.rows"; quiet measure_figure one; ls "$out/results")"

tree=$(dirname "${BASH_SOURCE[0]}")/../..
expect "the pictures are drawn from the page" yes \
    "$(python3 "$tree/tests/bench/pictures.py" --check "$tree/docs/performance.md" "$tree/docs/pictures" && echo yes)"

[ $failures = 0 ] && echo "$cases cases"
exit $((failures > 0))
