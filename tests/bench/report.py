"""Keeps what was measured: a section in RESULTS.md for each run, and from the last results of every
scenario the README's table of figures and the plots. Nothing in these is written by hand."""

import datetime
import json
import os
import platform
import re
import subprocess
import sys

import measure
import plots
import tables
from contestants import HERE, ROOT

RESULTS = HERE / "RESULTS.md"
README = ROOT / "README.md"
PLOTS = ROOT / "docs/bench"
# Of this machine alone: figures of two machines do not belong into one table.
STORE = ROOT / "target/bench/results.json"
OPEN, CLOSE = "<!-- figures -->\n", "<!-- end of figures -->"
PROXIES = ("sidekeeper", "nginx", "haproxy", "direct")


def stored():
    return json.loads(STORE.read_text()) if STORE.exists() else {}


def store(name, rounds, others):
    """The last results of a scenario, with when and of what they are."""
    all_of_them = stored()
    all_of_them[name] = {"at": datetime.date.today().isoformat(), "commit": commit(), "machine": machine(),
                         "rounds": rounds, "others": others}
    STORE.parent.mkdir(parents=True, exist_ok=True)
    STORE.write_text(json.dumps(all_of_them, indent=1))


def version(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\d+\.\d+[\w.-]*", done.stdout + done.stderr)
    return found.group(0) if found else None


def commit():
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "?"


def versions():
    tools = {"nginx": ["nginx", "-v"], "HAProxy": ["haproxy", "-v"], "Caddy": ["caddy", "version"],
             "Node": ["node", "-v"], "wrk": ["wrk", "-v"]}
    found = {name: version(command) for name, command in tools.items()}
    lock = json.loads((HERE / "node/package-lock.json").read_text())["packages"]
    found["pm2"] = lock.get("node_modules/pm2", {}).get("version")
    return ", ".join([f"sidekeeper {commit()}"] + [f"{name} {one}" for name, one in found.items() if one])


def machine():
    processor = re.search(r"model name\s*: (.*)", measure.read("/proc/cpuinfo"))
    memory = re.search(r"MemTotal:\s+(\d+)", measure.read("/proc/meminfo"))
    return (f"{os.cpu_count()} cores ({processor.group(1) if processor else platform.machine()}), "
            f"{round(int(memory.group(1)) / 2**20) if memory else '?'} GiB, Linux {platform.release()}")


def keep(known, results, failed, rounds):
    """Puts a run in front of the earlier ones."""
    if not results:
        return
    parts = [
        f"## {datetime.date.today().isoformat()}", "",
        f"{versions()}. {machine()}. {rounds} rounds where the scenario allows: median (least..most).", "",
    ]
    if failed:
        parts += [f"Not measured in this run: {', '.join(failed)}.", ""]
    parts += [tables.section(known[name], one["rounds"], one["others"]) for name, one in results.items()]
    title, mark, earlier = (RESULTS.read_text() if RESULTS.exists() else "# Results\n").partition("\n## ")
    RESULTS.write_text(title.rstrip() + "\n\n" + "\n".join(parts).rstrip() + "\n" + mark + earlier)


def publish(known, whole=False):
    """Writes the README's figures and the plots from the last results. Unless everything has just been
    measured, what is missing would fall out of the table, which then stays as it is."""
    last = stored()
    results = {name: last[name] for name in known if name in last}
    draw(known, results)
    missing = [name for name in known if name not in results]
    if missing and not whole:
        print(f"README.md's figures stay as they are: there are none yet of {', '.join(missing)}", file=sys.stderr)
        return
    before, mark, rest = README.read_text().partition(OPEN)
    _, close, after = rest.partition(CLOSE)
    if not mark or not close:
        sys.exit("README.md has no place for the figures")
    README.write_text(before + mark + figures(known, results) + close + after)


def figures(known, results):
    """Every goal with what came of it."""
    rows, reached, count = [], 0, 0
    for name, one in results.items():
        scenario = known[name]
        for verdict in scenario.verdicts(one["rounds"]):
            title, form, _ = tables.COLUMNS[verdict.metric]
            what = scenario.title + (f" ({verdict.of})" if verdict.of != "sidekeeper" else "")
            theirs = f"{form.format(verdict.theirs)} ({verdict.peer})" if verdict.peer else ""
            found = f"{verdict.ratio:.2f}" if verdict.ratio is not None else ""
            rows.append([what, title, form.format(verdict.ours), theirs, found, verdict.goal, verdict.said,
                         f"`make bench SCENARIOS={name}`"])
            count, reached = count + 1, reached + verdict.reached
    head = ["what", "figure", "sidekeeper", "beside it", "ratio", "goal", "", "command"]
    # A scenario that was measured again has a date of its own.
    dates = sorted({one["at"] for one in results.values()})
    commits = sorted({one["commit"] for one in results.values()})
    said = (f"Measured {' to '.join(dates[:1] + dates[1:][-1:])} at {', '.join(commits)} on "
            f"{next(iter(results.values()))['machine']}: {reached} of {count} goals reached.\n")
    if missing := [name for name in known if name not in results]:
        said += f"Could not be measured there: {', '.join(missing)}.\n"
    return said + "\n" + "\n".join(tables.markdown(head, rows))


# ---- plots ---------------------------------------------------------------------------------------


def medians(results, titles, metric, names=PROXIES):
    """{title: {contestant: median}} of what was measured."""
    groups = {}
    for name, title in titles.items():
        rounds = results.get(name, {}).get("rounds", {})
        found = {one: tables.middle(rounds[one], metric) for one in names if rounds.get(one)}
        if found:
            groups[title] = found
    return groups


def draw(known, results):
    PLOTS.mkdir(parents=True, exist_ok=True)
    bars = {
        "cpu": ("Processor time a request or message, microseconds", "{:,.1f}", medians(results, {
            "small64": "128 bytes, 64 connections", "small1000": "128 bytes, 1,000 connections",
            "newconn": "a new connection each", "longpoll": "beside 1,000 long polls",
            "ws100": "WebSocket echo, 100, relayed", "ws1000": "WebSocket echo, 1,000, relayed",
        }, "cpu_us")),
        "rate": ("Requests or messages a second", "{:,.0f}", medians(results, {
            "small64": "128 bytes, 64 connections", "small1000": "128 bytes, 1,000 connections",
            "newconn": "a new connection each", "ws100": "WebSocket echo, 100, relayed",
            "handoff100": "WebSocket echo, 100, one Node worker, handed off",
        }, "rate")),
        "bulk": ("Large bodies and streams, MB/s", "{:,.0f}", medians(results, {
            "down1m": "1 MiB answers", "up1m": "1 MiB uploads", "wsstream-up": "a WebSocket stream up",
            "wsstream-down": "a WebSocket stream down",
        }, "mb_s", ("sidekeeper", "nginx", "haproxy", "caddy", "direct"))),
        "memory": ("Memory of an idle connection, bytes", "{:,.0f}", medians(results, {
            "idle5000-http": "kept connection", "idle5000-ws": "WebSocket",
        }, "bytes_each", ("sidekeeper", "sidekeeper, handed off", "nginx", "haproxy"))),
        "rest": ("Memory at rest, MiB", "{:,.1f}", medians(results, {"start": "without traffic"}, "resident_mib")),
    }
    for name, (title, form, groups) in bars.items():
        if groups:
            plots.bars(PLOTS / f"{name}.svg", title, groups, form)
    for name, one in results.items():
        scenario = known[name]
        if hasattr(scenario, "series"):
            title = f"CPU us a request: {scenario.title}"
            plots.lines(PLOTS / f"{name}.svg", title, scenario.what, scenario.series(one["rounds"]))
