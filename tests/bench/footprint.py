"""What sidekeeper weighs: memory, time to the first answer, system calls and instructions a request."""

import json
import re
import secrets
import shutil
import subprocess
import time
from pathlib import Path

import measure
from contestants import HERE, answers, clean_environment, end, free_port
from scenarios import PEERS, Scenario
from tables import Goal


class Start(Scenario):
    name, title = "start", "memory without traffic beside the workers, and start to the first answer"
    columns = ("resident_mib", "start_ms", "beside_ms", "binary_mib")
    ratios = ("resident_mib",)
    warm_up = False
    goals = (Goal("resident_mib", 3.0), Goal("beside_ms", 20.0), Goal("binary_mib", 1.5))

    def contestants(self, stage):
        # They are started in each round: what is listed here only has a name.
        lean = stage.backend()
        return [Named(name, lean) for name in ("sidekeeper", "nginx", "haproxy")]

    def round(self, stage, contestant, seconds):
        lean = contestant.lean
        if contestant.name != "sidekeeper":
            begin = stage.nginx if contestant.name == "nginx" else stage.haproxy
            socket = lean.nginx_socket if contestant.name == "nginx" else lean.haproxy_socket
            front = begin([socket])
            resident = measure.resident_kib(front.pids())
            end(stage.started.pop())
            return {"resident_mib": resident / 1024}
        address = f"127.0.0.1:{free_port()}"
        command = [stage.sidekeeper_binary, "run", "--listen", address, "--run-dir", stage.name(".run"),
                   "--log-level", "warn", "--workers", "1", "--", stage.rig, "backend"]
        # The worker's own start is taken in the same breath: the machine may be busy now and idle then.
        alone = f"127.0.0.1:{free_port()}"
        own_ms, _ = first_answer(stage, [stage.rig, "backend", alone], alone)
        start_ms, resident = first_answer(stage, command, address)
        return {"resident_mib": resident, "start_ms": start_ms, "beside_ms": start_ms - own_ms,
                "binary_mib": Path(stage.sidekeeper_binary).stat().st_size / 2**20}


class Named:
    def __init__(self, name, lean):
        self.name, self.lean = name, lean


def first_answer(stage, command, address):
    """Milliseconds from the start to an answer, and then resident MiB of it without its workers."""
    begun = time.monotonic()
    process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=stage.at,
                               env=clean_environment(), start_new_session=True)
    try:
        while not answers(address):
            if process.poll() is not None or time.monotonic() - begun > 30:
                raise RuntimeError(f"{command} does not serve")
            time.sleep(0.0005)
        took = (time.monotonic() - begun) * 1e3
        time.sleep(0.3)
        guards = [pid for pid in measure.children(process.pid) if "__guard" in measure.command_of(pid)]
        return took, measure.resident_kib([process.pid, *guards]) / 1024
    finally:
        end(process)


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
        # What a proxy has once, whoever comes, is not to be counted as a connection's.
        self.hold(stage, contestant, 100, lambda: None)
        before, threads = self.weight(contestant)
        held, (grown, more) = self.hold(stage, contestant, self.CONNECTIONS, lambda: self.weight(contestant))
        return {"bytes_each": (grown - before) * 1024 / held, "threads": more - threads}

    @staticmethod
    def weight(contestant):
        return measure.memory_kib(contestant.pids()), measure.threads_of(contestant.pids())

    def hold(self, stage, contestant, connections, look):
        """Opens connections, lets a second pass, and returns how many there are and what `look` saw."""
        holder = subprocess.Popen(
            [stage.rig, "idle", "--to", contestant.address, "--kind", self.kind, "--connections", str(connections)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            line = holder.stdout.readline()
            if not line:
                raise RuntimeError(f"{contestant.name} did not take {connections} connections")
            time.sleep(1)
            seen = look()
        finally:
            holder.communicate(timeout=30)
        return json.loads(line)["count"], seen


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


class Instructions(Scenario):
    """By the machine's counters where it has them; else by callgrind, with one thread for each proxy."""

    name, title = "instructions", "instructions a request in user space, 128-byte answers, 64 connections"
    columns, ratios = ("instructions",), ("instructions",)
    rounds_max, warm_up = 3, False

    def contestants(self, stage):
        self.counters = measure.counts_instructions()
        if self.counters:
            return super().contestants(stage)[:-1]
        if not shutil.which("valgrind"):
            raise RuntimeError("this machine counts no instructions, and there is no valgrind")
        return [Named(name, stage.backend()) for name in ("sidekeeper", *PEERS)]

    def round(self, stage, contestant, seconds):
        if not self.counters:
            return {"instructions": instructions(stage, lambda: self.front(stage, contestant), small)}
        done, counted = measure.counted(
            contestant.pids(), "instructions:u",
            lambda: measure.wrk(contestant.address, "/small", 64, seconds))
        return {"instructions": counted / max(done["count"], 1)}

    def front(self, stage, contestant):
        if contestant.name == "nginx":
            return stage.nginx([contestant.lean.nginx_socket], processes=1, single=True)
        if contestant.name == "haproxy":
            return stage.haproxy([contestant.lean.haproxy_socket], threads=1)
        return counted_sidekeeper(stage)


def small(stage, front, count):
    measure.rig(stage.rig, "repeat", "--to", front.address, "--count", count)


def instructions(stage, begin, load):
    """Instructions a request, by callgrind. The difference of two lives is free of what a start and an
    end cost, and what came before the requests."""
    few, many = 1000, 5000
    return (life(stage, begin, load, many) - life(stage, begin, load, few)) / (many - few)


def life(stage, begin, load, count):
    """Instructions of the whole life of what `begin` starts, with so many requests in it."""
    out = stage.name(".callgrind")
    stage.under = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
    try:
        front = begin()
    finally:
        stage.under = []
    load(stage, front, count)
    end(stage.started.pop())
    found = re.search(r"^(?:summary|totals): (\d+)", measure.read(out), re.M)
    if not found:
        raise RuntimeError("callgrind has counted nothing")
    return int(found.group(1))


def counted_sidekeeper(stage, workers=1, **app):
    """sidekeeper under callgrind, with one pool thread."""
    # Under valgrind /proc/self/exe is valgrind; another link of the same length leads to ourselves.
    binary, link = stage.name(".sidekeeper"), Path(f"/tmp/{secrets.token_hex(5)[:9]}")
    binary.write_bytes(renamed(Path(stage.sidekeeper_binary).read_bytes(), b"/proc/self/exe", bytes(link)))
    binary.chmod(0o755)
    link.symlink_to(stage.sidekeeper_binary)
    stage.outside.append(link)
    several = [{"name": "lean", "command": [stage.rig, "backend"], "workers": workers, **app}]
    front = stage.sidekeeper(several, options=["--threads", "1"], binary=binary)
    front.sockets(workers)
    return front


def renamed(program, name, other):
    """A program in which one name of 14 bytes stands for another: as text, or as the two overlapping
    words that compilers make of such a constant."""
    def swap(match):
        return match[0].replace(name[:8], other[:8]).replace(name[6:], other[6:])

    first, last = re.escape(name[:8]), re.escape(name[6:])
    both = re.compile(b"%s.{1,16}?%s|%s.{1,16}?%s" % (first, last, last, first), re.S)
    return both.sub(swap, program.replace(name, other))


FOOTPRINT = [Idle("http", 256), Idle("ws", 1024), Start(), Calls(64), Calls(1000), Instructions()]
