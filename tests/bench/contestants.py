"""Starts and ends what is compared: sidekeeper, its peers, and the workers behind them.

Everything gets a session of its own and is ended by its process id. All proxies stand before the
same workers, by Unix sockets."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import measure

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 15
CORES = os.cpu_count() or 1


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(address, path="/small"):
    """Whether a GET at HOST:PORT is answered with 200."""
    host, port = address.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=5) as stream:
            stream.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
            return stream.recv(4096).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


class Stage:
    """A directory and the processes that were started in it; leaving it ends them all."""

    def __init__(self, sidekeeper, rig):
        self.sidekeeper_binary, self.rig = str(sidekeeper), str(rig)
        self.at = Path(tempfile.mkdtemp(prefix="bench-", dir="/tmp"))
        self.at.chmod(0o755)
        self.started = []
        self.named = 0
        # What everything is started under, such as a tracer.
        self.under = []
        # What lies elsewhere and goes with the stage.
        self.outside = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.started):
            end(process)
        for path in self.outside:
            path.unlink(missing_ok=True)
        shutil.rmtree(self.at, ignore_errors=True)

    def name(self, ending):
        self.named += 1
        return self.at / f"{self.named}{ending}"

    def start(self, command, env=None, cwd=None):
        command = [*self.under, *command]
        log = self.name(".log")
        with open(log, "wb") as out:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                env={**clean_environment(), **(env or {})}, cwd=cwd or self.at, start_new_session=True,
            )
        process.log = log
        self.started.append(process)
        return process

    def wait_for(self, process, address, path="/small"):
        give_up = time.monotonic() + START_SECONDS_MAX
        while not answers(address, path):
            if process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"{process.args} does not serve: {measure.read(process.log)[-2000:]}")
            time.sleep(0.02)

    # ---- workers -------------------------------------------------------------------------------

    def backend(self):
        """A lean worker that nobody supervises: its Unix socket, its TCP address, its process."""
        path, address = self.name(".sock"), f"127.0.0.1:{free_port()}"
        process = self.start([self.rig, "backend", f"unix:{path}", address])
        self.wait_for(process, address)
        return Direct("direct", address, process.pid, path)

    # ---- proxies -------------------------------------------------------------------------------

    def sidekeeper(self, apps, name="sidekeeper", options=(), ready="/small", binary=None):
        config, address = self.name(".json"), f"127.0.0.1:{free_port()}"
        config.write_text(json.dumps({"apps": apps}))
        process = self.start([
            binary or self.sidekeeper_binary, "run", "--config", config, "--listen", address,
            "--run-dir", self.name(".run"), "--log-level", "warn", *options,
        ])
        self.wait_for(process, address, ready)
        return Sidekeeper(name, address, process.pid)

    def sidekeeper_before_backend(self, name="sidekeeper", options=(), **app):
        """sidekeeper with one lean worker, which other contestants can reach as well."""
        path, address = self.name(".sock"), f"127.0.0.1:{free_port()}"
        command = [self.rig, "backend", f"unix:{path}", address]
        front = self.sidekeeper([{"name": "lean", "command": command, "workers": 1, **app}], name, options)
        front.sockets(1)
        return front, Direct("direct", address, front.workers()[0], path)

    def nginx(self, sockets, name="nginx", processes=CORES, extra="", single=False, ready="/small", hosts=()):
        port, config = free_port(), self.name(".conf")
        upstreams = "".join(f"server {at};" for at in sockets)
        config.write_text(f"""
            worker_processes {processes}; daemon off; pid {self.name('.pid')}; error_log stderr error;
            {'user root;' if os.geteuid() == 0 else ''}
            {'master_process off;' if single else ''}
            events {{ worker_connections 16000; }}
            http {{
                server_names_hash_max_size 8192; server_names_hash_bucket_size 128;
                access_log off; keepalive_requests 1000000000; client_max_body_size 0;
                map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
                upstream workers {{ {upstreams} keepalive 1024; keepalive_requests 1000000000; }}
                server {{
                    listen 127.0.0.1:{port} backlog=4096;
                    {f"server_name {' '.join(hosts)};" if hosts else ''}
                    location / {{
                        proxy_pass http://workers; proxy_http_version 1.1;
                        proxy_set_header Host $host;
                        proxy_set_header Upgrade $http_upgrade;
                        proxy_set_header Connection $connection_upgrade;
                        proxy_set_header X-Forwarded-For $remote_addr;
                        proxy_request_buffering off; proxy_max_temp_file_size 0; proxy_read_timeout 120s;
                        {extra}
                    }}
                }}
            }}""")
        process = self.start(["nginx", "-c", config, "-e", "stderr", "-p", self.at])
        self.wait_for(process, f"127.0.0.1:{port}", ready)
        return Contestant(name, f"127.0.0.1:{port}", process.pid)

    def haproxy(self, sockets, name="haproxy", threads=CORES):
        port, config = free_port(), self.name(".cfg")
        servers = "\n".join(f"    server s{number} {at}" for number, at in enumerate(sockets))
        config.write_text(f"""
global
    nbthread {threads}
    maxconn 9000
defaults
    mode http
    option forwardfor
    timeout client 120s
    timeout server 120s
    timeout tunnel 120s
    timeout connect 5s
    http-reuse always
frontend front
    bind 127.0.0.1:{port} backlog 4096
    default_backend workers
backend workers
{servers}
""")
        process = self.start(["haproxy", "-db", "-f", config])
        self.wait_for(process, f"127.0.0.1:{port}")
        return Contestant(name, f"127.0.0.1:{port}", process.pid)

    def http_proxy(self, path):
        port = free_port()
        process = self.start(["node", HERE / "node/proxy.js", port, path])
        self.wait_for(process, f"127.0.0.1:{port}")
        return Contestant("http-proxy", f"127.0.0.1:{port}", process.pid)

    def caddy(self, path):
        port, config = free_port(), self.name(".caddyfile")
        # A site without a host: ours is asked for as "bench".
        config.write_text(f"{{\n admin off\n auto_https off\n}}\nhttp://:{port} {{\n"
                          f" bind 127.0.0.1\n reverse_proxy unix/{path}\n}}\n")
        home = {"HOME": str(self.at), "XDG_DATA_HOME": str(self.at), "XDG_CONFIG_HOME": str(self.at)}
        process = self.start(["caddy", "run", "--config", config, "--adapter", "caddyfile"], env=home)
        self.wait_for(process, f"127.0.0.1:{port}")
        return Contestant("caddy", f"127.0.0.1:{port}", process.pid)

    # ---- Node without sidekeeper ---------------------------------------------------------------

    def node(self, name, script, words=(), ready="/", listen=None):
        """A Node app, or Node's cluster of it, on a TCP port, or on a Unix socket."""
        at = str(listen or free_port())
        preload = ["--require", HERE / "node/listen.js"]
        process = self.start(["node", *preload, *words, script], env={"PORT": at, "BENCH_LISTEN": at},
                             cwd=Path(script).parent)
        if listen:
            give_up = time.monotonic() + START_SECONDS_MAX
            while not Path(listen).exists() and time.monotonic() < give_up:
                time.sleep(0.02)
            return Contestant(name, f"unix:{listen}", process.pid)
        self.wait_for(process, f"127.0.0.1:{at}", ready)
        return Contestant(name, f"127.0.0.1:{at}", process.pid)

    def node_cluster(self, script, name="node cluster", workers=CORES, ready="/", preload=None):
        preloads = ["--require", preload] if preload else []
        return self.node(name, script, [*preloads, HERE / "node/cluster.js", str(workers)], ready)

    def pm2(self, script, workers=CORES):
        """pm2's cluster mode. Its daemon stays in the foreground, so that we can end it."""
        port, config = free_port(), self.name(".config.js")
        config.write_text("module.exports = " + json.dumps({"apps": [{
            "name": "bench", "script": str(script), "instances": workers, "exec_mode": "cluster",
            "node_args": f"--require {HERE / 'node/listen.js'}", "env": {"PORT": str(port), "BENCH_LISTEN": str(port)},
        }]}))
        home = {"PM2_HOME": str(self.name(".pm2"))}
        process = self.start([HERE / "node/node_modules/.bin/pm2", "start", config, "--no-daemon"], env=home)
        self.wait_for(process, f"127.0.0.1:{port}", "/")
        return Contestant("pm2 cluster", f"127.0.0.1:{port}", process.pid)


def clean_environment():
    unwanted = ("NODE_OPTIONS", "PORT", "LISTEN_FDS", "LISTEN_PID", "NODE_CHANNEL_FD")
    return {name: value for name, value in os.environ.items() if name not in unwanted}


def end(process):
    """Asks a process to end, then kills what is left of what it started."""
    below = {pid: measure.begun(pid) for pid in measure.tree(process.pid)[1:]}
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(timeout=STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid, begun in below.items():
        # A process id may have been given to somebody else in the meantime.
        if begun and measure.begun(pid) == begun:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


class Contestant:
    """Something that answers at an address; its processes are those whose time is counted."""

    def __init__(self, name, address, pid, socket_path=None):
        self.name, self.address, self.pid, self.socket_path = name, address, pid, socket_path

    def pids(self):
        return measure.tree(self.pid)

    def all_pids(self):
        return measure.tree(self.pid)


class Direct(Contestant):
    """The worker itself, by TCP: the limit that no proxy can pass."""

    def all_pids(self):
        return [self.pid]

    def pids(self):
        return [self.pid]

    @property
    def nginx_socket(self):
        return f"unix:{self.socket_path}"

    @property
    def haproxy_socket(self):
        return f"unix@{self.socket_path}"


class Sidekeeper(Contestant):
    """Its workers are its children as well, and are not counted as the proxy."""

    def workers(self):
        return [pid for pid in measure.children(self.pid) if measure.variable(pid, "SIDEKEEPER_SOCKET")]

    def sockets(self, count):
        """The Unix sockets of its workers, once there are so many: another proxy can use the same ones."""
        give_up = time.monotonic() + START_SECONDS_MAX
        while len(self.workers()) < count:
            if time.monotonic() > give_up:
                raise RuntimeError(f"{len(self.workers())} of {count} workers have started")
            time.sleep(0.05)
        return [measure.variable(pid, "SIDEKEEPER_SOCKET") for pid in self.workers()]

    def pids(self):
        return [self.pid] + [pid for pid in measure.children(self.pid) if "__guard" in measure.command_of(pid)]


class Workers(Contestant):
    """The workers of a sidekeeper, when another proxy uses them."""

    def __init__(self, of):
        super().__init__(f"workers of {of.name}", of.address, of.pid)
        self.of = of

    def all_pids(self):
        return [below for pid in self.of.workers() for below in measure.tree(pid)]


class Together(Contestant):
    """A proxy and the workers behind it, which nobody else counts."""

    def __init__(self, front, workers, name):
        super().__init__(name, front.address, front.pid)
        self.behind = workers

    def all_pids(self):
        return self.pids() + [pid for worker in self.behind for pid in worker.all_pids()]
