# shellcheck shell=bash
# shellcheck disable=SC2154  # the variables are set by tests/support/servers
# The private MariaDB server. Sourced by tests/support/servers.

mariadb_socket() {
    # A socket's path may have 107 bytes; a deep clone gets a short path elsewhere.
    if [ "${#dir}" -le 85 ]; then
        echo "$dir/mariadb/sock"
    else
        mktemp -d "${TMPDIR:-/tmp}/obx-sock-XXXXXX" | sed 's,$,/sock,'
    fi
}

# mariadbd refuses to run as root unless told so; as anybody else it must not be told.
mariadb_user_args() {
    [ "$(id -u)" != 0 ] || echo --user=root
}

mariadb_install() {
    local data=$dir/mariadb/data log=$dir/mariadb/install.log
    [ ! -d "$data" ] || return 0
    say "making the data folder of mariadb"
    rm -rf "$data.new"
    # --force: it need not be able to look up the name of this host.
    # shellcheck disable=SC2046
    if ! mariadb-install-db --no-defaults $(mariadb_user_args) --datadir="$data.new" \
        --auth-root-authentication-method=normal --skip-test-db --skip-name-resolve --force \
        >"$log" 2>&1 </dev/null 9>&-; then
        tail -n 20 "$log" >&2
        fail "mariadb-install-db failed; its last lines are above, the whole log is $log"
        return 1
    fi
    # Moved when whole, so that an interrupted first start leaves no half of a data folder.
    mv "$data.new" "$data"
}

# Run by the server at each start, before it takes connections.
mariadb_write_accounts() {
    local file=$dir/mariadb/accounts.sql host root_password password
    root_password=$(state_get mariadb root_password)
    password=$(state_get mariadb password)
    rm -f "$file"
    (
        umask 077
        echo "ALTER USER 'root'@'localhost' IDENTIFIED BY '$root_password';"
        echo "CREATE USER IF NOT EXISTS 'root'@'127.0.0.1';"
        echo "ALTER USER 'root'@'127.0.0.1' IDENTIFIED BY '$root_password';"
        echo "GRANT ALL ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;"
        # The accounts without a password that mariadb-install-db makes for other names of this host.
        echo "DELETE FROM mysql.global_priv WHERE User='root' AND Host NOT IN ('localhost', '127.0.0.1');"
        echo "FLUSH PRIVILEGES;"
        for host in localhost 127.0.0.1; do
            echo "CREATE USER IF NOT EXISTS 'obx_test'@'$host';"
            echo "ALTER USER 'obx_test'@'$host' IDENTIFIED BY '$password';"
            echo "GRANT ALL ON \`obx\\_%\`.* TO 'obx_test'@'$host';"
        done
    ) >"$file"
}

mariadb_answers() {
    [ "$(mariadb_client --connect-timeout=5 -N -B -e 'SELECT 1' 2>/dev/null </dev/null)" = 1 ]
}

mariadb_client() {
    need_program mariadb || return 1
    MYSQL_PWD=$(state_get mariadb root_password) mariadb --no-defaults --protocol=tcp \
        --host=127.0.0.1 --port="$(state_get mariadb port)" --user=root "$@"
}

mariadb_tls_args() {
    if tls_is_on; then
        printf -- '--ssl-%s=%s\n' ca "$dir/tls/ca.pem" cert "$dir/tls/server.pem" key "$dir/tls/server-key.pem"
    else
        echo --skip-ssl
    fi
}

mariadb_launch() {
    # shellcheck disable=SC2046,SC2086
    launch mariadb "$dir/mariadb/log" mariadbd --no-defaults $(mariadb_user_args) \
        --datadir="$dir/mariadb/data" \
        --tmpdir="$dir/mariadb/tmp" \
        --socket="$(state_get mariadb socket)" \
        --pid-file="$dir/mariadb/server.pid" \
        --bind-address=127.0.0.1 \
        --port="$(state_get mariadb port)" \
        --skip-name-resolve \
        --init-file="$dir/mariadb/accounts.sql" \
        --character-set-server=utf8mb4 \
        --max-connections=500 \
        --innodb-buffer-pool-size=256M \
        --innodb-flush-log-at-trx-commit=1 \
        --skip-log-bin \
        $(mariadb_tls_args) \
        ${OBX_MARIADB_ARGS-}
}

mariadb_start() {
    need_program mariadbd && need_program mariadb-install-db && need_program mariadb || return 1
    if is_running mariadb; then
        server_resume mariadb
        wait_ready mariadb "$dir/mariadb/log"
        return
    fi
    mkdir -p "$dir/mariadb/tmp"
    settle_port mariadb port || return 1
    state_default mariadb root_password random_word &&
        state_default mariadb password random_word &&
        state_default mariadb socket mariadb_socket || return 1
    mkdir -p "$(dirname "$(state_get mariadb socket)")"
    mariadb_install && mariadb_write_accounts || return 1
    mariadb_launch
    wait_ready mariadb "$dir/mariadb/log" || return 1
    say "mariadb runs on 127.0.0.1:$(state_get mariadb port)"
}

mariadb_stop() {
    local socket
    stop_process mariadb 60 || return 1
    socket=$(state_get mariadb socket)
    case $socket in
    "$dir"/* | '') ;;
    *) rmdir "$(dirname "$socket")" 2>/dev/null ;;
    esac
    return 0
}

mariadb_env() {
    print_export OBX_TEST_DB_HOST 127.0.0.1
    print_export OBX_TEST_DB_PORT "$(state_get mariadb port)"
    print_export OBX_TEST_DB_SOCKET "$(state_get mariadb socket)"
    print_export OBX_TEST_DB_ROOT_PASSWORD "$(state_get mariadb root_password)"
    print_export OBX_TEST_DB_USER obx_test
    print_export OBX_TEST_DB_PASSWORD "$(state_get mariadb password)"
}
