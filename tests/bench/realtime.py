"""WebSockets and whole applications on Node: what is compared, and how one round of it goes."""

import json
import shutil
import subprocess
import time

import measure
from contestants import HERE, ROOT, Sidekeeper, Together, Workers
from measure import Cpu
from scenarios import PEERS, Scenario, per_request
from tables import Goal

HELLO = ROOT / "apps/hello/app.js"
CHAT = ROOT / "apps/chat/server.js"
ECHO = HERE / "node/echo.js"


class WebSocket(Scenario):
    seconds = 1

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
            "--connections", self.connections, "--seconds", seconds, warm=0.3)
        return per_request(done, spent)


class HandOff(WebSocket):
    """The same Node worker thrice: alone, with its connections handed over, and behind a relay."""

    seconds, rounds_times, to_and_fro = 0.5, 4, True

    def __init__(self, connections):
        super().__init__(connections)
        self.name = f"handoff{connections}"
        self.title = f"WebSocket echo of 64 bytes by one Node worker, {connections:,} connections"
        self.goals = (Goal("rate", 0.97, ("direct",)), Goal("p99_ms", 1.03, ("direct",)))

    def contestants(self, stage):
        return echo_contestants(stage)

    def counted(self, contestant):
        return [] if contestant.name == "direct" else contestant.pids()


class HandOffs(Scenario):
    """Upgrades that one Node worker gets from the proxy, and those that it can take from anybody."""

    name, title = "handoffs", "WebSocket upgrades a second to one Node worker, 64 clients; each connects, upgrades, closes"
    columns = ("rate", "relayed", "p50_ms", "p99_ms", "cpu_us", "all_cpu_us", "errors")
    goals = (Goal("rate", 5000, otherwise=Goal("rate", 0.97, ("direct",))),)
    seconds = 1

    def contestants(self, stage):
        return echo_contestants(stage)

    def round(self, stage, contestant, seconds):
        proxied = contestant.name != "direct"
        proxy, everything = Cpu(contestant.pids() if proxied else []), Cpu(contestant.all_pids())
        done = measure.rig(stage.rig, "upgrade", "--to", contestant.address, "--seconds", seconds)
        figures = per_request(done, proxy.since())
        figures["all_cpu_us"] = everything.since() / done["count"] / 1e3
        # A direct connection is nobody's relay, and nginx does nothing else.
        figures["relayed"] = done["relayed"] / done["count"]
        return figures


def echo_contestants(stage):
    app = {"name": "echo", "command": ["node", str(ECHO)], "workers": 1}
    handed = stage.sidekeeper([app], ready="/")
    relayed = stage.sidekeeper([{**app, "hand_off": False}], "sidekeeper, relayed", ready="/")
    front = stage.nginx([f"unix:{relayed.sockets(1)[0]}"], ready="/")
    nginx = Together(front, [Workers(relayed)], "nginx")
    # Side by side come those two between which 3 % are asked for.
    return [handed, stage.node("direct", ECHO), relayed, nginx]


class WebSocketStream(Scenario):
    seconds = 1
    columns, ratios = ("mb_s", "cpu_gb"), ("cpu_gb", "mb_s")

    def __init__(self, up):
        self.direction = "up" if up else "down"
        self.name = f"wsstream-{self.direction}"
        self.title = f"one WebSocket, 64 KiB frames {self.direction}"
        self.goals = (Goal("mb_s", 1.1, ("caddy",)),)

    def contestants(self, stage):
        several = super().contestants(stage)
        if shutil.which("caddy"):
            several.insert(3, stage.caddy(self.lean.socket_path))
        return several

    def round(self, stage, contestant, seconds):
        proxy = Cpu(contestant.pids())
        done = measure.rig(stage.rig, "stream", "--to", contestant.address, "--direction", self.direction,
                           "--seconds", seconds)
        return {"mb_s": done["bytes"] / done["seconds"] / 1e6, "cpu_gb": proxy.since() / done["bytes"]}


class Chat(Scenario):
    """The sample chat with its rooms. Without an adapter a message reaches only those at the speaker's worker."""

    name = "chat1000"
    title = "apps/chat on Node, 1,000 users in 40 rooms, 300 messages a second said; each is one delivery"
    columns = ("rate", "reached", "p50_ms", "p99_ms", "cpu_us", "all_cpu_us", "errors")
    ratios = ("p99_ms", "all_cpu_us")
    warm_up = False
    ROOMS = 40
    USERS = 1000

    def contestants(self, stage):
        app = {"name": "chat", "command": ["node", str(CHAT)], "cwd": str(CHAT.parent), "workers": 2, "broadcast": True}
        cluster = stage.node_cluster(CHAT, ready="/healthz", workers=2, preload=HERE / "node/adapter.js")
        front = stage.nginx([cluster.address], ready="/healthz")
        return [
            stage.sidekeeper([app], ready="/healthz"), Together(front, [cluster], "nginx + node cluster + adapter"),
            stage.pm2(CHAT, workers=2), stage.node("node alone", CHAT, ready="/healthz"),
        ]

    def round(self, stage, contestant, seconds):
        users = subprocess.Popen(
            [stage.rig, "chat", "--to", contestant.address, "--seconds", str(seconds),
             "--users", str(self.USERS), "--rooms", str(self.ROOMS)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            if not users.stdout.readline():
                raise RuntimeError(users.stderr.read())
            proxied = isinstance(contestant, (Sidekeeper, Together))
            proxy, everything = Cpu(contestant.pids() if proxied else []), Cpu(contestant.all_pids())
            line = users.stdout.readline()
            spent, all_spent = proxy.since(), everything.since()
            if not line:
                raise RuntimeError(users.stderr.read())
        finally:
            measure.ended(users, 30)
        done = json.loads(line)
        figures = per_request(done, spent)
        figures["all_cpu_us"] = all_spent / max(done["count"], 1) / 1e3
        figures["reached"] = done["count"] / (done["said"] * self.USERS / self.ROOMS)
        # The going of so many is to be over before the next one is measured.
        time.sleep(1)
        return figures


class Hello(Scenario):
    name, title = "hello", "apps/hello on Node end to end, 64 connections, two workers"
    columns = ("rate", "p50_ms", "p99_ms", "cpu_us", "all_cpu_us", "errors")
    ratios = ("rate", "p99_ms", "all_cpu_us")
    seconds = 1

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


REALTIME = [
    WebSocket(100), WebSocket(1000), HandOff(100), HandOff(1000), HandOffs(),
    WebSocketStream(up=True), WebSocketStream(up=False), Chat(), Hello(),
]
