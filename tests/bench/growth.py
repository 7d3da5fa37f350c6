"""Whether a request costs the same when there is more of everything. Every size is a contestant of
its own, so all of them are measured in every round."""

import measure
from contestants import Contestant
from scenarios import Scenario, per_request


class Sized(Contestant):
    """A contestant at one size."""

    def __init__(self, front, series, size):
        super().__init__(f"{series}, {size:,}", front.address, front.pid)
        self.front, self.series, self.size = front, series, size

    def pids(self):
        return self.front.pids()


class Growth(Scenario):
    rounds_max = 3
    connections = 64
    what = ""
    path, host, ranged = "/small", "bench", False

    def round(self, stage, contestant, seconds):
        done, spent = measure.rig_once_warm(
            stage.rig, contestant.pids(), "--to", contestant.address, "--seconds", seconds,
            "--connections", self.connections_of(contestant), "--path", self.path, "--host", self.host,
            "--range", max(1, contestant.size) if self.ranged else 1)
        return per_request(done, spent)

    def connections_of(self, contestant):
        return self.connections


class Connections(Growth):
    name, title, what = "growth-connections", "cost by connections, all of them busy", "connections"
    SIZES = (10, 100, 1000, 5000)

    def contestants(self, stage):
        front, lean = stage.sidekeeper_before_backend()
        fronts = [front, stage.nginx([lean.nginx_socket]), stage.haproxy([lean.haproxy_socket])]
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
        several = []
        for size in self.SIZES:
            app = {"name": "lean", "command": [stage.rig, "backend"], "workers": 1}
            front = stage.sidekeeper([app], options=["--sessions-max", "2000000"])
            if size:
                measure.rig(stage.rig, "repeat", "--to", front.address, "--count", size, "--connections",
                            min(64, size), "--path", "/socket.io/?EIO=4&transport=polling", timeout=300)
            several.append(Sized(front, "sidekeeper", size))
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
            several.append(Sized(stage.sidekeeper([app, deeper]), "sidekeeper", size))
        return several


GROWTH = [Connections(), Workers(), Sessions(), Routes()]
