#!/usr/bin/env python3
"""The benchmark: runs scenarios in interleaved rounds, prints tables, keeps them, draws plots.

usage: bench.py [--sidekeeper BINARY] [--rig BINARY] [--rounds N] [--seconds S] [--keep] [SCENARIO...]

Started by `make bench`, which builds both binaries. README.md beside this file says how to read what
it prints."""

import argparse
import datetime
import json
import os
import platform
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import measure
import plots
import tables
from contestants import HERE, ROOT, Stage
from measure import Cpu, Machine

TOOLS = {"nginx": "nginx", "haproxy": "haproxy", "wrk": "wrk", "strace": "strace"}
RESULTS = HERE / "RESULTS.md"
DOCS = ROOT / "docs"
DESCRIPTORS_WANTED = 16000


def main():
    from scenarios import all_scenarios

    known = {scenario.name: scenario for scenario in all_scenarios()}
    asked = arguments(known)
    chosen = [known[name] for name in asked.scenarios] if asked.scenarios else list(known.values())
    install()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < DESCRIPTORS_WANTED:
        print(f"only {hard} descriptors: what holds 5,000 connections will fail", file=sys.stderr)
    # Being ended must unwind the stages, which end what they have started.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(130))
    begun = time.monotonic()
    texts, results, failed = [], {}, []
    for scenario in chosen:
        print(f"# {scenario.name}", file=sys.stderr, flush=True)
        try:
            rounds, others = run(scenario, asked)
        except (RuntimeError, subprocess.SubprocessError, OSError, ValueError, LookupError) as error:
            print(f"{scenario.name} could not be measured: {error}", file=sys.stderr)
            failed.append(scenario.name)
            continue
        results[scenario.name] = rounds
        texts.append(text_of(scenario, rounds, others))
        print(texts[-1], flush=True)
    print(f"{(time.monotonic() - begun) / 60:.1f} minutes")
    if asked.keep or not asked.scenarios:
        keep(texts, asked)
        draw(known, results)
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}")


def arguments(known):
    parser = argparse.ArgumentParser(description="Compares sidekeeper with its peers.")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(known))
    parser.add_argument("--sidekeeper", default=ROOT / "target/x86_64-unknown-linux-musl/release/sidekeeper", type=Path)
    parser.add_argument("--rig", default=ROOT / "target/bench/release/rig", type=Path)
    parser.add_argument("--rounds", default=5, type=int)
    parser.add_argument("--seconds", default=2, type=int, help="of one round of one contestant")
    parser.add_argument("--keep", action="store_true", help="keep the results of a selection as well")
    asked = parser.parse_args()
    for name in asked.scenarios:
        if name not in known:
            parser.error(f"no scenario {name}; there are {', '.join(known)}")
    for binary in (asked.sidekeeper, asked.rig):
        if not os.access(binary, os.X_OK):
            parser.error(f"{binary} has not been built")
    asked.sidekeeper, asked.rig = asked.sidekeeper.resolve(), asked.rig.resolve()
    return asked


def install():
    """Debian's packages as root, else a word about what is missing; npm's packages in any case."""
    missing = [package for tool, package in TOOLS.items() if not shutil.which(tool)]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        # Nothing of what is installed is to be started by its package.
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        subprocess.run(["apt-get", "update", "-qq"], env=quiet, check=False)
        subprocess.run(["apt-get", "install", "-qq", "-y", "--no-install-recommends", *missing], env=quiet, check=False)
        missing = [package for tool, package in TOOLS.items() if not shutil.which(tool)]
    if missing:
        sys.exit(f"missing: {' '.join(missing)}. As root this installs them; else: apt-get install {' '.join(missing)}")
    if not shutil.which("node") or not shutil.which("npm"):
        sys.exit("missing: Node.js and npm, for the sample apps and the peers that come by npm")
    if not (HERE / "node/node_modules/pm2").is_dir():
        subprocess.run(["npm", "ci", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts"],
                       cwd=HERE / "node", check=True)


def run(scenario, asked):
    """All rounds of a scenario: {contestant: [figures of a round]}, and what others took in each."""
    with Stage(asked.sidekeeper, asked.rig) as stage:
        several = scenario.contestants(stage)
        rounds, others = {one.name: [] for one in several}, []
        if scenario.warm_up:
            for one in several:
                scenario.round(stage, one, 1)
        for _ in range(min(asked.rounds, scenario.rounds_max)):
            for one in several:
                ours = Cpu(pid for process in stage.started for pid in measure.tree(process.pid))
                machine, children = Machine(), measure.own_children_ns()
                rounds[one.name].append(scenario.round(stage, one, asked.seconds))
                others.append(machine.others_share(ours.since() + measure.own_children_ns() - children))
        if hasattr(scenario, "what"):
            points = {}
            for one in several:
                points.setdefault(one.series, {})[one.size] = rounds[one.name]
            rounds = points
    return rounds, others


def text_of(scenario, rounds, others):
    if hasattr(scenario, "what"):
        return tables.growth_table(f"{scenario.name}: {scenario.title}", scenario.what, rounds)
    return tables.table(scenario, rounds, others)


def version(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except OSError:
        return "none"
    found = re.search(r"\d+\.\d+[\w.-]*", done.stdout + done.stderr)
    return found.group(0) if found else "?"


def keep(texts, asked):
    """Puts a run in front of the earlier ones."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    processor = re.search(r"model name\s*: (.*)", measure.read("/proc/cpuinfo"))
    memory = re.search(r"MemTotal:\s+(\d+)", measure.read("/proc/meminfo"))
    head = "\n".join([
        f"## {datetime.date.today().isoformat()}",
        "",
        f"sidekeeper {commit.stdout.strip()}, nginx {version(['nginx', '-v'])}, HAProxy {version(['haproxy', '-v'])}, "
        f"Node {version(['node', '-v'])}, wrk {version(['wrk', '-v'])}. "
        f"{os.cpu_count()} cores ({processor.group(1) if processor else platform.machine()}), "
        f"{int(memory.group(1)) >> 20 if memory else '?'} GiB, Linux {platform.release()}. "
        f"{asked.rounds} rounds of {asked.seconds} s: median (least..most).",
        "",
    ])
    title, mark, earlier = (RESULTS.read_text() if RESULTS.exists() else "# Results\n").partition("\n## ")
    RESULTS.write_text(title.rstrip() + "\n\n" + head + "\n" + "\n".join(texts).rstrip() + "\n" + mark + earlier)


def draw(known, results):
    DOCS.mkdir(exist_ok=True)
    shown = {"small64": "128 bytes, 64 connections", "small1000": "128 bytes, 1,000 connections",
             "newconn": "a new connection each", "ws100": "WebSocket echo, 100", "ws1000": "WebSocket echo, 1,000"}
    proxies = ("sidekeeper", "nginx", "haproxy")
    cost = {title: {name: tables.middle(results[key][name], "cpu_us") for name in proxies if name in results[key]}
            for key, title in shown.items() if key in results}
    if cost:
        plots.bars(DOCS / "bench-cpu.svg", "Processor time a request or message, microseconds", cost)
    bulk = {title: {name: tables.middle(results[key][name], "mb_s") for name in proxies if name in results[key]}
            for key, title in (("down1m", "1 MiB answers"), ("up1m", "1 MiB uploads")) if key in results}
    if bulk:
        plots.bars(DOCS / "bench-bulk.svg", "Large bodies, MB/s", bulk)
    for key, points in results.items():
        if hasattr(known[key], "what"):
            series = {name: {size: tables.middle(some, "cpu_us") for size, some in sizes.items()}
                      for name, sizes in points.items()}
            plots.lines(DOCS / f"bench-{key}.svg", known[key].title, known[key].what, series)
    (ROOT / "target/bench/last.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
