#!/usr/bin/env bash
# The words of the product are those of docs/glossary.md. Some that had crept in say the same as a plain one, or are private
# words where the field has its own; they are nowhere in code, tests, messages and documents. Only words that mean nothing
# else are looked for: the rest of the glossary's list is for the reader of a change.
#
# usage: words_test.bash SOURCE_DIR
exec python3 - "${1:?}" <<'PYTHON'
import os
import re
import sys

ROOT = sys.argv[1]
# The page that names them, this test, and texts of others.
EXCEPT = ("docs/glossary.md", "tests/unit/words_test.bash", "LICENSE")
WORDS = {
    "alike": "the same, likewise",
    "anew": "again",
    "asker": "client",
    "bury": "mark dead",
    "choked": "back-pressured",
    "doomed": "to be parked",
    "heed": "obey, take effect",
    "heeded": "obeyed",
    "heeds": "obeys",
    "hollow": "empty",
    "hungry": "wants a rescan",
    "lest": "so that ... not",
    "mend": "fix",
    "mended": "fixed",
    "mending": "fixing",
    "mends": "fixes",
    "shall": "must, will",
    "whoever": "the caller that",
    "whomever": "the caller that",
    "wish": "request",
    "wishes": "requests",
}
# "~" is a blank, an underscore, or the end of a line with what begins the next one of a comment.
PHRASES = {
    "under~way": "in flight, in progress",
    "carr(?:y|ies|ied|ying)~out": "run",
    "carr(?:y|ies|ied|ying)~(?:it|them|that|this)~out": "run",
}
GAP = r"(?:[ _]|[ \t]*\n[ \t]*(?:\*|//|#|--)?[ \t]*)"
ALL = "|".join(list(WORDS) + [phrase.replace("~", GAP) for phrase in PHRASES])
ANY = re.compile(f"(?<![A-Za-z])(?:{ALL})(?![A-Za-z])", re.IGNORECASE)
TEXT = (".c", ".h", ".md", ".bash", ".sql", ".txt", ".cmake", ".in", ".py", ".pml", ".yaml", ".yml", ".json", ".example", ".service",
        ".go", ".java", ".js", ".mjs", ".php", ".ts")
hits = []


def advice(found):
    if found in WORDS:
        return WORDS[found]
    return next(say for phrase, say in PHRASES.items() if re.fullmatch(phrase.replace("~", " "), found))


def read(path):
    with open(path, "rb") as file:
        data = file.read()
    if b"\x00" in data or not (path.endswith(TEXT) or data.startswith(b"#!")):
        return ""
    return data.decode("utf-8", "replace")


for folder, names, files in os.walk(ROOT):
    names[:] = [name for name in names if name not in ("build", ".git")]
    for name in sorted(files):
        path = os.path.join(folder, name)
        shown = os.path.relpath(path, ROOT)
        if shown in EXCEPT or os.path.islink(path):
            continue
        text = read(path)
        for match in ANY.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found = re.sub(r"[\s_*/#-]+", " ", match.group(0).lower())
            hits.append(f"{shown}:{line}: \"{found}\": say {advice(found)}")

for hit in hits:
    print(f"words_test: {hit}", file=sys.stderr)
if not hits:
    print("[       OK ] plain words everywhere")
sys.exit(1 if hits else 0)
PYTHON
