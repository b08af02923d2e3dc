"""What is measured: longhaul, its peers, a bare relay, and no proxy at all.

Each target says how it is installed, started and reloaded; its configuration lies in bench/peers and says why it is as
it is. A target that cannot be had is skipped, and the tables say so."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time

import envoy_lds
from processes import family

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOT = os.path.dirname(HERE)
WORK = os.path.join(HERE, "work")
LOAD = os.path.join(HERE, "target", "release", "lhbench")
CERTS = os.path.join(WORK, "certs")
BACKEND = "127.0.0.1:9000"
# Set for cells that must not be disturbed on a machine with other work; see set_realtime.
REALTIME = False


def set_realtime(pid, on=True):
    """Puts a process before all ordinary work of the machine (SCHED_FIFO), or back behind.

    For cells with a fixed rate only: they leave the cores idle time, saturated ones would leave other work none."""
    os.sched_setscheduler(pid, os.SCHED_FIFO if on else os.SCHED_OTHER, os.sched_param(1 if on else 0))


def cores():
    """The core of the load and the backend, and the core of the proxy."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


def spawn(command, core, **options):
    """Starts a program on one core, in a session of its own."""
    def before():
        os.sched_setaffinity(0, {core})
        os.setsid()
        # Other work of the machine comes second, alike for every target. Where sessions are scheduled as groups, the
        # group's value is the one that counts. Not allowed: noise is what it costs.
        try:
            os.setpriority(os.PRIO_PROCESS, 0, -10)
            with open("/proc/self/autogroup", "w", encoding="ascii") as file:
                file.write("-10")
            if REALTIME:
                set_realtime(0)
        except OSError:
            pass
    return subprocess.Popen(command, preexec_fn=before, **options)


def commit():
    """The commit of the tree, with a `+` where it has been changed since; the name of a binary given from outside."""
    if "LONGHAUL" in os.environ:
        return "a binary given by LONGHAUL"
    def git(*words):
        return subprocess.run(["git", "-C", ROOT, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                              check=False).stdout.strip()
    changed = git("status", "--porcelain", "--", "src", "Cargo.toml", "Cargo.lock", "bench/src", "bench/kit")
    return (git("rev-parse", "--short", "HEAD") or "no commit") + ("+" if changed else "")


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def wait_for(port, process, seconds=20):
    """Waits until somebody listens on a port."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"ended with {process.returncode} before it listened")
        if listens(port):
            return
        time.sleep(0.02)
    raise RuntimeError(f"does not listen after {seconds} s")


class Target:
    """A proxy. `port` is its plain port, TLS is the next, an admin port the one after."""

    name = ""
    template = ""
    tls = True
    reloads = True
    # Only for the cells that ask for it (bulk and memory).
    variant = False
    # Bytes of a buffer, where the configuration has one.
    buffer = 16384
    # Arguments of the load generator that only this target gets.
    load_args = ()
    # Seconds that it may take to listen.
    patience = 20

    def __init__(self, port):
        self.port = port
        self.process = None
        self.generation = 0
        self.directory = os.path.join(WORK, "run", f"{type(self).__name__}-{port}")

    def find(self):
        """The program, or None."""
        return self.find_as(self.name)

    def find_as(self, program):
        return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/bin")

    def version(self):
        return "?"

    def command(self):
        raise NotImplementedError

    def environment(self):
        return dict(os.environ)

    def render(self, text):
        values = {"PLAIN": self.port, "TLS": self.port + 1, "ADMIN": self.port + 2, "DIR": self.directory,
                  "CERTS": CERTS, "BUFFER": self.buffer, "BACKEND": BACKEND, "BACKEND_PORT": BACKEND.rsplit(":", 1)[1]}
        return re.sub(r"@([A-Z_]+)@", lambda m: str(values[m.group(1)]), text)

    def config_path(self):
        return os.path.join(self.directory, self.template)

    def write_config(self):
        with open(os.path.join(HERE, "peers", self.template), encoding="utf-8") as file:
            text = self.render(file.read())
        # A comment that grows is enough for a proxy to see another file.
        text += f"\n# generation {self.generation}\n"
        with open(self.config_path(), "w", encoding="utf-8") as file:
            file.write(text)

    def start(self):
        # Whoever was killed with thousands of tunnels open needs a moment to be gone.
        until = time.monotonic() + 5
        while listens(self.port):
            if time.monotonic() > until:
                raise RuntimeError("finds its port taken")
            time.sleep(0.05)
        shutil.rmtree(self.directory, ignore_errors=True)
        os.makedirs(self.directory)
        # nginx's worker gives up root; what it writes lies here.
        os.chmod(self.directory, 0o777)
        self.write_config()
        with open(os.path.join(self.directory, "log"), "w", encoding="utf-8") as log:
            self.process = spawn(self.command(), cores()[1], stdout=log, stderr=log, env=self.environment(),
                                 cwd=self.directory)
        try:
            wait_for(self.port, self.process, self.patience)
            if self.tls:
                wait_for(self.port + 1, self.process, self.patience)
        except RuntimeError as error:
            with open(os.path.join(self.directory, "log"), encoding="utf-8", errors="replace") as log:
                tail = log.read()[-600:]
            self.stop()
            raise RuntimeError(f"{self.name} {error}: {tail}") from error

    def reload(self):
        self.generation += 1
        self.write_config()
        self.signal_reload()

    def signal_reload(self):
        self.process.send_signal(signal.SIGHUP)

    def stop(self):
        """Ends the process and all its descendants: some workers leave the group, and one that stayed would take
        connections from whoever listens on the port next."""
        if self.process is None:
            return
        members = family(self.process.pid)
        for sig, patience in ((signal.SIGTERM, 0.5), (signal.SIGKILL, 5)):
            for pid in members:
                try:
                    os.kill(pid, sig)
                except ProcessLookupError:
                    continue
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
        for pid in members:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
        self.process = None

    def address(self, tls=False):
        return f"127.0.0.1:{self.port + (1 if tls else 0)}"

    def pid(self):
        return self.process.pid if self.process else None


def first_line(command, pattern):
    """The first match of a pattern in what a program says."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True)
    found = re.search(pattern, done.stdout)
    return found.group(1) if found else "?"


class Longhaul(Target):
    name = "longhaul"
    template = "longhaul.toml"

    def find(self):
        path = os.environ.get("LONGHAUL", os.path.join(ROOT, "target", "release", "longhaul"))
        return path if os.access(path, os.X_OK) else None

    def version(self):
        return first_line([self.find(), "--version"], r"(\d[\w.+-]*)")

    def command(self):
        return [self.find(), "run", "--config", self.config_path()]


class LonghaulRaw(Longhaul):
    """The same proxy, asked for a protocol that it does not look into: no frame cursor."""

    name = "longhaul, no cursor"
    load_args = ("--protocol", "raw")


class Nginx(Target):
    name = "nginx"
    template = "nginx.conf"
    # The default of nginx: a page.
    buffer = 4096

    def version(self):
        return first_line([self.find(), "-v"], r"nginx/([\d.]+)")

    def command(self):
        return [self.find(), "-p", self.directory, "-e", os.path.join(self.directory, "error.log"),
                "-c", self.config_path()]


class NginxLarge(Nginx):
    """nginx as one would set it for large messages."""

    name = "nginx, 64 KiB buffers"
    variant = True
    buffer = 65536

    def find(self):
        return self.find_as("nginx")


class Haproxy(Target):
    name = "haproxy"
    template = "haproxy.cfg"

    def version(self):
        return first_line([self.find(), "-v"], r"version ([\w.]+)")

    def command(self):
        return [self.find(), "-W", "-f", self.config_path()]

    def signal_reload(self):
        self.process.send_signal(signal.SIGUSR2)


class HaproxyLarge(Haproxy):
    """HAProxy as one would set it for large messages."""

    name = "haproxy, 64 KiB buffers"
    variant = True
    buffer = 65536

    def find(self):
        return self.find_as("haproxy")


class Caddy(Target):
    name = "caddy"
    template = "Caddyfile"

    def version(self):
        return first_line([self.find(), "version"], r"v?(\d[\d.]*)")

    def environment(self):
        return dict(os.environ, GOMAXPROCS="1", HOME=self.directory)

    def command(self):
        return [self.find(), "run", "--config", self.config_path(), "--adapter", "caddyfile"]

    def signal_reload(self):
        subprocess.run([self.find(), "reload", "--force", "--config", self.config_path(), "--adapter", "caddyfile",
                        "--address", f"127.0.0.1:{self.port + 2}"], check=True, env=self.environment(),
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Envoy(Target):
    name = "envoy"
    template = "envoy.yaml"

    def find(self):
        path = os.path.join(WORK, "peers", "envoy", "envoy", "_bin", "envoy")
        return path if os.access(path, os.X_OK) else None

    def version(self):
        return first_line([self.find(), "--version"], r"/(\d+\.\d+\.\d+)/")

    def write_config(self):
        if self.generation == 0:
            super().write_config()
        envoy_lds.write(os.path.join(self.directory, "lds.json"), self.port, self.port + 1, CERTS, self.generation)

    def signal_reload(self):
        """The move of the listener file was the reload."""

    def command(self):
        return [self.find(), "-c", self.config_path(), "--concurrency", "1", "--use-dynamic-base-id", "-l", "error"]


class Sozu(Target):
    name = "sozu"
    template = "sozu.toml"
    reloads = False

    def find(self):
        path = os.path.join(WORK, "peers", "sozu", "bin", "sozu")
        return path if os.access(path, os.X_OK) else None

    def version(self):
        return first_line([self.find(), "--version"], r"(\d+\.\d+\.\d+)")

    def command(self):
        return [self.find(), "-c", self.config_path(), "start"]


class Relay(Target):
    """The bare relay of the load generator: no protocol at all."""

    name = "bare relay"
    tls = False
    reloads = False

    def find(self):
        return LOAD

    def write_config(self):
        pass

    def command(self):
        return [LOAD, "relay", f"127.0.0.1:{self.port}", BACKEND]


class SpliceRelay(Relay):
    """The same with splice(2): the floor of bulk."""

    name = "bare relay, splice"

    def command(self):
        return [*super().command(), "--splice"]


class BareHyper(Relay):
    """hyper and tokio without longhaul, one thread as all: the floor of what parses heads with them."""

    name = "bare hyper"

    def command(self):
        return [LOAD, "hyper", f"127.0.0.1:{self.port}", BACKEND]


class Direct(Target):
    """No proxy: the floor of latency, the ceiling of the load generator."""

    name = "direct"
    tls = False
    reloads = False

    def find(self):
        return LOAD

    def start(self):
        pass

    def stop(self):
        pass

    def address(self, tls=False):
        return BACKEND


ALL = [Longhaul, Nginx, NginxLarge, Haproxy, HaproxyLarge, Caddy, Envoy, Sozu, LonghaulRaw, Relay, SpliceRelay, BareHyper, Direct]
