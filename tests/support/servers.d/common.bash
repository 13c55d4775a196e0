# shellcheck shell=bash
# shellcheck disable=SC2154  # the variables are set by tests/support/servers
# What both servers need: messages, the lock, the state file, ports, processes.
# Sourced by tests/support/servers, which sets dir, self and deadline_s.

say() {
    printf 'servers: %s\n' "$*"
}

fail() {
    printf 'servers: %s\n' "$*" >&2
    return 1
}

die() {
    fail "$@"
    exit 1
}

print_export() {
    printf 'export %s=%q\n' "$1" "$2"
}

# RabbitMQ's own scripts do not quote their paths.
check_folder() {
    case $dir in
    *[[:space:]]*)
        die "the path '$dir' has a space in it, which RabbitMQ's scripts cannot stand;" \
            "set OBX_SERVERS_DIR to a folder without one"
        ;;
    esac
}

# One command at a time changes what is in the folder. The lock goes away with the process.
take_lock() {
    mkdir -p "$dir" || die "cannot make $dir; set OBX_SERVERS_DIR to a folder that you may write to"
    chmod 700 "$dir"
    exec 9>>"$dir/lock" || die "cannot write to $dir; set OBX_SERVERS_DIR to another folder"
    if ! flock -n 9; then
        say "another command (pid $(cat "$dir/lock.pid" 2>/dev/null)) is at work in $dir; waiting"
        flock -w "$deadline_s" 9 || die "the other command in $dir did not end in ${deadline_s} s;" \
            "look for it with: fuser $dir/lock, or set OBX_SERVERS_DIR to use another folder"
    fi
    echo $$ >"$dir/lock.pid"
}

# The state file of a server: lines of name=value, kept over restarts.
state_get() {
    sed -n "s/^$2=//p" "$dir/$1/state" 2>/dev/null
}

state_set() {
    local file=$dir/$1/state
    mkdir -p "$dir/$1"
    {
        grep -v "^$2=" "$file" 2>/dev/null
        printf '%s=%s\n' "$2" "$3"
    } >"$file.new"
    chmod 600 "$file.new"
    mv "$file.new" "$file"
}

# Sets a name in the state file to the output of a command, unless it has a value already.
state_default() {
    local server=$1 name=$2 value
    shift 2
    [ -z "$(state_get "$server" "$name")" ] || return 0
    value=$("$@") || return 1
    state_set "$server" "$name" "$value"
}

random_word() {
    od -An -N16 -tx1 /dev/urandom | tr -d ' \n'
}

port_is_used() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# A port below the range that the kernel hands out to clients, with nobody on it.
free_port() {
    local port tries=0
    while [ $tries -lt 100 ]; do
        port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        if ! port_is_used $port && ! grep -qs "port=$port\$" "$dir"/*/state; then
            echo $port
            return 0
        fi
        tries=$((tries + 1))
    done
    fail "found no free port between 20000 and 32000 on 127.0.0.1"
}

port_is_free() {
    ! port_is_used "$1"
}

# Keeps the port of the state file while it is free, else takes another. A server that was just killed may
# hold it for a moment longer than it is seen as a process.
settle_port() {
    local server=$1 name=$2 port
    port=$(state_get "$server" "$name")
    if [ -n "$port" ] && wait_for 3 port_is_free "$port"; then
        return 0
    fi
    [ -z "$port" ] || say "port $port of $server was taken by another program; choosing a new one"
    port=$(free_port) || return 1
    state_set "$server" "$name" "$port"
}

# The moment a process was born, in clock ticks since boot; nothing for a dead one or a zombie.
# Together with the pid it names one process for good.
born() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    stat=${stat##*) }
    # shellcheck disable=SC2086
    set -- $stat
    [ "$1" != Z ] && [ "$1" != X ] || return 1
    echo "${20}"
}

pid_of() {
    local pid birth
    read -r pid birth 2>/dev/null <"$dir/$1/pid" || return 1
    [ "$(born "$pid")" = "$birth" ] || return 1
    echo "$pid"
}

is_running() {
    pid_of "$1" >/dev/null
}

# Starts a program in a session of its own, with a log file and none of our open files, and records it.
launch() {
    local name=$1 log=$2 pid
    shift 2
    mkdir -p "$dir/$name"
    (
        for fd in /proc/self/fd/*; do
            fd=${fd##*/}
            if [ "$fd" -gt 2 ] && [ "$fd" != 255 ]; then
                eval "exec $fd>&-"
            fi
        done
        [ -z "${OBX_SERVERS_PRELOAD-}" ] || export LD_PRELOAD=$OBX_SERVERS_PRELOAD
        exec setsid "$@"
    ) </dev/null >>"$log" 2>&1 &
    pid=$!
    disown $pid
    echo "$pid $(born $pid)" >"$dir/$name/pid"
}

# A process and all below it, the children of children too, one pid a line.
tree_of() {
    ps -e -o pid=,ppid= | awk -v top="$1" '
        { parent[$1] = $2 }
        END {
            for (pid in parent)
                for (up = pid; up in parent; up = parent[up])
                    if (up == top) { print pid; break }
        }'
}

# Waits until a test command succeeds: wait_for SECONDS COMMAND...
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done
}

is_gone() {
    ! born "$1" >/dev/null
}

all_gone() {
    local pid
    for pid in "$@"; do
        is_gone "$pid" || return 1
    done
}

signal_tree() {
    local signal=$1 pid
    for pid in $(tree_of "$2"); do
        kill "-$signal" "$pid" 2>/dev/null
    done
    return 0
}

# Kills a whole tree with SIGKILL. Frozen first, so that no child is born while the tree is listed.
kill_tree() {
    local top=$1 pids
    signal_tree STOP "$top"
    pids=$(tree_of "$top")
    # shellcheck disable=SC2086
    kill -KILL $pids 2>/dev/null
    # shellcheck disable=SC2086
    wait_for 20 all_gone $pids || fail "processes $pids are still there after kill -9"
}

# Asks a server to stop, and kills it when it does not within the deadline.
stop_process() {
    local server=$1 grace_s=$2 pid pids
    if ! pid=$(pid_of "$server"); then
        rm -f "$dir/$server/pid"
        return 0
    fi
    pids=$(tree_of "$pid")
    kill -TERM "$pid" 2>/dev/null
    signal_tree CONT "$pid"
    if ! wait_for "$grace_s" is_gone "$pid"; then
        say "$server did not stop within $grace_s s; killing it"
        kill_tree "$pid"
    fi
    # Helpers of the server go with it; what did not is ours to end.
    # shellcheck disable=SC2086
    wait_for 5 all_gone $pids || kill -KILL $pids 2>/dev/null
    rm -f "$dir/$server/pid"
}

# Waits for a server: ready when its check succeeds, failed when the process is gone or the time is over.
wait_ready() {
    local server=$1 log=$2 end=$((SECONDS + deadline_s)) pid
    pid=$(pid_of "$server")
    until "${server}_answers"; do
        if [ -z "$pid" ] || is_gone "$pid"; then
            tail -n 20 "$log" >&2
            rm -f "$dir/$server/pid"
            fail "$server ended while it was starting; its last lines are above, the whole log is $log"
            return 1
        fi
        if [ $SECONDS -ge $end ]; then
            tail -n 20 "$log" >&2
            fail "$server was not ready after $deadline_s s (OBX_SERVERS_DEADLINE gives it more)," \
                "see $log"
            return 1
        fi
        sleep 0.1
    done
}

need_program() {
    command -v "$1" >/dev/null || fail "the program '$1' is missing; run: $here/packages"
}

server_kill() {
    local pid
    pid=$(pid_of "$1") || die "$1 does not run"
    kill_tree "$pid" || exit 1
    rm -f "$dir/$1/pid"
}

server_pause() {
    local pid
    pid=$(pid_of "$1") || die "$1 does not run"
    signal_tree STOP "$pid"
}

server_resume() {
    local pid
    pid=$(pid_of "$1") || die "$1 does not run"
    signal_tree CONT "$pid"
}

server_wipe() {
    "$1_stop" || exit 1
    rm -rf "${dir:?}/$1/data"
}
