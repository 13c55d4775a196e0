#!/usr/bin/env bash
# Every page of Markdown can be read and followed: no line is longer than 120 columns, each link leads to a file, and to a
# heading of it, and each file of the tree that a page names is there.
#
# usage: markdown_test.bash SOURCE_DIR
exec python3 - "${1:?}" <<'PYTHON'
import os
import re
import sys

ROOT = sys.argv[1]
COLUMNS = 120
# Files of others that pages speak of.
FOREIGN = ("amqp.h", "mysql.h")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
NAMED = re.compile(r"`([A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*\.(?:c|h|md|bash|sql|txt|example|yaml|py))`")
TEST = re.compile(r"(?<![\w*/\\])([a-z0-9]\w*_test\.(?:c|bash))\b")
problems = []


def pages():
    for folder, names, files in os.walk(ROOT):
        names[:] = [name for name in names if name not in ("build", ".git")]
        for name in files:
            if name.endswith(".md"):
                yield os.path.relpath(os.path.join(folder, name), ROOT)


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as page:
        return page.read()


# The heading's anchor, as it is made where the pages are shown: lower case, no punctuation, '-' for each blank.
def anchor(heading):
    heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def prose(text):
    return re.sub(r"^[ \t]*```.*?^[ \t]*```", "", text, flags=re.M | re.S)


def anchors(path):
    found, count = set(), {}
    for heading in re.findall(r"^#+ +(.*?)\s*$", prose(read(path)), flags=re.M):
        name = anchor(heading)
        found.add(name if name not in count else f"{name}-{count[name]}")
        count[name] = count.get(name, 0) + 1
    return found


def check_links(page, text):
    for link in LINK.findall(prose(text)):
        if re.match(r"https?://|mailto:", link):
            continue
        path, _, heading = link.partition("#")
        target = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
        if not os.path.exists(os.path.join(ROOT, target)):
            problems.append(f"{page} has a link to {link}, which is not there")
        elif heading and target.endswith(".md") and heading not in anchors(target):
            problems.append(f"{page} has a link to {link}, a heading that is not there")


def check_names(page, text):
    for name in sorted(set(NAMED.findall(prose(text))) | set(TEST.findall(prose(text)))):
        if "NAME" not in name and name not in FOREIGN and not any(path.endswith("/" + name) for path in files):
            problems.append(f"{page} names {name}, which is not in the tree")


files = set()
for folder, names, here in os.walk(ROOT):
    names[:] = [name for name in names if name not in ("build", ".git")]
    files.update(f"{folder}/{name}" for name in here)

count = 0
for page in sorted(pages()):
    text = read(page)
    count += 1
    check_links(page, text)
    check_names(page, text)
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > COLUMNS:
            problems.append(f"{page}:{number} has {len(line)} columns, {COLUMNS} are allowed")

for problem in problems:
    print(f"markdown_test: {problem}", file=sys.stderr)
if not problems:
    print(f"[       OK ] {count} pages of Markdown")
sys.exit(1 if problems else 0)
PYTHON
