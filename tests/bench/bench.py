#!/usr/bin/env python3
"""The benchmark: runs scenarios in interleaved rounds and prints a table of each.

usage: bench.py [--sidekeeper BINARY] [--rig BINARY] [--rounds N] [--seconds S] [--keep] [SCENARIO...]
       bench.py --report    writes the README's figures and the plots anew from the last results

Started by `make bench`, which builds both binaries. README.md beside this file says how to read what
it prints; `report.py` is what keeps it."""

import argparse
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import measure
import report
import tables
from contestants import HERE, ROOT, Stage
from measure import Cpu, Machine

TOOLS = {"nginx": "nginx", "haproxy": "haproxy", "wrk": "wrk", "strace": "strace"}
# What the benchmark can do without: a peer for streams, a counter of instructions.
EXTRAS = {"caddy": "caddy", "valgrind": "valgrind"}
DESCRIPTORS_WANTED = 16000


def main():
    from scenarios import all_scenarios

    known = {scenario.name: scenario for scenario in all_scenarios()}
    asked = arguments(known)
    if asked.report:
        report.publish(known)
        return
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
    results, failed = {}, []
    for scenario in chosen:
        print(f"# {scenario.name}", file=sys.stderr, flush=True)
        started = time.monotonic()
        try:
            rounds, others = run(scenario, asked)
        # One scenario that cannot be measured here is not to cost the others' results.
        except Exception as error:
            print(f"{scenario.name} could not be measured: {error}", file=sys.stderr)
            if not isinstance(error, (RuntimeError, subprocess.SubprocessError)):
                traceback.print_exc()
            failed.append(scenario.name)
            continue
        results[scenario.name] = {"rounds": rounds, "others": others}
        print(tables.section(scenario, rounds, others), flush=True)
        print(f"# {scenario.name} took {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        if asked.keep:
            # At once, so that a run which is cut short has not been for nothing.
            report.store(scenario.name, rounds, others)
    print(f"{(time.monotonic() - begun) / 60:.1f} minutes")
    if asked.keep:
        report.keep(known, results, failed, asked.rounds)
        report.publish(known, whole=not asked.scenarios)
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}")


def arguments(known):
    parser = argparse.ArgumentParser(description="Compares sidekeeper with its peers.")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(known))
    parser.add_argument("--sidekeeper", default=ROOT / "target/x86_64-unknown-linux-musl/release/sidekeeper", type=Path)
    parser.add_argument("--rig", default=ROOT / "target/bench/release/rig", type=Path)
    parser.add_argument("--rounds", default=5, type=int)
    parser.add_argument("--seconds", type=int, help="of one round of one contestant; default: what the scenario needs")
    parser.add_argument("--keep", action="store_true", help="put the results into RESULTS.md, README.md and docs/bench")
    parser.add_argument("--report", action="store_true", help="measure nothing; write README.md and docs/bench anew")
    asked = parser.parse_args()
    for name in asked.scenarios:
        if name not in known:
            parser.error(f"no scenario {name}; there are {', '.join(known)}")
    for binary in (asked.sidekeeper, asked.rig):
        if not os.access(binary, os.X_OK) and not asked.report:
            parser.error(f"{binary} has not been built")
    asked.sidekeeper, asked.rig = asked.sidekeeper.resolve(), asked.rig.resolve()
    return asked


def install():
    """Debian's packages as root, else a word about what is missing; npm's packages in any case."""
    missing = lacking(TOOLS) + lacking(EXTRAS)
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        # Nothing of what is installed is to be started by its package.
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        subprocess.run(["apt-get", "update", "-qq"], env=quiet, check=False)
        for package in missing:
            subprocess.run(["apt-get", "install", "-qq", "-y", "--no-install-recommends", package],
                           env=quiet, check=False, stdout=subprocess.DEVNULL)
    if missing := lacking(TOOLS):
        sys.exit(f"missing: {' '.join(missing)}. As root this installs them; else: apt-get install {' '.join(missing)}")
    if extra := lacking(EXTRAS):
        print(f"without {' and '.join(extra)}: what needs them is left out", file=sys.stderr)
    if not shutil.which("node") or not shutil.which("npm"):
        sys.exit("missing: Node.js and npm, for the sample apps and the peers that come by npm")
    lock, stamp = HERE / "node/package-lock.json", HERE / "node/node_modules/.installed"
    if measure.read(stamp) != measure.read(lock):
        subprocess.run(["npm", "ci", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts"],
                       cwd=HERE / "node", check=True)
        shutil.copyfile(lock, stamp)


def lacking(packages):
    return [package for tool, package in packages.items() if not shutil.which(tool)]


def run(scenario, asked):
    """All rounds of a scenario: {contestant: [figures of a round]}, and what others took in each."""
    seconds = asked.seconds or scenario.seconds
    with Stage(asked.sidekeeper, asked.rig) as stage:
        several = scenario.contestants(stage)
        rounds, others = {one.name: [] for one in several}, []
        if scenario.warm_up:
            for one in several:
                round_of(scenario, stage, one, min(seconds, 1))
        for number in range(min(asked.rounds * scenario.rounds_times, scenario.rounds_max)):
            for one in reversed(several) if scenario.to_and_fro and number % 2 else several:
                ours = Cpu(pid for process in stage.started for pid in measure.tree(process.pid))
                machine, children = Machine(), measure.own_children_ns()
                rounds[one.name].append(round_of(scenario, stage, one, seconds))
                others.append(machine.others_share(ours.since() + measure.own_children_ns() - children))
    return rounds, others


def round_of(scenario, stage, contestant, seconds):
    try:
        return scenario.round(stage, contestant, seconds)
    except RuntimeError as error:
        raise RuntimeError(f"{contestant.name}: {error}") from error


if __name__ == "__main__":
    main()
