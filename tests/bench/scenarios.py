"""What is compared, and how one round of it goes. Figures of a round are a dictionary whose keys
are the columns of `tables`."""

import json
import shutil
import subprocess

import measure
from contestants import HERE, ROOT, Sidekeeper, Together
from measure import Cpu
from tables import Goal

PEERS = ("nginx", "haproxy")
HELLO = ROOT / "apps/hello/app.js"
CHAT = ROOT / "apps/chat/server.js"
MIB = 1 << 20


class Scenario:
    name = title = ""
    columns = ("rate", "p50_ms", "p99_ms", "cpu_us", "worker_us", "errors")
    ratios = ("cpu_us", "rate")
    goals = ()
    rounds_max = 1000
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
             "--connections", "1000", "--seconds", str(seconds + 1.5)],
            stdout=subprocess.DEVNULL)
        try:
            figures = measured_after(1.0, lambda: super(LongPoll, self).round(stage, contestant, seconds))
        finally:
            held.wait(timeout=seconds + 30)
        figures["rate_kept"] = figures["rate"] / alone["rate"]
        figures["p99_kept"] = figures["p99_ms"] / alone["p99_ms"]
        return figures


def measured_after(seconds, measured):
    measure.time.sleep(seconds)
    return measured()


class WebSocket(Scenario):
    def __init__(self, connections):
        self.connections = connections
        self.name = f"ws{connections}"
        self.title = f"WebSocket echo of 64 bytes, relayed, {connections:,} connections; each is a message and its echo"
        self.goals = (Goal("cpu_us", 0.85, PEERS),)

    def counted(self, contestant):
        return contestant.pids()

    def round(self, stage, contestant, seconds):
        done, spent = measure.rig_once_warm(
            stage.rig, self.counted(contestant), "--kind", "ws", "--path", "/ws", "--to", contestant.address,
            "--connections", self.connections, "--seconds", seconds)
        return per_request(done, spent)


class HandOff(WebSocket):
    """The same Node worker thrice: alone, with its connections handed over, and behind a relay."""

    def __init__(self, connections):
        super().__init__(connections)
        self.name = f"handoff{connections}"
        self.title = f"WebSocket echo of 64 bytes by one Node worker, {connections:,} connections"
        self.goals = (Goal("rate", 0.97, ("direct",)),)

    def contestants(self, stage):
        script = HERE / "node/echo.js"
        app = {"name": "echo", "command": ["node", str(script)], "workers": 1}
        handed = stage.sidekeeper([app], ready="/")
        relayed = stage.sidekeeper([{**app, "hand_off": False}], "sidekeeper, relayed", ready="/")
        nginx = stage.nginx([f"unix:{relayed.sockets(1)[0]}"], ready="/")
        return [handed, relayed, nginx, stage.node("direct", script)]

    def counted(self, contestant):
        return [] if contestant.name == "direct" else contestant.pids()


class WebSocketStream(Scenario):
    columns, ratios = ("mb_s", "cpu_gb"), ("cpu_gb", "mb_s")

    def __init__(self, up):
        self.direction = "up" if up else "down"
        self.name = f"wsstream-{self.direction}"
        self.title = f"one WebSocket, 64 KiB frames {self.direction}"
        self.goals = (Goal("mb_s", 1.1, ("caddy",)),)

    def contestants(self, stage):
        several = super().contestants(stage)
        # Only where somebody has installed it: it is the fastest at this, and a large package.
        if shutil.which("caddy"):
            several.insert(3, stage.caddy(self.lean.socket_path))
        return several

    def round(self, stage, contestant, seconds):
        proxy = Cpu(contestant.pids())
        done = measure.rig(stage.rig, "stream", "--to", contestant.address, "--direction", self.direction,
                           "--seconds", seconds)
        return {"mb_s": done["bytes"] / done["seconds"] / 1e6, "cpu_gb": proxy.since() / done["bytes"]}


class Idle(Scenario):
    columns, ratios = ("bytes_each", "threads"), ("bytes_each",)
    rounds_max, warm_up = 1, False
    CONNECTIONS = 5000

    def __init__(self, kind, bytes_max):
        self.kind = kind
        self.name = f"idle5000-{kind}"
        self.title = f"5,000 idle {'WebSockets' if kind == 'ws' else 'kept connections'}"
        self.goals = (Goal("bytes_each", bytes_max),)
        if kind == "ws":
            self.goals += (Goal("bytes_each", 16, of="sidekeeper, handed off"),)

    def contestants(self, stage):
        several = super().contestants(stage)[:-1]
        if self.kind == "ws":
            app = {"name": "echo", "command": ["node", str(HERE / "node/echo.js")], "workers": 1}
            several.append(stage.sidekeeper([app], "sidekeeper, handed off", ready="/"))
        return several

    def round(self, stage, contestant, seconds):
        before = measure.memory_kib(contestant.pids())
        holder = subprocess.Popen(
            [stage.rig, "idle", "--to", contestant.address, "--kind", self.kind,
             "--connections", str(self.CONNECTIONS)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            held = json.loads(holder.stdout.readline())["count"]
            measure.time.sleep(1)
            grown = measure.memory_kib(contestant.pids()) - before
            threads = measure.threads_of(contestant.pids())
        finally:
            holder.communicate(timeout=30)
        return {"bytes_each": grown * 1024 / held, "threads": threads}


class Chat(Scenario):
    name = "chat1000"
    title = "the sample chat, 1,000 users in 40 rooms, 300 messages a second said; each is one delivery"
    columns = ("rate", "p50_ms", "p99_ms", "cpu_us", "all_cpu_us")
    ratios = ("cpu_us", "all_cpu_us")
    rounds_max, warm_up = 3, False

    def contestants(self, stage):
        app = {"name": "chat", "command": ["node", str(CHAT)], "cwd": str(CHAT.parent), "workers": 2}
        ours = stage.sidekeeper([app], ready="/healthz")
        cluster = stage.node_cluster(CHAT, ready="/healthz", workers=2)
        front = stage.nginx([cluster.address], ready="/healthz")
        return [ours, Together(front, [cluster], "nginx + node cluster"), cluster]

    def round(self, stage, contestant, seconds):
        users = subprocess.Popen(
            [stage.rig, "chat", "--to", contestant.address, "--seconds", str(seconds * 2)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if not users.stdout.readline():
            raise RuntimeError(users.stderr.read())
        proxy, everything = Cpu(contestant.pids()), Cpu(contestant.all_pids())
        done = json.loads(users.stdout.readline())
        figures = per_request(done, proxy.since())
        figures["all_cpu_us"] = everything.since() / max(done["count"], 1) / 1e3
        users.wait(timeout=30)
        measure.time.sleep(2)
        return figures


class Hello(Scenario):
    name, title = "hello", "the sample app apps/hello on Node end to end, 64 connections, two workers"
    columns = ("rate", "p50_ms", "p99_ms", "cpu_us", "all_cpu_us", "errors")
    ratios = ("rate", "p99_ms", "all_cpu_us")

    def contestants(self, stage):
        app = {"name": "hello", "command": ["node", str(HELLO)], "workers": 2, "path": "/"}
        sockets = [stage.name(".sock") for _ in range(2)]
        workers = [stage.node("node", HELLO, listen=socket) for socket in sockets]
        front = stage.nginx([f"unix:{socket}" for socket in sockets], ready="/")
        return [
            stage.sidekeeper([app], ready="/"), Together(front, workers, "nginx + node"),
            stage.node_cluster(HELLO, workers=2), stage.pm2(HELLO, workers=2), stage.node("node alone", HELLO),
        ]

    def round(self, stage, contestant, seconds):
        proxied = isinstance(contestant, (Sidekeeper, Together))
        proxy, everything = Cpu(contestant.pids() if proxied else []), Cpu(contestant.all_pids())
        done = measure.wrk(contestant.address, "/", 64, seconds)
        figures = per_request(done, proxy.since())
        figures["all_cpu_us"] = everything.since() / max(done["count"], 1) / 1e3
        return figures


class Calls(Scenario):
    columns, ratios = ("calls", "calls_traced", "which"), ("calls", "calls_traced")
    rounds_max = 1

    def __init__(self, connections):
        self.connections = connections
        self.name = f"calls{connections}"
        self.title = f"system calls a request, 128-byte answers, {connections:,} connections"
        self.goals = (Goal("calls", 4.3),) if connections == 64 else ()

    def load(self, stage, contestant, seconds):
        return measure.wrk(contestant.address, "/small", self.connections, seconds)

    def contestants(self, stage):
        return super().contestants(stage)[:-1]

    def round(self, stage, contestant, seconds):
        figures = {}
        load = lambda: self.load(stage, contestant, seconds)
        if shutil.which("perf"):
            # The tracepoint disturbs little; strace slows everything down, so more is done in one wait.
            done, counted = measure.counted(contestant.pids(), "raw_syscalls:sys_enter", load)
            if counted is not None:
                figures["calls_traced"] = counted / done["count"]
        if shutil.which("strace"):
            done, counts = measure.system_calls(contestant.pids(), load)
            figures["calls"] = sum(counts.values()) / done["count"]
            most = sorted(counts.items(), key=lambda one: -one[1])
            figures["which"] = ", ".join(f"{name} {n / done['count']:.2f}" for name, n in most if n > done["count"] / 50)
        return figures


def all_scenarios():
    from footprint import Instructions, Start
    from growth import GROWTH

    return [
        Small(64, (Goal("cpu_us", 0.65, PEERS), Goal("rate", 1.3, PEERS))),
        Small(1000, (Goal("cpu_us", 0.60, PEERS), Goal("rate", 1.25, PEERS))),
        Small(64, (Goal("rate", 1.1, PEERS), Goal("cpu_us", 0.8, PEERS)), ("Connection: close",), "newconn",
              "a new connection for each request, 64 clients"),
        Rate(), Bulk(up=False), Bulk(up=True), LongPoll(),
        WebSocket(100), WebSocket(1000), HandOff(100), HandOff(1000),
        WebSocketStream(up=True), WebSocketStream(up=False),
        Idle("http", 256), Idle("ws", 1024), Start(), Chat(), Hello(),
        Calls(64), Calls(1000), Instructions(), *GROWTH,
    ]
