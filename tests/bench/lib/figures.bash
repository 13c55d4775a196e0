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

# in_turns ROUNDS FUNCTION...: runs the functions in turns, another one first in every round. Each prints one
# line of numbers, the same number of them each time; they are kept for values and ratios.
in_turns() {
    local rounds=$1 round i functions name
    shift
    functions=("$@")
    for name in "${functions[@]}"; do
        turn_lines[$name]=''
    done
    for ((round = 0; round < rounds; round++)); do
        for ((i = 0; i < $#; i++)); do
            take_turn "${functions[(round + i) % $#]}" || return 1
        done
    done
}

declare -A turn_lines

take_turn() {
    local line number
    line=$("$1") || return 1
    for number in ${line:-nothing}; do
        is_number "$number" || { note "$1 printed no number: '$line'"; return 1; }
    done
    note "$1: $line"
    turn_lines[$1]+=$line$'\n'
}

# keep NAME LINES: for a program that takes turns within itself; NAME stands for a function from then on.
keep() {
    note "$1: ${2//$'\n'/; }"
    turn_lines[$1]=$2
}

# values FUNCTION [COLUMN]: the numbers that it printed in its turns.
values() {
    awk -v column="${2:-1}" 'NF > 0 { print $column }' <<<"${turn_lines[$1]}"
}

# ratios FUNCTION OTHER [COLUMN]: the numbers of the one over those of the other, round by round.
ratios() {
    paste -d ' ' <(values "$1" "${3:-1}") <(values "$2" "${3:-1}") |
        awk '{ if ($2 + 0 == 0) exit 1; printf "%.6f\n", $1 / $2 }'
}

# typical FUNCTION [COLUMN]: the median as a person reads it.
typical() {
    # shellcheck disable=SC2046
    tidy "$(median $(values "$@"))"
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
    value=$(median "$@")
    if [ $# = 0 ] || ! is_number "$value"; then
        note "$name has no value: $*"
        lacks_result=yes
        return 1
    fi
    shown=$(tidy "$value") || return 1
    [ $# = 1 ] || range="min $(tidy "$(min "$@")") max $(tidy "$(max "$@")")"
    # At tiny sizes nothing is reached or missed.
    [ "$is_smoke" = no ] || target=''
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
    lacks_result=no
    if ! "measure_$1" || [ $lacks_result = yes ]; then
        note "$1: FAILED"
        rm -f "$rows.new"
        return 1
    fi
    [ -s "$rows.new" ] || { note "$1 has no value"; return 1; }
    # What a smoke run finds out is no value to keep.
    if [ "$is_smoke" = yes ]; then rm -f "$rows.new"; else mv "$rows.new" "$rows"; fi
}

# The table, and below it what each value was made from: in the table it would make lines of 150 columns.
print_markdown() {
    local name rc=0 rows=''
    for name in "$@"; do
        if ! rows+=$(cat "$out/results/$name.rows" 2>/dev/null)$'\n'; then
            note "$name was not measured yet"
            rc=1
        fi
    done
    cat "$out/results/machine" 2>/dev/null
    awk -F ' *[|] *' '
        BEGIN { print "| value | target | median | range | target |\n| --- | --- | --- | --- | --- |" }
        NF > 6 { printf "| %s | %s | %s | %s | %s |\n", $2, $3, $4, $5, $7 }
        NF > 6 && $6 != "" { made[++count] = "- " $2 ": " $6 "." }
        END {
            if (count > 0)
                print "\nWhat the values were made from:\n"
            for (i = 1; i <= count; i++)
                print made[i]
        }' <<<"$rows"
    return $rc
}

# Replaces what stands between the two marks in docs/performance.md, and draws its pictures from that.
document() {
    local page=docs/performance.md rc=0 TABLE
    TABLE=$(print_markdown "$@") || rc=1
    TABLE=$TABLE awk '
        /^<!-- end of the table/ { is_table = 0 }
        !is_table
        /^<!-- table/ { is_table = 1; print ENVIRON["TABLE"] }' "$page" >"$page.new" || return 1
    mv "$page.new" "$page"
    python3 tests/bench/pictures.py "$page" docs/pictures || rc=1
    return $rc
}
