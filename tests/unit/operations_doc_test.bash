#!/usr/bin/env bash
# docs/operations.md explains every metric, page and command that there is, and no metric that is not. Links and lines of
# all pages: markdown_test.bash.
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
        grep -qE "\`$name(\`| )" "$page" || complain "docs/operations.md does not explain the $what $name"
    done
    [ $count -gt 0 ] || complain "found no $what at all: this test looks in the wrong place"
}

metrics() {
    grep -ohE '"(rowpost|process)_[a-z_]+' "$root"/outbox-relay/daemon/pages/metrics*.c | tr -d '"' |
        grep -vE 'latency_seconds_(sum|count)$' | sort -u
}

commands() {
    "$outboxctl" --help | awk '/^$/ { block++; next } block == 2 { print }' | sed 's/^  //; s/  .*//; s/^/outboxctl /'
}

metrics | all_explained metric
commands | all_explained command
sed -n 's/^ *{"\(\/[a-z]*\)", get_.*/\1/p' "$root/outbox-relay/daemon/pages/admin.c" | all_explained page

known=$(metrics)
while read -r name; do
    grep -qxF "$name" <<<"$known" || complain "docs/operations.md explains $name, which is no metric"
done < <(sed -n '/^### Every metric/,/^### Log/p' "$page" | grep -oE "rowpost_[a-z_]+" | sort -u)

[ $rc = 0 ] && echo "operations_doc_test: $(wc -l <<<"$known") metrics, $(commands | wc -l) commands are explained"
exit $rc
