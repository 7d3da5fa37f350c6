"""What is read off the machine: processor time, memory, and what the load programs report.

Nothing here knows what is being compared. Times are in seconds, processor time in nanoseconds."""

import glob
import json
import os
import re
import resource
import subprocess
import time
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def read(path):
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def children(pid):
    return [int(word) for task in glob.glob(f"/proc/{pid}/task/*/children") for word in read(task).split()]


def tree(pid):
    """A process and all that descend from it."""
    return [pid] + [below for child in children(pid) for below in tree(child)]


def command_of(pid):
    return read(f"/proc/{pid}/cmdline").split("\0")


def variable(pid, name):
    """The value of a variable in a process's environment."""
    lines = read(f"/proc/{pid}/environ").split("\0")
    return next((line.partition("=")[2] for line in lines if line.startswith(f"{name}=")), None)


def begun(pid):
    """When a process began, which together with its id says which one it is."""
    fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 else None


class Cpu:
    """Processor time of some processes since the last look.

    The scheduler counts each thread in nanoseconds, but forgets threads that have ended; the process
    remembers them, in ticks. So of each process the first is taken as long as its threads stay the same."""

    def __init__(self, pids):
        self.before = {pid: self.look(pid) for pid in pids}

    @staticmethod
    def look(pid):
        """Its threads, their time, and the time of all it ever had; None if it has ended."""
        fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        if len(fields) <= 12:
            return None
        threads, exact = set(), 0
        for task in glob.glob(f"/proc/{pid}/task/*/schedstat"):
            counted = read(task).split()
            if counted:
                threads.add(task)
                exact += int(counted[0])
        return threads, exact, (int(fields[11]) + int(fields[12])) * 1_000_000_000 // TICKS_PER_SECOND

    def since(self):
        spent = 0
        for pid, before in self.before.items():
            now = self.look(pid)
            if before and now:
                same = now[0] == before[0]
                spent += now[1] - before[1] if same else now[2] - before[2]
        return spent


class Machine:
    """How much of the machine others took: all that was busy, less what the benchmark knows of."""

    def __init__(self):
        self.begin = self.look()
        self.known = 0

    def look(self):
        fields = [int(word) for word in read("/proc/stat").splitlines()[0].split()[1:9]]
        user, nice, system, idle, iowait, irq, softirq, steal = fields
        busy = user + nice + system + irq + softirq + steal
        return busy, busy + idle + iowait

    def others_share(self, known_ns):
        busy, total = self.look()
        busy, total = busy - self.begin[0], total - self.begin[1]
        mine = known_ns / 1e9 * TICKS_PER_SECOND
        return max(0.0, busy - mine) / total if total else 0.0


def own_children_ns():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((used.ru_utime + used.ru_stime) * 1e9)


def memory_kib(pids, field="Pss"):
    """Proportional memory of processes: what they share with others is counted by its share."""
    total = 0
    for pid in pids:
        found = re.search(rf"^{field}: +(\d+) kB", read(f"/proc/{pid}/smaps_rollup"), re.M)
        total += int(found.group(1)) if found else 0
    return total


def resident_kib(pids):
    found = (re.search(r"^VmRSS:\s+(\d+) kB", read(f"/proc/{pid}/status"), re.M) for pid in pids)
    return sum(int(one.group(1)) for one in found if one)


def threads_of(pids):
    return sum(len(glob.glob(f"/proc/{pid}/task/*")) for pid in pids)


def outcome(command, timeout):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def rig(binary, *words, timeout=120):
    """Runs a load program of ours."""
    return json.loads(outcome([binary, *words], timeout).splitlines()[-1])


def rig_once_warm(binary, pids, *words, warm=0.5, timeout=120):
    """Runs the repeating load, and returns what it says and the processor time of `pids`, both from
    when all its connections are open and have been used."""
    command = [str(word) for word in (binary, "repeat", *words, "--warm", warm)]
    load = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        if not load.stdout.readline():
            raise RuntimeError(load.stderr.read())
        cpu = Cpu(pids)
        line = load.stdout.readline()
        spent = cpu.since()
        if not line:
            raise RuntimeError(load.stderr.read())
    finally:
        ended(load, timeout)
    return json.loads(line), spent


def ended(process, seconds_max):
    """Waits for a load program to end by itself, and ends it if it does not."""
    try:
        process.wait(timeout=seconds_max)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


UNITS_US = {"us": 1, "ms": 1e3, "s": 1e6, "m": 6e7}


def wrk(address, path, connections, seconds, headers=(), script=None):
    """Runs wrk, and returns count, seconds, errors and latencies in microseconds."""
    command = ["wrk", "-t2", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "--latency"]
    for header in headers:
        command += ["-H", header]
    if script:
        command += ["-s", script]
    text = outcome(command + [f"http://{address}{path}"], seconds + 60)
    count, took, unit = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)", text).groups()
    result = {"count": int(count), "seconds": float(took) * UNITS_US[unit] / 1e6, "errors": 0}
    for share, name in (("50%", "p50_us"), ("99%", "p99_us")):
        found = re.search(rf"^\s+{share}\s+([\d.]+)(us|ms|s|m)", text, re.M)
        result[name] = float(found.group(1)) * UNITS_US[found.group(2)] if found else 0
    for pattern in (r"Non-2xx or 3xx responses: (\d+)", r"connect (\d+), read (\d+), write (\d+), timeout (\d+)"):
        found = re.search(pattern, text)
        result["errors"] += sum(map(int, found.groups())) if found else 0
    return result


def system_calls(pids, load, seconds_max=60):
    """Counts the system calls of processes while `load` runs: by strace, so times mean nothing."""
    out = f"/tmp/bench-strace-{os.getpid()}"
    command = ["strace", "-f", "-c", "-qq", "-o", out] + [word for pid in pids for word in ("-p", str(pid))]
    tracer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        done = load()
    finally:
        tracer.send_signal(2)
        tracer.wait(timeout=seconds_max)
    counts = {}
    for line in read(out).splitlines():
        words = line.split()
        if len(words) >= 5 and words[3].isdigit() and words[-1] != "total":
            counts[words[-1]] = int(words[3])
    os.unlink(out)
    return done, counts


def counted(pids, event, load):
    """What the kernel counts of an event in processes while `load` runs; None where it does not."""
    command = ["perf", "stat", "-x,", "-e", event, "-p", ",".join(map(str, pids))]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        time.sleep(0.5)
        done = load()
    finally:
        tracer.send_signal(2)
        said = tracer.communicate(timeout=30)[1]
    found = re.search(r"^(\d+),", said, re.M)
    return done, int(found.group(1)) if found else None


def counts_instructions():
    try:
        done = subprocess.run(["perf", "stat", "-x,", "-e", "instructions:u", "true"], capture_output=True, text=True)
    except OSError:
        return False
    return re.search(r"^\d+,", done.stderr, re.M) is not None
