#!/usr/bin/env bash
# The compose files of deploy/ are YAML, name only files that are there, and configure the programs with keys that these have.
#
# usage: deploy_test.bash SOURCE_DIR OUTBOX_RELAY INBOX_RELAY
set -u -o pipefail
export LC_ALL=C
exec python3 - "$@" <<'PYTHON'
import json, os, re, subprocess, sys, tempfile
import yaml

ROOT, RELAY, INBOX = sys.argv[1:]
FOLDER = ROOT + "/deploy/compose"
problems = []


def load(program, text, environment, where):
    """The program reads it as it would in the container, but for the place of the secrets."""
    with tempfile.TemporaryDirectory() as folder:
        secret = folder + "/secret"
        with open(secret, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write("0123456789abcdef\n")
        environment = {name: re.sub(r"^/run/secrets/\S+$", secret, str(value)) for name, value in environment.items()}
        arguments = [program, "--dump"]
        if text is not None:
            with open(folder + "/conf", "w") as file:
                file.write(re.sub(r"/run/secrets/\S+", secret, text))
            arguments += ["--config", folder + "/conf"]
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            problems.append(f"{where}: {done.stderr.strip()}")


def check_compose(name):
    with open(f"{FOLDER}/{name}") as file:
        compose = yaml.safe_load(file)
    for service, what in compose["services"].items():
        for need in what.get("depends_on", {}):
            if need not in compose["services"]:
                problems.append(f"{name}: {service} depends on {need}, which is no service")
        for volume in what.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./") and not os.path.exists(f"{FOLDER}/{source}"):
                problems.append(f"{name}: {service} mounts {source}, which is not there")
            if not source.startswith("./") and source not in compose["volumes"]:
                problems.append(f"{name}: {service} mounts {source}, which is no volume")
        for secret in what.get("secrets", []):
            if secret not in compose["secrets"]:
                problems.append(f"{name}: {service} has {secret}, which is no secret")
        if what.get("image", "").startswith("rowpost/"):
            for key, value in (("read_only", True), ("cap_drop", ["ALL"])):
                if what.get(key) != value:
                    problems.append(f"{name}: {service} has not {key}: {value}")
    return compose


trial = check_compose("compose.yaml")
for secret in trial["secrets"].values():
    if not os.path.exists(f"{FOLDER}/{secret['file']}"):
        problems.append(f"compose.yaml: the secret {secret['file']} is not there")
build = trial["services"]["tables-shop"]["build"]
if not os.path.exists(os.path.join(FOLDER, build["context"], build["dockerfile"])):
    problems.append("compose.yaml: the Containerfile is not there")
for program, name in ((RELAY, "relay.conf"), (INBOX, "inbox-relay.conf")):
    with open(f"{FOLDER}/{name}") as file:
        load(program, file.read(), {}, name)
sidecar = check_compose("sidecar.yaml")
load(RELAY, None, sidecar["services"]["outbox-relay"]["environment"], "sidecar.yaml")
with open(FOLDER + "/definitions.json") as file:
    json.load(file)
for problem in problems:
    print(problem)
print(f"[{'  FAILED  ' if problems else '       OK '}] compose files and their configuration")
sys.exit(1 if problems else 0)
PYTHON
