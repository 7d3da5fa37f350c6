"""Whether a request costs the same when there is more of everything. Every size is a contestant of
its own, so all of them are measured in every round. The machine itself gets dearer as well (more
sockets miss its caches, more processes are woken), so every size has a peer, measured in the same
breath, that shows how much."""

import shutil

import footprint
import measure
import tables
from contestants import Contestant
from scenarios import Scenario, per_request
from tables import Verdict

SPREAD_MAX = 1.15


class Sized(Contestant):
    """A contestant at one size."""

    def __init__(self, front, series, size):
        super().__init__(f"{series}, {size:,}", front.address, front.pid)
        self.front, self.series, self.size = front, series, size

    def pids(self):
        return self.front.pids()


class Growth(Scenario):
    seconds = 0.6
    connections = 64
    what = ""
    path, host, ranged = "/small", "bench", False

    def round(self, stage, contestant, seconds):
        done, spent = measure.rig_once_warm(
            stage.rig, contestant.pids(), "--to", contestant.address, "--seconds", seconds,
            "--connections", self.connections_of(contestant), "--path", self.path, "--host", self.host,
            "--range", max(1, contestant.size) if self.ranged else 1, warm=0.3)
        return per_request(done, spent)

    def connections_of(self, contestant):
        return self.connections

    def series(self, rounds):
        """{series: {size: CPU us}} of rounds by the contestants' names."""
        points = {}
        for name, some in rounds.items():
            series, _, size = name.partition(", ")
            points.setdefault(series, {})[int(size.replace(",", ""))] = tables.middle(some, "cpu_us")
        return points

    def table(self, rounds):
        points = self.series(rounds)
        sizes = sorted({size for costs in points.values() for size in costs})
        head = [f"CPU us each, by {self.what}"] + [f"{size:,}" for size in sizes] + ["most / least"]
        rows = []
        for name, costs in points.items():
            cells = [f"{costs[size]:.2f}" if size in costs else "" for size in sizes]
            rows.append([name, *cells, f"{spread(costs):.2f}"])
        for name, costs in points.items():
            if name != "sidekeeper":
                found = {size: self.ratio(rounds, name, size) for size in costs}
                cells = [f"{found[size]:.2f}" if found.get(size) else "" for size in sizes]
                rows.append([f"sidekeeper / {name}", *cells, f"{spread(found):.2f}"])
        return tables.markdown(head, rows)

    def ratio(self, rounds, peer, size):
        return tables.ratio(rounds.get(f"sidekeeper, {size:,}", []), rounds[f"{peer}, {size:,}"], "cpu_us")

    def verdicts(self, rounds):
        points = self.series(rounds)
        if not points.get("sidekeeper"):
            return []
        ours = spread(points["sidekeeper"])
        peer = next((name for name in points if name != "sidekeeper"), None)
        theirs = spread(points[peer]) if peer else None
        goal = f"at most {SPREAD_MAX:.2f}"
        return [Verdict("growth", "sidekeeper", ours, theirs, peer, None, goal, ours <= SPREAD_MAX)]


def spread(costs):
    values = [cost for cost in costs.values() if cost]
    return max(values) / min(values) if values else float("nan")


class Connections(Growth):
    name, title, what = "growth-connections", "cost by connections, all of them busy", "connections"
    SIZES = (10, 100, 1000, 5000)

    def contestants(self, stage):
        front, lean = stage.sidekeeper_before_backend()
        fronts = [front, lean, stage.nginx([lean.nginx_socket]), stage.haproxy([lean.haproxy_socket])]
        return [Sized(front, front.name, size) for size in self.SIZES for front in fronts]

    def connections_of(self, contestant):
        return contestant.size


class Workers(Growth):
    name, title, what = "growth-workers", "cost by workers, in turn", "workers"
    SIZES = (1, 10, 50, 200)

    def contestants(self, stage):
        several = []
        for size in self.SIZES:
            app = {"name": "lean", "command": [stage.rig, "backend"], "workers": size}
            front = stage.sidekeeper([app])
            nginx = stage.nginx([f"unix:{at}" for at in front.sockets(size)])
            several += [Sized(front, "sidekeeper", size), Sized(nginx, "nginx", size)]
        return several


class Sessions(Growth):
    name, title, what = "growth-sessions", "cost by learned sessions; each request names one of them", "sessions"
    SIZES = (0, 1000, 30_000, 1_000_000)
    path, ranged = "/socket.io/?EIO=4&transport=polling&sid=bench{sid}", True

    def contestants(self, stage):
        """nginx learns nothing: it shows what requests that differ cost the machine."""
        several = []
        for size in self.SIZES:
            app = {"name": "lean", "command": [stage.rig, "backend"], "workers": 1}
            front = stage.sidekeeper([app], options=["--sessions-max", "2000000"])
            if size:
                learn(stage, front, size)
            nginx = stage.nginx([f"unix:{at}" for at in front.sockets(1)])
            several += [Sized(front, "sidekeeper", size), Sized(nginx, "nginx", size)]
        return several


class Routes(Growth):
    name, title, what = "growth-routes", "cost by routes; each request asks for another one", "routes"
    SIZES = (1, 10, 100, 1000)
    host, ranged = "host{n}.test", True

    def contestants(self, stage):
        several = []
        for size in self.SIZES:
            # Half of the routes are hosts of an app, the others hosts of an app with a path.
            hosts = [f"host{number}.test" for number in range(size)] + ["bench"]
            app = {"name": "lean", "command": [stage.rig, "backend"], "workers": 1, "hosts": hosts}
            deeper = {**app, "name": "deeper", "path": "/deeper/app"}
            front = stage.sidekeeper([app, deeper])
            nginx = stage.nginx([f"unix:{front.sockets(2)[0]}"], hosts=hosts)
            several += [Sized(front, "sidekeeper", size), Sized(nginx, "nginx", size)]
        return several


class Instructions(Scenario):
    """Growth without the machine's own: instructions in user space, by callgrind."""

    name, title = "growth-instructions", "instructions a request in user space, by size"
    rounds_max, warm_up = 1, False
    SIZES = {
        "connections": (10, 1000, 5000), "workers": (1, 50), "learned sessions": (0, 30_000), "routes": (1, 1000),
    }

    def contestants(self, stage):
        if not shutil.which("valgrind"):
            raise RuntimeError("there is no valgrind")
        return [Point(kind, size) for kind, sizes in self.SIZES.items() for size in sizes]

    def round(self, stage, point, seconds):
        size, words, app = point.size, [], {}
        if point.kind == "connections":
            words = ["--connections", size]
        if point.kind == "routes":
            app["hosts"] = [f"host{number}.test" for number in range(size)] + ["bench"]
            words = ["--host", Routes.host, "--range", size]
        if point.kind == "learned sessions":
            words = ["--path", Sessions.path, "--range", max(1, size)]
        workers = size if point.kind == "workers" else 1

        def load(stage, front, count):
            if point.kind == "learned sessions" and size:
                learn(stage, front, size)
            measure.rig(stage.rig, "repeat", "--to", front.address, "--count", count, *words)

        counted = footprint.instructions(
            stage, lambda: footprint.counted_sidekeeper(stage, workers, **app), load)
        return {"instructions": counted}

    def counts(self, rounds):
        """{kind: {size: instructions}}"""
        counts = {}
        for name, some in rounds.items():
            size, _, kind = name.partition(" ")
            counts.setdefault(kind, {})[size] = tables.middle(some, "instructions")
        return counts

    def table(self, rounds):
        rows = [[kind, ", ".join(f"{size}: {count:,.0f}" for size, count in counts.items()), f"{spread(counts):.2f}"]
                for kind, counts in self.counts(rounds).items()]
        return tables.markdown(["by", "instructions each", "most / least"], rows)

    def verdicts(self, rounds):
        goal = f"at most {SPREAD_MAX:.2f}"
        found = {kind: spread(counts) for kind, counts in self.counts(rounds).items()}
        return [Verdict("grown", f"by {kind}", ours, None, None, None, goal, ours <= SPREAD_MAX)
                for kind, ours in found.items()]


class Point:
    """What is counted in a round of its own."""

    def __init__(self, kind, size):
        self.name, self.kind, self.size = f"{size:,} {kind}", kind, size


def learn(stage, front, count):
    """Lets a sidekeeper learn so many sessions."""
    measure.rig(stage.rig, "repeat", "--to", front.address, "--count", count, "--connections", min(64, count),
                "--path", "/socket.io/?EIO=4&transport=polling", timeout=300)


GROWTH = [Connections(), Workers(), Sessions(), Routes(), Instructions()]
