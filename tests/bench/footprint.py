"""What sidekeeper weighs: memory at rest, time to the first answer, instructions a request."""

import subprocess
import time
from pathlib import Path

import measure
from contestants import answers, clean_environment, end, free_port
from scenarios import Scenario
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


class Instructions(Scenario):
    name, title = "instructions", "instructions a request in user space, 64 connections (needs hardware counters)"
    columns, ratios = ("instructions",), ("instructions",)
    rounds_max = 3

    def contestants(self, stage):
        if not measure.counts_instructions():
            raise RuntimeError("this machine counts no instructions (a guest without hardware counters)")
        return super().contestants(stage)[:-1]

    def round(self, stage, contestant, seconds):
        done, counted = measure.counted(
            contestant.pids(), "instructions:u",
            lambda: measure.wrk(contestant.address, "/small", 64, seconds))
        return {"instructions": counted / max(done["count"], 1)}
