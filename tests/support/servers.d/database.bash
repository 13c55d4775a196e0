# shellcheck shell=bash
# shellcheck disable=SC2154  # the variables are set by tests/support/servers
# The private database server, MariaDB or MySQL ($product). Sourced by tests/support/servers.
# What the two do differently is in the functions that branch on $product, and nowhere else.

database_programs() {
    case $product in
    mariadb) echo mariadbd mariadb-install-db mariadb ;;
    mysql) echo mysqld mysql ;;
    esac
}

database_socket() {
    # A socket's path may have 107 bytes; a deep clone gets a short path elsewhere.
    if [ "${#dir}" -le 85 ]; then
        echo "$dir/database/sock"
    else
        mktemp -d "${TMPDIR:-/tmp}/obx-sock-XXXXXX" | sed 's,$,/sock,'
    fi
}

# Both servers refuse to run as root unless told so; as anybody else they must not be told.
database_user_args() {
    [ "$(id -u)" != 0 ] || echo --user=root
}

database_make_data() {
    local data=$1
    # shellcheck disable=SC2046
    case $product in
    mariadb)
        # --force: it need not be able to look up the name of this host.
        mariadb-install-db --no-defaults $(database_user_args) --datadir="$data" \
            --auth-root-authentication-method=normal --skip-test-db --skip-name-resolve --force
        ;;
    mysql)
        mkdir -p "$data" &&
            mysqld --no-defaults $(database_user_args) --initialize-insecure --datadir="$data"
        ;;
    esac
}

database_install() {
    local data=$dir/database/data log=$dir/database/install.log
    [ ! -d "$data" ] || return 0
    say "making the data folder of $product"
    rm -rf "$data.new"
    if ! database_make_data "$data.new" >"$log" 2>&1 </dev/null 9>&-; then
        tail -n 20 "$log" >&2
        fail "the data folder of $product cannot be made; the last lines are above, the whole log is $log"
        return 1
    fi
    # Moved when whole, so that an interrupted first start leaves no half of a data folder.
    mv "$data.new" "$data"
}

# Run by the server at each start, before it takes connections.
database_write_accounts() {
    local file=$dir/database/accounts.sql host root_password password
    root_password=$(state_get database root_password)
    password=$(state_get database password)
    rm -f "$file"
    (
        umask 077
        # Each server of a pair (tests/support/db_pair) runs this by itself: it is nothing to replicate.
        echo "SET SESSION sql_log_bin = 0;"
        echo "ALTER USER 'root'@'localhost' IDENTIFIED BY '$root_password';"
        echo "CREATE USER IF NOT EXISTS 'root'@'127.0.0.1';"
        echo "ALTER USER 'root'@'127.0.0.1' IDENTIFIED BY '$root_password';"
        echo "GRANT ALL ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;"
        # The accounts without a password that mariadb-install-db makes for other names of this host.
        [ "$product" != mariadb ] ||
            echo "DELETE FROM mysql.global_priv WHERE User='root' AND Host NOT IN ('localhost', '127.0.0.1');"
        echo "FLUSH PRIVILEGES;"
        for host in localhost 127.0.0.1; do
            echo "CREATE USER IF NOT EXISTS 'obx_test'@'$host';"
            echo "ALTER USER 'obx_test'@'$host' IDENTIFIED BY '$password';"
            echo "GRANT ALL ON \`obx\\_%\`.* TO 'obx_test'@'$host';"
        done
    ) >"$file"
}

database_answers() {
    [ "$(database_client --connect-timeout=5 -N -B -e 'SELECT 1' 2>/dev/null </dev/null)" = 1 ]
}

database_client() {
    local more=()
    need_program "$product" || return 1
    # The client of MySQL 9 takes `source` and its like only when told so.
    [ "$product" != mysql ] || more=(--commands)
    MYSQL_PWD=$(state_get database root_password) "$product" --no-defaults --protocol=tcp \
        --host=127.0.0.1 --port="$(state_get database port)" --user=root "${more[@]}" "$@"
}

database_tls_args() {
    if tls_is_on; then
        printf -- '--ssl-%s=%s\n' ca "$dir/tls/ca.pem" cert "$dir/tls/server.pem" key "$dir/tls/server-key.pem"
    elif [ "$product" = mariadb ]; then
        echo --skip-ssl
    else
        echo --tls-version=
    fi
}

database_product_args() {
    case $product in
    mariadb) echo --skip-name-resolve ;;
    mysql) echo --skip-name-resolve=ON --mysqlx=OFF --log-error-verbosity=2 ;;
    esac
}

database_launch() {
    local socket
    socket=$(state_get database socket)
    # What a killed MySQL leaves, and its next start takes for a running one when the pid was given again.
    rm -f "$socket.lock"
    # shellcheck disable=SC2046,SC2086
    launch database "$dir/database/log" "$(database_programs | cut -d' ' -f1)" --no-defaults \
        $(database_user_args) \
        --datadir="$dir/database/data" \
        --tmpdir="$dir/database/tmp" \
        --socket="$socket" \
        --pid-file="$dir/database/server.pid" \
        --bind-address=127.0.0.1 \
        --port="$(state_get database port)" \
        --init-file="$dir/database/accounts.sql" \
        --character-set-server=utf8mb4 \
        --max-connections=500 \
        --innodb-buffer-pool-size=256M \
        --innodb-flush-log-at-trx-commit=1 \
        --skip-log-bin \
        $(database_product_args) \
        $(database_tls_args) \
        ${OBX_SERVERS_DATABASE_ARGS-}
}

database_start() {
    local program
    for program in $(database_programs); do
        need_program "$program" || return 1
    done
    if is_running database; then
        server_resume database
        wait_ready database "$dir/database/log"
        return
    fi
    mkdir -p "$dir/database/tmp"
    settle_port database port || return 1
    state_default database root_password random_word &&
        state_default database password random_word &&
        state_default database socket database_socket || return 1
    mkdir -p "$(dirname "$(state_get database socket)")"
    database_install && database_write_accounts || return 1
    database_launch
    wait_ready database "$dir/database/log" || return 1
    say "$product runs on 127.0.0.1:$(state_get database port)"
}

database_stop() {
    local socket
    stop_process database 60 || return 1
    socket=$(state_get database socket)
    case $socket in
    "$dir"/* | '') ;;
    *) rmdir "$(dirname "$socket")" 2>/dev/null ;;
    esac
    return 0
}

database_env() {
    print_export OBX_TEST_DB_HOST 127.0.0.1
    print_export OBX_TEST_DB_PORT "$(state_get database port)"
    print_export OBX_TEST_DB_SOCKET "$(state_get database socket)"
    print_export OBX_TEST_DB_ROOT_PASSWORD "$(state_get database root_password)"
    print_export OBX_TEST_DB_USER obx_test
    print_export OBX_TEST_DB_PASSWORD "$(state_get database password)"
}
