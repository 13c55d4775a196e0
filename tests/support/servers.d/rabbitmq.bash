# shellcheck shell=bash
# shellcheck disable=SC2154  # the variables are set by tests/support/servers
# The private RabbitMQ server. Sourced by tests/support/servers.
#
# Debian's rabbitmq-server would start a service when installed, so its package is only unpacked, and
# run on the erlang packages that are installed.

rabbitmq_cache() {
    if [ -n "${OBX_CACHE_DIR-}" ]; then
        echo "$OBX_CACHE_DIR"
    elif [ -n "${XDG_CACHE_HOME:-${HOME-}}" ]; then
        echo "${XDG_CACHE_HOME:-$HOME/.cache}/rowpost"
    else
        echo "$dir/cache"
    fi
}

rabbitmq_cached_deb() {
    local deb
    for deb in "$(rabbitmq_cache)"/rabbitmq-server_*.deb; do
        if dpkg-deb -I "$deb" >/dev/null 2>&1; then
            echo "$deb"
            return 0
        fi
    done
    return 1
}

# Downloads the package into a folder of its own and moves it to the cache when it is whole.
rabbitmq_download() {
    local cache temp as_root=''
    cache=$(rabbitmq_cache)
    [ "$(id -u)" = 0 ] || as_root=sudo
    mkdir -p "$cache" || return 1
    temp=$(mktemp -d "$cache/download-XXXXXX") || return 1
    say "downloading the package rabbitmq-server"
    if ! (cd "$temp" && apt-get -qq download rabbitmq-server) >"$temp/log" 2>&1 9>&-; then
        $as_root apt-get -qq update >>"$temp/log" 2>&1 9>&-
        (cd "$temp" && apt-get -qq download rabbitmq-server) >>"$temp/log" 2>&1 9>&-
    fi
    if ! mv "$temp"/rabbitmq-server_*.deb "$cache/" 2>/dev/null; then
        cat "$temp/log" >&2
        rm -rf "$temp"
        fail "cannot download rabbitmq-server; check the network and /etc/apt/sources.list, or put the" \
            ".deb into $cache by hand"
        return 1
    fi
    rm -rf "$temp"
}

rabbitmq_unpack() {
    local deb
    [ ! -d "$dir/rabbitmq/package" ] || return 0
    if ! deb=$(rabbitmq_cached_deb); then
        rabbitmq_download || return 1
        deb=$(rabbitmq_cached_deb) || return 1
    fi
    rm -rf "$dir/rabbitmq/package.new"
    mkdir -p "$dir/rabbitmq"
    dpkg-deb -x "$deb" "$dir/rabbitmq/package.new" ||
        { fail "cannot unpack $deb; remove it and start again"; return 1; }
    mv "$dir/rabbitmq/package.new" "$dir/rabbitmq/package"
}

# The folder that has sbin/ and plugins/.
rabbitmq_home() {
    local home
    if [ -n "${OBX_RABBITMQ_HOME-}" ]; then
        echo "$OBX_RABBITMQ_HOME"
        return 0
    fi
    for home in "$dir"/rabbitmq/package/usr/lib/rabbitmq/lib/rabbitmq_server-*; do
        echo "$home"
        return 0
    done
}

rabbitmq_write_config() {
    local base=$dir/rabbitmq plugins
    mkdir -p "$base/home" "$base/log" "$base/data"
    : >"$base/env.conf"
    if [ ! -f "$base/home/.erlang.cookie" ]; then
        if [ -n "${OBX_RABBITMQ_COOKIE_FILE-}" ]; then
            cat "$OBX_RABBITMQ_COOKIE_FILE"
        else
            random_word
        fi >"$base/home/.erlang.cookie"
        chmod 400 "$base/home/.erlang.cookie"
    fi
    plugins=$(echo "${OBX_RABBITMQ_PLUGINS-}" | tr -s ' ,' ',,')
    echo "[$plugins]." >"$base/enabled_plugins"
    (
        umask 077
        echo "listeners.tcp.1 = 127.0.0.1:$(state_get rabbitmq port)"
        echo "default_user = obx"
        echo "default_pass = $(state_get rabbitmq password)"
        echo "log.file.level = info"
        echo "disk_free_limit.absolute = 50MB"
        case $plugins in
        *rabbitmq_management*)
            echo "management.tcp.ip = 127.0.0.1"
            echo "management.tcp.port = $(state_get rabbitmq management_port)"
            ;;
        esac
        if tls_is_on; then
            echo "listeners.ssl.1 = 127.0.0.1:$(state_get rabbitmq tls_port)"
            echo "ssl_options.cacertfile = $dir/tls/ca.pem"
            echo "ssl_options.certfile = $dir/tls/server.pem"
            echo "ssl_options.keyfile = $dir/tls/server-key.pem"
            echo "ssl_options.verify = verify_peer"
            echo "ssl_options.fail_if_no_peer_cert = false"
        fi
        [ -z "${OBX_RABBITMQ_CONF-}" ] || cat "$OBX_RABBITMQ_CONF"
    ) >"$base/rabbitmq.conf"
}

# Sets the array node_env: the environment of this node, with nothing of the system's RabbitMQ in it.
rabbitmq_node_env() {
    local base=$dir/rabbitmq loopback='-kernel inet_dist_use_interface {127,0,0,1}'
    node_env=(
        HOME="$base/home"
        LC_ALL=C.UTF-8
        ERL_EPMD_ADDRESS=127.0.0.1
        ERL_EPMD_PORT="$(state_get rabbitmq epmd_port)"
        RABBITMQ_NODENAME="${OBX_RABBITMQ_NODENAME:-obx@127.0.0.1}"
        RABBITMQ_USE_LONGNAME=true
        RABBITMQ_DIST_PORT="$(state_get rabbitmq dist_port)"
        RABBITMQ_CONF_ENV_FILE="$base/env.conf"
        RABBITMQ_CONFIG_FILE="$base/rabbitmq.conf"
        RABBITMQ_ADVANCED_CONFIG_FILE="$base/advanced.config"
        RABBITMQ_ENABLED_PLUGINS_FILE="$base/enabled_plugins"
        RABBITMQ_MNESIA_BASE="$base/data"
        RABBITMQ_LOG_BASE="$base/log"
        RABBITMQ_LOGS="$base/log/rabbitmq.log"
        RABBITMQ_PID_FILE="$base/server.pid"
        RABBITMQ_SCHEDULER_BIND_TYPE=u
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+sbwt none +sbwtdcpu none +sbwtdio none $loopback"
        RABBITMQ_CTL_ERL_ARGS="$loopback"
        # Makes the start script become the server, so that the pid is the server's.
        RUNNING_UNDER_SYSTEMD=true
    )
}

rabbitmq_ctl() {
    [ -f "$dir/rabbitmq/home/.erlang.cookie" ] || die "rabbitmq was never started; run: $self start rabbitmq"
    rabbitmq_node_env
    env "${node_env[@]}" "$(rabbitmq_home)/sbin/rabbitmqctl" "$@"
}

# The server greets a client that says AMQP 0-9-1 only when it has started whole.
rabbitmq_answers() {
    local port
    port=$(state_get rabbitmq port)
    (
        exec 3<>"/dev/tcp/127.0.0.1/$port" || exit 1
        printf 'AMQP\0\0\011\001' >&3
        read -r -t 5 -N 1 -u 3 _
    ) 2>/dev/null
}

epmd_answers() {
    port_is_used "$(state_get rabbitmq epmd_port)"
}

# The port mapper that Erlang wants, our own one on the loopback, so that none is left behind.
rabbitmq_start_epmd() {
    if is_running epmd; then
        return 0
    fi
    # The other nodes of a cluster use that of the first.
    if [ -n "${OBX_RABBITMQ_EPMD_PORT-}" ]; then
        state_set rabbitmq epmd_port "$OBX_RABBITMQ_EPMD_PORT"
        return
    fi
    settle_port rabbitmq epmd_port || return 1
    mkdir -p "$dir/epmd"
    launch epmd "$dir/epmd/log" epmd -address 127.0.0.1 -port "$(state_get rabbitmq epmd_port)"
    wait_for 20 epmd_answers ||
        { fail "epmd does not answer, see $dir/epmd/log"; return 1; }
}

rabbitmq_start() {
    local log=$dir/rabbitmq/log/console.log
    need_program erl && need_program epmd || return 1
    if is_running rabbitmq; then
        server_resume rabbitmq
        wait_ready rabbitmq "$log"
        return
    fi
    [ -n "${OBX_RABBITMQ_HOME-}" ] || rabbitmq_unpack || return 1
    settle_port rabbitmq port && settle_port rabbitmq dist_port &&
        settle_port rabbitmq tls_port && settle_port rabbitmq management_port || return 1
    state_default rabbitmq password random_word || return 1
    rabbitmq_write_config && rabbitmq_start_epmd || return 1
    : >"$log"
    rabbitmq_node_env
    launch rabbitmq "$log" env "${node_env[@]}" "$(rabbitmq_home)/sbin/rabbitmq-server"
    wait_ready rabbitmq "$log" || return 1
    say "rabbitmq runs on 127.0.0.1:$(state_get rabbitmq port)"
}

rabbitmq_stop() {
    stop_process rabbitmq 60
    stop_process epmd 5
}

rabbitmq_env() {
    print_export OBX_TEST_AMQP_HOST 127.0.0.1
    print_export OBX_TEST_AMQP_PORT "$(state_get rabbitmq port)"
    print_export OBX_TEST_AMQP_USER obx
    print_export OBX_TEST_AMQP_PASSWORD "$(state_get rabbitmq password)"
    print_export OBX_TEST_AMQP_VHOST /
    ! tls_is_on || print_export OBX_TEST_AMQP_TLS_PORT "$(state_get rabbitmq tls_port)"
    print_export OBX_TEST_AMQP_MANAGEMENT_PORT "$(state_get rabbitmq management_port)"
}
