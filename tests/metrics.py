"""Reads a Prometheus text exposition more strictly than Prometheus does, and says what is wrong.

Beside the grammar: HELP and TYPE once for each family and before its samples, families in one piece,
no sample twice, counters named _total and not negative, histograms cumulative, ordered, with +Inf
equal to _count."""

import math
import re
import sys

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf"^({NAME})(?:\{{(.*)\}})? (\S+)$")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(,|$)')
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count")}


def fail(number, line, why):
    sys.exit(f"line {number}: {why}: {line}")


def labels_of(number, line, text):
    labels, at = {}, 0
    while at < len(text):
        match = LABEL.match(text, at)
        if not match:
            fail(number, line, "labels cannot be read")
        if match[1] in labels:
            fail(number, line, f"label {match[1]} stands twice")
        labels[match[1]] = match[2]
        at = match.end()
    if text.endswith(","):
        fail(number, line, "a comma without a label")
    return labels


def main(path):
    text = open(path, encoding="utf-8", newline="").read()
    if not text.endswith("\n") or "\r" in text:
        sys.exit("the text must end in a newline and hold no carriage return")
    families, current, seen, samples = {}, None, set(), []
    for number, line in enumerate(text[:-1].split("\n"), 1):
        if match := re.match(rf"^# HELP ({NAME}) (.+)$", line):
            if match[1] in families:
                fail(number, line, "a family begins twice")
            current = match[1]
            families[current] = None
        elif match := re.match(rf"^# TYPE ({NAME}) (counter|gauge|histogram)$", line):
            if match[1] != current or families[current]:
                fail(number, line, "TYPE must follow its HELP")
            families[current] = match[2]
        elif match := SAMPLE.match(line):
            kind = families.get(current)
            if not kind:
                fail(number, line, "a sample without HELP and TYPE")
            names = [current + suffix for suffix in SUFFIXES.get(kind, ("",))]
            if match[1] not in names:
                fail(number, line, f"not of the family {current}")
            labels = labels_of(number, line, match[2] or "")
            key = (match[1], tuple(sorted(labels.items())))
            if key in seen:
                fail(number, line, "a sample stands twice")
            seen.add(key)
            value = float(match[3])
            if not math.isfinite(value):
                fail(number, line, "not a number")
            if kind == "counter" and (not current.endswith("_total") or value < 0):
                fail(number, line, "not a counter")
            samples.append((match[1], labels, value))
        else:
            fail(number, line, "cannot be read")
    for family, kind in families.items():
        if kind == "histogram":
            histogram(family, samples)
    print(f"{len(families)} families, {len(samples)} samples")


def histogram(family, samples):
    groups = {}
    for name, labels, value in samples:
        if name.startswith(family + "_"):
            key = tuple(sorted((k, v) for k, v in labels.items() if k != "le"))
            groups.setdefault(key, []).append((name[len(family) :], labels.get("le"), value))
    for key, rows in groups.items():
        bounds = [(float(le), value) for suffix, le, value in rows if suffix == "_bucket"]
        if bounds != sorted(bounds) or [v for _, v in bounds] != sorted(v for _, v in bounds):
            sys.exit(f"{family}{key}: buckets are not cumulative")
        counts = [value for suffix, _, value in rows if suffix == "_count"]
        sums = [value for suffix, _, value in rows if suffix == "_sum"]
        if len(counts) != 1 or len(sums) != 1 or bounds[-1] != (math.inf, counts[0]):
            sys.exit(f"{family}{key}: +Inf, _count and _sum do not agree")


main(sys.argv[1])
