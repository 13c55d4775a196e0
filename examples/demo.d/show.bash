# shellcheck shell=bash
# What the demo says while it goes: a line with the time for each step, and a bar for what takes long.
# Sourced by examples/demo.

SECONDS=0
has_screen=no columns=80
if [ -t 1 ]; then
    has_screen=yes
    columns=$(tput cols 2>/dev/null) || columns=80
fi
bar_is_shown=no bar_last=''

clock() {
    printf '%2d:%02d' $((SECONDS / 60)) $((SECONDS % 60))
}

# These replace those of servers.d/common.bash.
say() {
    show_bar_end
    printf '[%s] %s\n' "$(clock)" "$*"
}

fail() {
    show_bar_end
    printf '[%s] FAILED: %s\n' "$(clock)" "$*" >&2
    return 1
}

die() {
    fail "$@"
    exit 1
}

# The bar stands on the last line of a screen; a line that is printed takes its place.
show_bar_end() {
    [ $bar_is_shown = no ] || printf '\r\033[K'
    bar_is_shown=no
}

# show_bar DONE TOTAL TEXT: on a screen drawn again in its place, elsewhere one line each 20 %.
show_bar() {
    local done=$1 total=$2 text=$3 width=20 full percent line
    [ "$done" -le "$total" ] || done=$total
    percent=$((total > 0 ? done * 100 / total : 0))
    full=$((percent * width / 100))
    if [ $has_screen = yes ]; then
        printf -v line '[%s] [%s%s] %3d %%  %s' "$(clock)" "$(stroke $full '#')" \
            "$(stroke $((width - full)) '.')" $percent "$text"
        printf '\r\033[K%s' "${line:0:columns-1}" # a line that wraps could not be drawn over
        bar_is_shown=yes
    elif [ "$bar_last" != "$((percent / 20))" ]; then
        bar_last=$((percent / 20))
        printf '[%s] %3d %%  %s\n' "$(clock)" $percent "$text"
    fi
}

stroke() {
    local blanks
    printf -v blanks '%*s' "$1" ''
    printf '%s' "${blanks// /$2}"
}

now_ms() {
    echo $((${EPOCHREALTIME/[.,]/} / 1000))
}

# "2.4 s" since a moment of now_ms.
since() {
    local ms=$(($(now_ms) - $1))
    printf '%d.%d s' $((ms / 1000)) $((ms % 1000 / 100))
}

# Runs a command in the background and waits, so that a signal is acted on at once; its output goes to a
# log. Without our lock: what outlives a killed demo must not keep the next one out.
run_logged() {
    local log=$1
    shift
    "$@" >>"$log" 2>&1 </dev/null 8>&- &
    running=$!
    if [ $has_screen = yes ]; then
        while kill -0 $running 2>/dev/null; do
            show_ninja "$log"
            sleep 0.3
        done
        show_bar_end
    fi
    wait $running
}

# Ninja begins its lines with [done/total].
show_ninja() {
    local line
    line=$(tail -n 1 "$1" 2>/dev/null)
    if [[ $line =~ ^\[([0-9]+)/([0-9]+)\] ]]; then
        show_bar "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}" "compiling"
    fi
}
