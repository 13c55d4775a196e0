#!/usr/bin/env bash
# docs/operations.md explains every page and command that there is (metrics_test looks for its metrics), and
# docs/notifications.md every metric of inbox-relay. Links and lines of all pages: markdown_test.bash.
# usage: operations_doc_test.bash SOURCE_FOLDER OUTBOXCTL
set -u -o pipefail
export LC_ALL=C
root=$1 outboxctl=$2
page=$root/docs/operations.md rc=0

complain() {
    printf 'operations_doc_test: %s\n' "$*" >&2
    rc=1
}

# Reads names; each has to stand on the page between `` or at the start of such a word.
all_explained() {
    local what=$1 name count=0
    while read -r name; do
        count=$((count + 1))
        grep -qE "\`$name(\`| )" "$page" || complain "${page#"$root"/} does not explain the $what $name"
    done
    [ $count -gt 0 ] || complain "found no $what at all: this test looks in the wrong place"
}

commands() {
    "$outboxctl" --help | awk '/^$/ { block++; next } block == 2 { print }' | sed 's/^  //; s/  .*//; s/^/outboxctl /'
}

commands | all_explained command
sed -n 's/^ *{"\(\/[a-z]*\)", get_.*/\1/p' "$root/outbox-relay/daemon/pages/admin.c" | all_explained page

page=$root/docs/notifications.md
grep -ohE '"rowpost_notify_[a-z_]+' "$root/consumer-lib/inbox-relay/pages.c" | tr -d '"' | sort -u | all_explained metric

[ $rc = 0 ] && echo "operations_doc_test: $(commands | wc -l) commands are explained"
exit $rc
