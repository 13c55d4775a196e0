#!/usr/bin/env python3
"""Draws the pictures of docs/performance.md from the values that the page itself has.

usage: pictures.py PAGE FOLDER           writes FOLDER/rates.svg, latency.svg, backlog.svg
       pictures.py --check PAGE FOLDER   fails when one of them is not what the page says

A bar whose value the page does not have is left out; a picture without bars is an error.
"""
import os
import re
import sys

WIDTH, LABEL, BAR, GAP, TOP = 720, 250, 22, 10, 44
INK, OURS, OTHERS = "#24292f", "#1f6feb", "#8c959f"


class Page:
    """The medians of the table, and the texts below it that say what they were made from."""

    def __init__(self, text):
        made = text.partition("What the values were made from:")[2].partition("<!--")[0]
        self.medians = {name: float(value) for name, value in
                        re.findall(r"^\| `(\w+)` \| [^|]* \| ([0-9.]+) ", text, re.M)}
        self.details = {name: detail for name, detail in
                        re.findall(r"^- `(\w+)`: (.*?\.)$", made, re.M)}

    def median(self, name):
        return self.medians.get(name)

    def detail(self, name, pattern):
        found = re.search(pattern, self.details.get(name, ""))
        return float(found.group(1)) if found else None


def number(value, unit):
    text = f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
    return f"{text} {unit}".strip()


def picture(title, unit, bars):
    """bars: (label, value or None, whether it is ours)."""
    bars = [bar for bar in bars if bar[1] is not None]
    if not bars:
        raise SystemExit(f"pictures.py: the page has no values for: {title}")
    most = max(value for _, value, _ in bars)
    height = TOP + len(bars) * (BAR + GAP) + GAP
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
             f'height="{height}" font-family="sans-serif" font-size="13" role="img">',
             f"<title>{title}</title>",
             f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
             f'<text x="12" y="26" font-size="15" font-weight="bold" fill="{INK}">{title}</text>']
    for i, (label, value, is_ours) in enumerate(bars):
        y = TOP + i * (BAR + GAP)
        length = max(1, round((WIDTH - LABEL - 130) * value / most))
        lines += [f'<text x="{LABEL - 8}" y="{y + 16}" text-anchor="end" fill="{INK}">{label}</text>',
                  f'<rect x="{LABEL}" y="{y}" width="{length}" height="{BAR}" fill="{OURS if is_ours else OTHERS}"/>',
                  f'<text x="{LABEL + length + 6}" y="{y + 16}" fill="{INK}">{number(value, unit)}</text>']
    return "\n".join(lines + ["</svg>", ""])


def rates(page):
    return picture("Messages a second", "", [
        ("bare publisher", page.detail("relay_drain", r"over bare ([0-9.]+)/s"), False),
        ("the same, with our messages", page.detail("relay_drain_like", r"same messages ([0-9.]+)/s"), False),
        ("relay, table to confirm", page.detail("relay_drain", r"relay ([0-9.]+)/s"), True),
        ("consumer, one commit each", page.detail("apply_rate", r"one by one ([0-9.]+)/s"), False),
        ("consumer library", page.detail("apply_rate", r"library ([0-9.]+)/s"), True),
        ("2 consumers, 8 partitions", page.detail("partitions", r"partitions ([0-9.]+)/s"), True),
    ])


def latency(page):
    return picture("From COMMIT to the broker's confirm, at 200 messages a second", "ms", [
        ("one confirm alone, p50", page.detail("relay_latency_p50", r"bare ([0-9.]+) ms"), False),
        ("one confirm alone, p99", page.detail("relay_latency_p99", r"bare ([0-9.]+) ms"), False),
        ("with the doorbell, p50", page.median("relay_latency_bell_p50"), True),
        ("with the doorbell, p99", page.median("relay_latency_bell_p99"), True),
        ("polled, p50", page.median("relay_latency_p50"), True),
        ("polled, p99", page.median("relay_latency_p99"), True),
    ])


def backlog(page):
    return picture("Rows a second by what waits in the outbox", "", [
        ("100,000 rows", page.detail("backlog_growth", r"over ([0-9.]+)/s"), True),
        ("2,000,000 rows", page.detail("backlog_growth", r"([0-9.]+)/s with"), True),
    ])


def main(arguments):
    is_check = arguments[:1] == ["--check"]
    page_path, folder = arguments[is_check:]
    with open(page_path, encoding="utf-8") as file:
        page = Page(file.read())
    for draw in (rates, latency, backlog):
        path = os.path.join(folder, draw.__name__ + ".svg")
        drawn = draw(page)
        if not is_check:
            with open(path, "w", encoding="utf-8") as file:
                file.write(drawn)
            continue
        with open(path, encoding="utf-8") as file:
            if file.read() != drawn:
                raise SystemExit(f"{path} is not what {page_path} says: bash tests/bench/run --document draws it")


main(sys.argv[1:])
