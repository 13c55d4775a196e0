#!/usr/bin/env bash
# What deploy/ has for compose and Kubernetes is YAML, names only files that are there, and configures the programs with keys
# that these have. The chart is rendered where there is a helm (in PATH, or OBX_HELM names it), with all of it on and off.
#
# usage: deploy_test.bash SOURCE_DIR OUTBOX_RELAY INBOX_RELAY
set -u -o pipefail
export LC_ALL=C
echo '[==========] Running 3 test(s).'
echo '[ RUN      ] compose_files_and_their_configuration'
exec python3 - "$@" <<'PYTHON'
import glob, json, os, re, shutil, subprocess, sys, tempfile
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


def ends(name):
    """Prints what is wrong, and the case's verdict."""
    global failed
    for problem in problems:
        print(problem)
    print(f"[{'  FAILED  ' if problems else '       OK '}] {name}")
    failed = failed or bool(problems)
    problems.clear()


failed = False
ends("compose_files_and_their_configuration")
print("[ RUN      ] chart_values_and_examples")
CHART = ROOT + "/deploy/helm/rowpost"
with open(CHART + "/values.yaml") as file:
    values = yaml.safe_load(file)
with open(CHART + "/Chart.yaml") as file:
    chart = yaml.safe_load(file)
with open(ROOT + "/CMakeLists.txt") as file:
    version = re.search(r"VERSION (\d+\.\d+\.\d+)", file.read())[1]
for key in ("version", "appVersion"):
    if chart[key] != version:
        problems.append(f"Chart.yaml: {key} is {chart[key]}, the product's version is {version}")
load(RELAY, values["relay"]["config"], {}, "values.yaml: relay")
load(INBOX, values["inboxRelay"]["config"], {}, "values.yaml: inboxRelay")


def check_pod(pod, where):
    for container in pod["containers"]:
        if "rowpost" not in container["image"]:
            continue
        secure = container.get("securityContext", {})
        if not secure.get("readOnlyRootFilesystem") or secure.get("allowPrivilegeEscalation") is not False or \
                secure["capabilities"] != {"drop": ["ALL"]}:
            problems.append(f"{where}: the container may do more than it has to")
        if not (pod["securityContext"].get("runAsNonRoot") or secure.get("runAsNonRoot")):
            problems.append(f"{where}: may run as root")
        if "livenessProbe" not in container or "memory" not in container["resources"]["limits"]:
            problems.append(f"{where}: no probe, or no limit of memory")
        if pod.get("enableServiceLinks") is not False:
            problems.append(f"{where}: variables of Services would be taken for configuration")


for path in sorted(glob.glob(ROOT + "/deploy/helm/examples/*.yaml")):
    with open(path) as file:
        for document in yaml.safe_load_all(file):
            if document["kind"] == "Deployment":
                pod = document["spec"]["template"]["spec"]
                check_pod(pod, os.path.basename(path))
                for container in pod["containers"]:
                    if "env" in container:
                        load(RELAY, None, {entry["name"]: entry["value"] for entry in container["env"]}, os.path.basename(path))
ends("chart_values_and_examples")

print("[ RUN      ] rendered_chart")
helm = os.environ.get("OBX_HELM") or shutil.which("helm")
if helm is None:
    print("no helm here: the chart is not rendered\n[  SKIPPED ] rendered_chart")
    sys.exit(1 if failed else 0)


def render(*settings):
    arguments = [helm, "template", "t", CHART, "--kube-version", "1.29.0"]
    done = subprocess.run(arguments + [f"--set={setting}" for setting in settings], capture_output=True, text=True)
    if done.returncode != 0:
        problems.append(f"helm template {settings}: {done.stderr}")
        return []
    return [document for document in yaml.safe_load_all(done.stdout) if document]


if subprocess.run([helm, "lint", "--strict", CHART], capture_output=True).returncode != 0:
    problems.append("helm lint")
ALL = ("inboxRelay.enabled=true", "relay.halfApi.enabled=true", "relay.console.enabled=true", "serviceMonitor.tokenKey=metrics",
        "serviceMonitor.enabled=true", "prometheusRule.enabled=true",
       "prometheusRule.runbookBase=https://docs.example.com/", "networkPolicy.egressTo[0].ipBlock.cidr=10.0.0.0/8")
expected = {"NetworkPolicy": 1, "PodDisruptionBudget": 1, "ServiceAccount": 1, "ConfigMap": 1, "Service": 1, "Deployment": 1}
for settings, kinds in (((), expected),
                        (ALL, expected | {"PodDisruptionBudget": 2, "Service": 2, "Deployment": 2, "ServiceMonitor": 1, "PrometheusRule": 1}),
                        (("relay.enabled=false", "networkPolicy.enabled=false", "serviceAccount.create=false"), {"ConfigMap": 1})):
    documents = render(*settings)
    found = {kind: sum(document["kind"] == kind for document in documents) for kind in {document["kind"] for document in documents}}
    if found != kinds:
        problems.append(f"with {settings} the chart makes {found}")
    maps = {document["metadata"]["name"]: document["data"] for document in documents if document["kind"] == "ConfigMap"}
    services = [document for document in documents if document["kind"] == "Service"]
    for document in documents:
        if document["kind"] == "PrometheusRule":
            alert = document["spec"]["groups"][1]["rules"][0]
            if not alert["annotations"]["runbook_url"].startswith("https://docs.example.com/docs/operations.md#"):
                problems.append("the rules' runbooks lead elsewhere")
        if document["kind"] != "Deployment":
            continue
        pod, name = document["spec"]["template"]["spec"], document["metadata"]["name"]
        labels = document["spec"]["template"]["metadata"]["labels"]
        check_pod(pod, name)
        container = pod["containers"][0]
        text = maps[pod["volumes"][0]["configMap"]["name"]][pod["volumes"][0]["configMap"]["items"][0]["key"]]
        if "half-api" in str(container["ports"]):
            text += "[half]\nsource = shop\ntoken = 0123456789abcdef\n[console]\nadmin_token = 0123456789abcdef\n"
        load({"outbox-relay": RELAY, "inbox-relay": INBOX}[container["command"][0]], text,
             {entry["name"]: entry["value"] for entry in container["env"]}, name)
        ports = {port["name"] for port in container["ports"]}
        for service in services:
            selector = service["spec"]["selector"]
            if selector.items() <= labels.items() and {port["targetPort"] for port in service["spec"]["ports"]} != ports:
                problems.append(f"{name}: its Service has other ports")
ends("rendered_chart")
sys.exit(1 if failed else 0)
PYTHON
