"""What is compared over HTTP, and how one round of it goes. Figures of a round are a dictionary whose
keys are the columns of `tables`."""

import subprocess
import time

import measure
import tables
from measure import Cpu
from tables import Goal

PEERS = ("nginx", "haproxy")
MIB = 1 << 20
# By then all long polls have been asked for and none is answered yet.
HOLD_SECONDS = 0.7


class Scenario:
    name = title = ""
    columns = ("rate", "p50_ms", "p99_ms", "cpu_us", "worker_us", "errors")
    ratios = ("cpu_us", "rate")
    goals = ()
    rounds_max = 1000
    # Many short rounds where a small difference is asked for; every other one backwards, so that none is always first.
    rounds_times, to_and_fro = 1, False
    # Of one round of one contestant; wrk takes whole ones only.
    seconds = 2
    warm_up = True

    def contestants(self, stage):
        """A lean worker behind every proxy, and itself."""
        front, lean = stage.sidekeeper_before_backend()
        self.lean = lean
        return [front, stage.nginx([lean.nginx_socket]), stage.haproxy([lean.haproxy_socket]), lean]

    def load(self, stage, contestant, seconds):
        raise NotImplementedError

    def round(self, stage, contestant, seconds):
        proxy, worker = Cpu(contestant.pids()), Cpu([self.lean.pid])
        done = self.load(stage, contestant, seconds)
        return per_request(done, proxy.since(), worker.since())

    def table(self, rounds):
        return tables.table(self, rounds)

    def verdicts(self, rounds):
        return [verdict for verdict in (goal.judged(rounds) for goal in self.goals) if verdict]


def per_request(done, proxy_ns, worker_ns=None):
    count = max(done["count"], 1)
    figures = {
        "rate": done["count"] / done["seconds"], "cpu_us": proxy_ns / count / 1e3,
        "p50_ms": done["p50_us"] / 1e3, "p99_ms": done["p99_us"] / 1e3, "errors": done.get("errors", 0),
    }
    if worker_ns is not None:
        figures["worker_us"] = worker_ns / count / 1e3
    if "p999_us" in done:
        figures["p999_ms"] = done["p999_us"] / 1e3
    return figures


class Small(Scenario):
    def __init__(self, connections, goals, headers=(), name=None, title=None):
        self.connections, self.goals, self.headers = connections, goals, headers
        self.name = name or f"small{connections}"
        self.title = title or f"128-byte answers, {connections:,} kept connections"

    def contestants(self, stage):
        several = super().contestants(stage)
        if self.name == "small64":
            several.insert(3, stage.http_proxy(self.lean.socket_path))
        return several

    def load(self, stage, contestant, seconds):
        return measure.wrk(contestant.address, "/small", self.connections, seconds, self.headers)


class Rate(Scenario):
    name, title = "rate5000", "5,000 requests a second at a constant rate, 64 connections"
    columns = ("rate", "p50_ms", "p99_ms", "p999_ms", "cpu_us", "worker_us", "errors")
    ratios = ("p99_ms", "p999_ms", "cpu_us")
    goals = (Goal("p99_ms", 1.0, PEERS), Goal("p999_ms", 1.0, PEERS))

    def load(self, stage, contestant, seconds):
        return measure.rig(stage.rig, "rate", "--to", contestant.address, "--seconds", seconds)


class Bulk(Scenario):
    seconds = 1
    columns = ("mb_s", "p50_ms", "p99_ms", "cpu_us", "cpu_gb", "worker_us", "errors")
    ratios = ("cpu_gb", "mb_s")
    goals = (Goal("mb_s", 1.15, PEERS), Goal("cpu_gb", 0.8, PEERS))

    def __init__(self, up):
        self.up = up
        self.name = "up1m" if up else "down1m"
        self.title = "1 MiB uploads, 16 connections" if up else "1 MiB answers, 16 connections"

    def load(self, stage, contestant, seconds):
        if not self.up:
            return measure.wrk(contestant.address, "/1m", 16, seconds)
        script = stage.at / "upload.lua"
        script.write_text(f'wrk.method = "POST"\nwrk.body = string.rep("x", {MIB})\n')
        return measure.wrk(contestant.address, "/sink", 16, seconds, script=script)

    def round(self, stage, contestant, seconds):
        figures = super().round(stage, contestant, seconds)
        figures["mb_s"] = figures["rate"] * MIB / 1e6
        figures["cpu_gb"] = figures["cpu_us"] / MIB * 1e3
        return figures


class LongPoll(Scenario):
    name, title = "longpoll", "short requests on 16 connections while 1,000 long polls are held"
    columns = ("rate", "rate_kept", "p50_ms", "p99_ms", "p99_kept", "cpu_us", "errors")
    goals = (Goal("rate_kept", 0.9), Goal("p99_kept", 1.1))

    def load(self, stage, contestant, seconds):
        return measure.wrk(contestant.address, "/small", 16, seconds)

    def round(self, stage, contestant, seconds):
        alone = super().round(stage, contestant, seconds)
        held = subprocess.Popen(
            [stage.rig, "repeat", "--to", contestant.address, "--path", "/sleep?ms=2000",
             "--connections", "1000", "--seconds", str(seconds + HOLD_SECONDS)],
            stdout=subprocess.DEVNULL)
        try:
            time.sleep(HOLD_SECONDS)
            figures = super().round(stage, contestant, seconds)
        finally:
            held.wait(timeout=seconds + 30)
        figures["rate_kept"] = figures["rate"] / alone["rate"]
        figures["p99_kept"] = figures["p99_ms"] / alone["p99_ms"]
        return figures


def all_scenarios():
    from footprint import FOOTPRINT
    from growth import GROWTH
    from realtime import REALTIME

    return [
        Small(64, (Goal("cpu_us", 0.65, PEERS), Goal("rate", 1.3, PEERS))),
        Small(1000, (Goal("cpu_us", 0.60, PEERS), Goal("rate", 1.25, PEERS))),
        Small(64, (Goal("rate", 1.1, PEERS), Goal("cpu_us", 0.8, PEERS)), ("Connection: close",), "newconn",
              "a new connection for each request, 64 clients"),
        Rate(), Bulk(up=False), Bulk(up=True), LongPoll(), *REALTIME, *FOOTPRINT, *GROWTH,
    ]
