#!/usr/bin/env bash
# Reads every #include of the product against the table of allowed arrows, arrows.txt, and looks for circles of headers.
#
# usage: arrows_test.bash SOURCE_DIR
exec python3 - "${1:?}" <<'PYTHON'
import os
import re
import sys

ROOT = sys.argv[1]
# Where "..." is looked for; what is in more than one of them is told apart by the folder that asks first.
INCLUDE_ROOTS = ["base/include", "base/service/include", "base/service/src", "base/src", "sql/client/include",
                 "sql/client/src", "sql", "broker-bridge/include", "broker-bridge/src", "outbox-relay",
                 "outbox-relay/half-client/include", "consumer-lib/include", "consumer-lib/src", "consumer-lib"]
LIBRARIES = re.compile(r"(mysql|mariadb|amqp|rabbitmq-c/|event2/|curl/|openssl/|jansson)")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+([<"])([^>"]+)[>"]', re.M)
problems = []


def table():
    arrows = {}
    with open(os.path.join(ROOT, "tests/unit/arrows.txt"), encoding="utf-8") as lines:
        for line in lines:
            line = line.split("#")[0].strip()
            if line:
                folder, targets = line.split(":")
                arrows[folder.strip()] = targets.split()
    return arrows


def is_in(path, folder):
    return path == folder or path.startswith(folder + "/")


def product_files():
    for top in ("base", "sql", "broker-bridge", "outbox-relay", "consumer-lib"):
        for folder, _, names in os.walk(os.path.join(ROOT, top)):
            for name in names:
                if name.endswith((".c", ".h")):
                    yield os.path.relpath(os.path.join(folder, name), ROOT)


def resolve(path, text):
    part = path.split("/")[0]
    own = sorted(INCLUDE_ROOTS, key=lambda root: (root.split("/")[0] != part, INCLUDE_ROOTS.index(root)))
    for folder in [os.path.dirname(path)] + own:
        candidate = os.path.normpath(os.path.join(folder, text))
        if os.path.exists(os.path.join(ROOT, candidate)):
            return candidate
    return None


def find_circle(graph):
    done, way = set(), []

    def walk(node):
        if node in way:
            return way[way.index(node):] + [node]
        if node in done:
            return None
        way.append(node)
        for target in graph.get(node, ()):
            circle = walk(target)
            if circle:
                return circle
        done.add(way.pop())
        return None

    for start in sorted(graph):
        circle = walk(start)
        if circle:
            return circle
    return None


arrows, graph, count = table(), {}, 0
for path in sorted(product_files()):
    folders = sorted((f for f in arrows if is_in(path, f)), key=len)
    if not folders:
        problems.append(f"{path}: no line of arrows.txt is about it")
        continue
    folder = folders[-1]
    with open(os.path.join(ROOT, path), encoding="utf-8") as source:
        text = source.read()
    for mark, name in INCLUDE.findall(text):
        count += 1
        target = resolve(path, name) if mark == '"' else None
        if target is None:
            if LIBRARIES.match(name) and not any(name.startswith(a[1:-1]) for a in arrows[folder] if a[0] == "<"):
                problems.append(f"{path} includes <{name}>, which {folder} may not")
            continue
        graph.setdefault(path, set()).add(target)
        if not is_in(target, folder) and not any(is_in(target, allowed) for allowed in arrows[folder]):
            problems.append(f"{path} includes {target}: no arrow leads from {folder} there")
circle = find_circle(graph)
if circle:
    problems.append("a circle: " + " -> ".join(circle))
if count < 1000:
    problems.append(f"only {count} includes were read")
for problem in problems:
    print(problem)
print(f"[{'  FAILED  ' if problems else '       OK '}] {count} includes, {len(arrows)} folders")
sys.exit(1 if problems else 0)
PYTHON
