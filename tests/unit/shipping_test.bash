#!/usr/bin/env bash
# What is shipped beside the programs fits them: the unit, the image and the page on installing name the packages of every
# library that the build links, and no others.
# usage: shipping_test.bash SOURCE_FOLDER OUTBOX_RELAY OUTBOX_NOTIFY
set -u -o pipefail
export LC_ALL=C
root=$1 relay=$2 notify=$3 rc=0
containerfile=$root/deploy/container/Containerfile

complain() {
    printf 'shipping_test: %s\n' "$*" >&2
    rc=1
}

# The development packages of what the programs link; those of the tests are no part of it.
linked() {
    OBX_SERVERS_PRODUCT=mariadb bash "$root/tests/support/packages" --list | grep -- '-dev$' | grep -v cmocka
}

# Words that look like such packages in a text.
named_in() {
    grep -ohE '\blib[a-z0-9.+-]+-dev\b' "$1" | sort -u
}

[ "$(linked | wc -l)" -ge 5 ] || complain "tests/support/packages names hardly any library"
for file in "$containerfile" "$root/docs/operations.md"; do
    difference=$(diff <(linked | sort -u) <(named_in "$file"))
    [ -z "$difference" ] || complain "tests/support/packages (<) and ${file#"$root"/} (>) differ:
$difference"
done

# The image has what the programs load, and no distribution.
grep -q '^FROM scratch$' "$containerfile" || complain "the image is not made from scratch"
grep -q '^RUN deploy/container/collect /image .*outbox-relay .*outboxctl .*inbox-relay$' "$containerfile" ||
    complain "the image's root is not made by collect, or lacks a program"

grep -q '^USER [1-9]' "$containerfile" || complain "the image does not give up root"
grep -q '^HEALTHCHECK.*"--health"' "$containerfile" || complain "the image has no health check"
for setting in Type=notify WatchdogSec= DynamicUser=yes ProtectSystem=strict RestartPreventExitStatus=2; do
    grep -q "^$setting" "$root/outbox-relay/systemd/outbox-relay.service.in" || complain "the unit has no $setting"
done

for setting in Restart=always DynamicUser=yes ProtectSystem=strict RestartPreventExitStatus=2; do
    grep -q "^$setting" "$root/consumer-lib/inbox-relay/inbox-relay.service.in" || complain "the unit of notify has no $setting"
done

# The examples are what the programs print, and can be loaded; a secret of the endpoint is all that is missing.
check_example() {
    local program=$1 file=$2
    shift 2
    diff "$file" <("$program" --example) >/dev/null ||
        complain "$file is not up to date; make it again: $(basename "$program") --example >FILE"
    env "$@" "$program" --config "$file" --dump >/dev/null || complain "$file cannot be loaded"
}
check_example "$relay" "$root/outbox-relay/outbox-relay.conf.example" LC_ALL=C
check_example "$notify" "$root/consumer-lib/inbox-relay/inbox-relay.conf.example" \
    OBX_ENDPOINT_BILLING_SECRETS=0123456789abcdef

[ $rc = 0 ] && echo "shipping_test: image, unit and operations.md fit $(linked | wc -l) libraries"
exit $rc
