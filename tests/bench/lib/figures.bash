# shellcheck shell=bash
# shellcheck disable=SC2154  # out, root and is_smoke are set by tests/bench/run
# What a figure is, how its values become lines and rows. Sourced by tests/bench/run.

figure_names=()
declare -A figure_texts

note() {
    printf '[%d:%02d] %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$*" >&2
}

# figure NAME TEXT: there is a figure, measured by the function measure_NAME.
figure() {
    figure_names+=("$1")
    figure_texts[$1]=$2
}

is_figure() {
    [ -n "${figure_texts[$1]+yes}" ]
}

list_figures() {
    local name
    for name in "${figure_names[@]}"; do
        printf '%-18s %s\n' "$name" "${figure_texts[$name]}"
    done
}

# size FULL SMOKE: how many of something.
size() {
    if [ "$is_smoke" = yes ]; then echo "$2"; else echo "$1"; fi
}

# divide A B: the quotient, with digits to spare; fails when there is none.
divide() {
    awk -v a="$1" -v b="$2" 'BEGIN { if (b + 0 == 0) exit 1; printf "%.6f\n", a / b }'
}

# calculate EXPRESSION: in awk's arithmetic.
calculate() {
    awk "BEGIN { printf \"%.6f\\n\", $1 }"
}

# median VALUE...: of the values; min and max likewise.
median() {
    printf '%s\n' "$@" | sort -g |
        awk '{ v[NR] = $1 } END { printf "%.6f\n", (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}

min() {
    printf '%s\n' "$@" | sort -g | head -n 1
}

max() {
    printf '%s\n' "$@" | sort -g | tail -n 1
}

# A number as a person reads it: 12850, 48.3, 0.934.
tidy() {
    awk -v v="$1" 'BEGIN {
        a = v < 0 ? -v : v
        printf((a >= 1000 ? "%.0f" : a >= 10 ? "%.1f" : "%.3f") "\n", v) }'
}

# in_turns PAIRS A B: runs the functions A and B in turns, the other one first in every second pair. Each prints
# one number; they are added to the arrays a_values and b_values, which are empty at first.
in_turns() {
    local pairs=$1 i
    a_values=() b_values=()
    for ((i = 0; i < pairs; i++)); do
        if [ $((i % 2)) = 0 ]; then
            take_turn a_values "$2" && take_turn b_values "$3" || return 1
        else
            take_turn b_values "$3" && take_turn a_values "$2" || return 1
        fi
    done
}

# take_turn ARRAY FUNCTION: adds the number that the function prints.
take_turn() {
    local -n values=$1
    local value
    value=$("$2") || return 1
    is_number "$value" || { note "$2 printed no number: '$value'"; return 1; }
    note "$2: $(tidy "$value")"
    values+=("$value")
}

# Fills the array ratios with a_values over b_values, pair by pair.
ratios_of_pairs() {
    local i
    ratios=()
    for i in "${!a_values[@]}"; do
        ratios+=("$(divide "${a_values[i]}" "${b_values[i]}")") || return 1
    done
}

is_number() {
    [[ $1 =~ ^-?[0-9]+(\.[0-9]+)?$ ]]
}

# verdict VALUE TARGET: whether the value reaches a target such as "at least 0.90 ..." or "at most 48 ...".
verdict() {
    # shellcheck disable=SC2086
    set -- "$1" $2
    awk -v v="$1" -v how="${3-}" -v limit="${4-}" 'BEGIN {
        print (how == "least" ? v >= limit + 0 : v <= limit + 0) ? "reached" : "missed" }'
}

# result NAME UNIT TARGET DETAIL VALUE...: one value of a figure, from one or more measurements. TARGET begins
# with "at least N" or "at most N", or is empty; DETAIL says what the value was made from.
result() {
    local name=$1 unit=$2 target=$3 detail=$4 value shown range='' reached=''
    shift 4
    [ $# -gt 0 ] || return 1
    value=$(median "$@")
    is_number "$value" || { note "$name has no value: $*"; return 1; }
    shown=$(tidy "$value") || return 1
    [ $# = 1 ] || range="min $(tidy "$(min "$@")") max $(tidy "$(max "$@")")"
    [ -z "$target" ] || reached=$(verdict "$value" "$target")
    printf 'bench %s %s %s' "$name" "$shown" "$unit"
    join_in_brackets "${range}${range:+${detail:+, }}$detail" "${target:+$target: $reached}"
    # shellcheck disable=SC2016
    printf '| `%s` | %s | %s %s | %s | %s | %s |\n' "$name" "${target:--}" "$shown" "$unit" "${range:--}" \
        "$detail" "${reached:--}" >>"$out/results/$current_figure.rows.new"
}

join_in_brackets() {
    local text=$1${1:+${2:+; }}$2
    printf '%s\n' "${text:+ ($text)}"
}

# measure_figure NAME: runs it; fails when a program failed or no value came out.
measure_figure() {
    current_figure=$1
    local rows=$out/results/$1.rows
    note "$1: ${figure_texts[$1]}"
    rm -f "$rows.new"
    if ! "measure_$1"; then
        note "$1: FAILED"
        return 1
    fi
    [ -s "$rows.new" ] || { note "$1 has no value"; return 1; }
    # What a smoke run finds out is no value to keep.
    if [ "$is_smoke" = yes ]; then rm -f "$rows.new"; else mv "$rows.new" "$rows"; fi
}

print_markdown() {
    local name rc=0
    cat "$out/results/machine" 2>/dev/null
    printf '| value | target | median | range | measured | target is |\n| --- | --- | --- | --- | --- | --- |\n'
    for name in "$@"; do
        if ! cat "$out/results/$name.rows" 2>/dev/null; then
            note "$name was not measured yet"
            rc=1
        fi
    done
    return $rc
}
