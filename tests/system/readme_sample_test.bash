#!/usr/bin/env bash
# README's consumer is what everybody copies: it compiles without a warning, says so when the password is wrong, applies
# a message, and rejects one about an article that is not there. On the servers at hand, whichever product they are.
# usage: readme_sample_test.bash SOURCE_FOLDER CC LIBRARY BROKER_PUT [SANITIZERS]
set -u -o pipefail
export LC_ALL=C
root=$1 cc=$2 library=$3 put=$4 flags=${5:+-fsanitize=$5}
work=$(mktemp -d) base=obx_readme_$$ queue=readme-sample-$$ pid=

fail() {
    printf 'readme_sample_test: %s\n' "$*" >&2
    cat "$work"/log >&2 2>/dev/null
    exit 1
}

sql() {
    "$OBX_TEST_SERVERS" sql "$1"
}

finish() {
    [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null
    sql mysql <<<"DROP DATABASE IF EXISTS $base" 2>/dev/null
    "$put" --delete "$queue"
    rm -rf "$work"
}
trap finish EXIT

# A command that comes to hold within half a minute.
wait_for() {
    local until=$((SECONDS + 30))
    until "$@"; do
        [ $SECONDS -lt $until ] || return 1
        read -r -t 0.1 <> <(:)
    done
    return 0
}

# The block in Python is a part of the example that the conformance suite runs.
python3 - "$root" <<'PYTHON' || fail "README's Python is not as it stands in clients/python/examples/stock_service.py"
import re
import sys

root = sys.argv[1]
with open(f"{root}/README.md", encoding="utf-8") as page:
    block = re.search(r"```python\n(.*?)```", page.read(), re.S).group(1)
with open(f"{root}/clients/python/examples/stock_service.py", encoding="utf-8") as example:
    sys.exit(0 if block in example.read() + "\n" else 1)
PYTHON

# The first C block, with this machine's servers in it.
awk '/^```c$/ { on = 1; next } /^```$/ { if (on) exit } on' "$root/README.md" |
    sed -e "s/\"rabbit1,rabbit2\"/\"127.0.0.1:$OBX_TEST_AMQP_PORT\"/" \
        -e "s/.broker_user = \"inventory\"/.broker_user = \"$OBX_TEST_AMQP_USER\"/" \
        -e "s/.db_host = \"db2\"/.db_host = \"127.0.0.1\", .db_port = $OBX_TEST_DB_PORT/" \
        -e "s/.db_user = \"inventory\"/.db_user = \"$OBX_TEST_DB_USER\"/" \
        -e "s/.db_name = \"stock\"/.db_name = \"$base\"/" -e "s/.queue = \"inventory\"/.queue = \"$queue\"/" \
        >"$work/sample.c"
grep -q obx_consumer_run "$work/sample.c" || fail "README has no consumer any more"
# shellcheck disable=SC2086
"$cc" $flags -std=c11 -Wall -Wextra -Wpedantic -Werror "-I$root/consumer-lib/include" "-I$root/base/include" -o "$work/sample" "$work/sample.c" "$library" \
    -Wl,-rpath,"$(dirname "$library")" || fail "it does not compile"

sql mysql <<<"CREATE DATABASE $base" || fail "no database"
for file in "$root"/sql/schema/consumer_*.sql; do
    sql "$base" <"$file" || fail "$file"
done
sql "$base" <<<"CREATE TABLE stock (sku VARCHAR(40) PRIMARY KEY, on_hand INT NOT NULL); INSERT INTO stock VALUES ('pen', 10)" ||
    fail "no table"

start() {
    AMQP_PASSWORD=$OBX_TEST_AMQP_PASSWORD DB_PASSWORD=$1 "$work/sample" >"$work/log" 2>&1 &
    pid=$!
}

end() {
    kill -9 "$pid"
    wait "$pid" 2>/dev/null
    pid=
}

start wrong
wait_for grep -q OBX_E_DB_AUTH "$work/log" || fail "a wrong password goes unsaid"
end

publish() {
    "$put" "$queue" "$1" "{\"sku\": \"$2\", \"quantity\": 3}" || fail "$1 is not published"
}

is() {
    [ "$(sql "$base" <<<"$1" | tail -n 1)" = "$2" ]
}

start "$OBX_TEST_DB_PASSWORD"
wait_for grep -q broker.up "$work/log" || fail "it does not come up"
publish m-1 pen
publish m-2 unicorn
publish m-1 pen
wait_for is "SELECT CONCAT(on_hand, ' ', (SELECT COUNT(*) FROM inbox_parked WHERE state = 'dead' AND message_id = 'm-2'))
    FROM stock" "7 1" || fail "not applied once, or not rejected"
end
