#!/usr/bin/env bash
# What deploy/ has for Prometheus and Grafana fits the programs: every metric that a rule or a dashboard names is on the
# pages of outbox-relay or inbox-relay; every alert has a test and its section in docs/operations.md; and promtool runs the
# rules' tests and parses every expression.
#
# usage: rules_test.bash SOURCE_DIR BUILD_DIR OUTBOX_RELAY INBOX_RELAY
set -u -o pipefail
export LC_ALL=C
root=$1 build=$2 relay=$3 inbox=$4
work=$(mktemp -d "${TMPDIR:-/tmp}/obx-rules-XXXXXX") || exit 1
pids=() failed=0
# shellcheck disable=SC2317  # what the trap calls
clean() {
    [ ${#pids[@]} = 0 ] || { kill -KILL "${pids[@]}" && wait "${pids[@]}"; } 2>/dev/null
    rm -rf "$work"
}
trap clean EXIT

begin() {
    printf '[ RUN      ] %s\n' "$1"
}

# ends NAME STATUS
ends() {
    if [ "$2" = 0 ]; then
        printf '[       OK ] %s\n' "$1"
    else
        printf '[  FAILED  ] %s\n' "$1"
        failed=1
    fi
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# The pages are there before any server is, and so are all metrics of what is configured.
read_pages() {
    local port half_port inbox_port
    port=$(free_port) half_port=$(free_port) inbox_port=$(free_port)
    cat >"$work/relay.conf" <<CONF
[relay]
http_port = $port
[broker]
addresses = 127.0.0.1:1
[source shop]
port = 1
user = nobody
database = shop
receipt_queue = rowpost.receipts.shop
[half]
source = shop
http_port = $half_port
token = 0123456789abcdef
[producer orders]
check = none
CONF
    cat >"$work/inbox.conf" <<CONF
[notify]
http_port = $inbox_port
[broker]
addresses = 127.0.0.1:1
[database]
port = 1
user = nobody
database = stock
[queue orders]
topics = order.*
[endpoint billing]
url = http://127.0.0.1:1/
topics = order.*
secrets = whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=
CONF
    env -i "$relay" --config "$work/relay.conf" 2>"$work/relay.log" &
    pids+=($!)
    env -i "$inbox" --config "$work/inbox.conf" 2>"$work/inbox.log" &
    pids+=($!)
    python3 - "$work" "$port" rowpost_commit_to_confirm_seconds "$inbox_port" rowpost_inbox_ready <<'PYTHON'
import sys, time, urllib.request

folder, pages = sys.argv[1], list(zip(sys.argv[2::2], sys.argv[3::2]))
with open(folder + "/metrics", "w") as out:
    for port, last in pages:
        end = time.monotonic() + 20
        while True:
            try:
                text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
                if last in text:
                    break
            except OSError as problem:
                text = str(problem)
            if time.monotonic() > end:
                sys.exit(f"no {last} on port {port}: {text[:500]}")
            time.sleep(0.05)
        out.write(text)
PYTHON
}

fits() {
    python3 - "$root" "$work" <<'PYTHON'
import glob, json, os, re, subprocess, sys
import yaml

ROOT, WORK = sys.argv[1:]
problems = []
pages = open(WORK + "/metrics").read()
known = set(re.findall(r"^# TYPE (\S+)", pages, re.M))
known |= {name + end for name in known for end in ("_bucket", "_sum", "_count")}
rules_file = yaml.safe_load(open(ROOT + "/deploy/prometheus/rowpost.rules.yml"))
rules = [rule for group in rules_file["groups"] for rule in group["rules"]]
tests = yaml.safe_load(open(ROOT + "/deploy/prometheus/rowpost.rules.test.yml"))["tests"]
operations = open(ROOT + "/docs/operations.md").read()
recorded = {rule["record"] for rule in rules if "record" in rule}
expressions = [(rule.get("record") or rule["alert"], rule["expr"]) for rule in rules]


def panels_of(board):
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels", [])


# The JSON is what boards.py writes now.
subprocess.run([sys.executable, "-B", ROOT + "/deploy/grafana/boards.py", WORK], check=True)
uids = set()
for path in sorted(glob.glob(ROOT + "/deploy/grafana/*.json")):
    name = os.path.basename(path)
    board = json.load(open(path))
    if board != json.load(open(os.path.join(WORK, name))):
        problems.append(f"{name} is not what boards.py writes: run it")
    if board["uid"] in uids:
        problems.append(f"{name}: the uid {board['uid']} is there twice")
    uids.add(board["uid"])
    ids = [panel["id"] for panel in panels_of(board)]
    if len(ids) != len(set(ids)):
        problems.append(f"{name}: two panels have one id")
    for panel in panels_of(board):
        if panel["type"] == "row":
            continue
        if not panel.get("description"):
            problems.append(f"{name}: panel {panel['title']} has no description")
        for target in panel["targets"]:
            expressions.append((f"{name}: {panel['title']}", target["expr"]))
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            expressions.append((f"{name}: ${variable['name']}", re.match(r"label_values\((\w+), \w+\)$", variable["query"])[1]))
if len(uids) < 3:
    problems.append(f"there are {len(uids)} dashboards")

used = set()
for where, text in expressions:
    for name in re.findall(r"\b(?:rowpost|process)[_:][a-z0-9_:]+", text):
        used.add(name)
        if name not in known and name not in recorded:
            problems.append(f"{where}: no program has the metric {name}")
for name in sorted(recorded - used):
    problems.append(f"nobody uses the recorded {name}")
tested = {case["name"].split(",")[0] for case in tests}
silent = {case["name"].split(",")[0] for case in tests if case["name"].endswith(", silent")}
headings = {heading.lower() for heading in re.findall(r"^#### (\w+)$", operations, re.M)}
for rule in rules:
    name = rule.get("alert")
    if name is None:
        continue
    if name not in tested or name not in silent:
        problems.append(f"{name}: no test that it fires and that it stays silent")
    if name.lower() not in headings:
        problems.append(f"{name}: docs/operations.md has no section of that name")
    if rule["annotations"].get("runbook_url") != "docs/operations.md#" + name.lower():
        problems.append(f"{name}: its runbook_url leads elsewhere")
    if rule["labels"]["severity"] not in ("critical", "warning", "info"):
        problems.append(f"{name}: no severity")
alerts = {rule["alert"].lower() for rule in rules if "alert" in rule}
for heading in headings:
    if heading.startswith("rowpost") and heading not in alerts:
        problems.append(f"docs/operations.md explains {heading}, which is no alert")

# For promtool: each expression of a dashboard as a rule, with a value for each variable.
with open(WORK + "/boards.yml", "w") as out:
    texts = [re.sub(r"\$__rate_interval|\$__interval", "5m", text) for where, text in expressions if ".json" in where]
    texts = [re.sub(r"\$\w+", ".*", text) for text in texts]
    yaml.safe_dump({"groups": [{"name": "boards", "rules": [
        {"record": f"board:{number}", "expr": text} for number, text in enumerate(texts)]}]}, out)
for problem in problems:
    print(problem)
print(f"{len(alerts)} alerts, {len(recorded)} recorded, {len(uids)} dashboards, {len(expressions)} expressions, "
      f"{len(used)} of {pages.count('# TYPE ')} metrics used")
sys.exit(1 if problems else 0)
PYTHON
}

# Installed, or unpacked from Debian's package: installing that would start a server.
find_promtool() {
    local folder=$build/promtool
    promtool=$(command -v promtool) && return 0
    promtool=$folder/usr/bin/promtool
    [ ! -x "$promtool" ] || return 0
    mkdir -p "$folder.new" && (cd "$folder.new" && rm -rf -- * && apt-get -qq download prometheus && dpkg-deb -x prometheus_*.deb . &&
        rm -f prometheus_*.deb) >"$work/promtool.log" 2>&1 || return 1
    rm -rf "$folder" && mv "$folder.new" "$folder" && [ -x "$promtool" ]
}

promtool_says() {
    (cd "$root/deploy/prometheus" && "$promtool" check rules rowpost.rules.yml && "$promtool" test rules rowpost.rules.test.yml) &&
        "$promtool" check rules "$work/boards.yml"
}

echo '[==========] Running 2 test(s).'
begin metrics_tests_and_runbooks_are_there
read_pages && fits
ends metrics_tests_and_runbooks_are_there $?
begin promtool_runs_the_tests_and_parses_all
if find_promtool; then
    promtool_says >"$work/out" 2>&1
    rc=$?
    [ $rc = 0 ] || cat "$work/out"
    ends promtool_runs_the_tests_and_parses_all $rc
else
    echo "promtool cannot be had here: $(tail -n 1 "$work/promtool.log")"
    printf '[  SKIPPED ] %s\n' promtool_runs_the_tests_and_parses_all
fi
exit $failed
