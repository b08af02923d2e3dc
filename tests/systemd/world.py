"""A small world of its own around a real systemd, and a handle to drive it.

Called as the first process of fresh namespaces (see `run`). It covers every
directory that systemd or a unit would write to with memory, so that nothing of
the machine outside changes, and it goes away with the namespaces. It starts no
unit; `cases.py` and `packaged.py` do.
"""

import fcntl
import os
import pty
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

UNITS = Path("/etc/systemd/system")
CONFIG = Path("/etc/longhaul")
SCRATCH = Path("/run/longhaul-test")
SERVICE_LOG = SCRATCH / "service.log"
GROUP = "longhaul-test-keys"
GROUP_ID = 64999
# What the shipped units ask for by name; empty here.
STUBS = ["sysinit", "basic", "sockets", "network", "nss-lookup", "shutdown", "multi-user", "idle"]
# By environment, because a user manager ignores the flags of the same names.
LOG_ALL = {
    "SYSTEMD_LOG_LEVEL": "debug",
    "SYSTEMD_LOG_TARGET": "console",
    "SYSTEMD_LOG_COLOR": "no",
}
# A user's systemd has no right to these, or, below the marker, to any.
NOT_FOR_USERS = ("DynamicUser=", "AmbientCapabilities=", "CapabilityBoundingSet=")
SANDBOX_MARKER = "# ---- what it cannot do"
# systemctl itself must come back, whatever the unit does.
CALL_LIMIT = 60


class NotAllowed(Exception):
    """The machine does not let us build the world."""


def mount(*arguments):
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise NotAllowed(f"mount {' '.join(arguments)}: {done.stderr.strip()}")


def cover(path):
    """An empty directory in memory over `path`."""
    if Path(path).is_dir():
        mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", str(path))


def build(shipped, binary, certificates):
    """Mounts and fills everything. `shipped` holds the unit files, and
    `certificates` the pair that the config names."""
    staged = {path: Path(path).read_bytes() for path in shipped}
    program = Path(binary).read_bytes()
    pair = {path.name: path.read_bytes() for path in Path(certificates).iterdir()}
    cover_all()
    Path("/usr/local/bin/longhaul").write_bytes(program)
    os.chmod("/usr/local/bin/longhaul", 0o755)
    for path, content in staged.items():
        (SCRATCH / Path(path).name).write_bytes(content)
    with open("/etc/group", "a", encoding="ascii") as groups:
        groups.write(f"{GROUP}:x:{GROUP_ID}:\n")
    (CONFIG / "certs").mkdir(parents=True)
    for name, content in pair.items():
        path = CONFIG / "certs" / name
        path.write_bytes(content)
        if path.suffix == ".key":
            os.chown(path, 0, GROUP_ID)
            os.chmod(path, 0o640)
        else:
            os.chmod(path, 0o644)


def build_for_package(package):
    """A world without longhaul, into which dpkg may install it; the package's
    path in there."""
    content = Path(package).read_bytes()
    cover_all(installable=True)
    # A container's word that nothing may be started.
    Path("/usr/sbin/policy-rc.d").unlink(missing_ok=True)
    inside = SCRATCH / "longhaul.deb"
    inside.write_bytes(content)
    return inside


def layer(path, below=None):
    """Writes to `path` go into memory; what is there stays visible."""
    upper, work = (Path("/run/layers") / kind / path.strip("/") for kind in ("upper", "work"))
    for directory in (upper, work, Path(path)):
        directory.mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={below or path},upperdir={upper},workdir={work}"
    mount("-t", "overlay", "-o", options, "overlay", path)


def cover_all(installable=False):
    """`installable`: with the programs and the list of packages of the machine,
    to which dpkg may add."""
    # Read before anything is covered.
    groups = Path("/proc/self/cgroup").read_text()
    unified = groups.strip().startswith("0::") and groups.count("\n") == 1

    cover("/run")
    for directory in ("/run/systemd/system", SCRATCH, "/run/etc"):
        Path(directory).mkdir(parents=True)
    subprocess.run(["cp", "-a", "/etc/.", "/run/etc"], check=True)
    mount("--bind", "/run/etc", "/etc")
    if installable:
        layer("/usr")
        Path("/run/dpkg").mkdir()
        mount("--bind", "/var/lib/dpkg", "/run/dpkg")
    for directory in ("/var/lib", "/var/tmp", "/tmp", "/usr/local/bin"):
        cover(directory)
    for directory in ("/tmp", "/var/tmp"):
        os.chmod(directory, 0o1777)
    if installable:
        layer("/var/lib/dpkg", below="/run/dpkg")
        # Where the package's service may write its log; empty, as after an install.
        cover("/var/log")
    for kind in ("system", "user"):
        cover(f"/usr/lib/systemd/{kind}-generators")
        cover(f"/usr/lib/systemd/{kind}-environment-generators")
        cover(f"/usr/lib/systemd/{kind}")
        cover(f"/etc/systemd/{kind}")
    cover("/sys/fs/cgroup")
    if unified:
        mount("-t", "cgroup2", "cgroup2", "/sys/fs/cgroup")
    else:
        Path("/sys/fs/cgroup/systemd").mkdir()
        mount("-t", "cgroup", "-o", "none,name=systemd", "cgroup", "/sys/fs/cgroup/systemd")
    mount("--bind", "/proc/sys", "/proc/sys")
    mount("-o", "remount,bind,ro", "/proc/sys")
    bring_loopback_up()


def bring_loopback_up():
    get_flags, set_flags, up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH22x", b"lo", 0)
        (flags,) = struct.unpack_from("H", fcntl.ioctl(sock, get_flags, request), 16)
        fcntl.ioctl(sock, set_flags, struct.pack("16sH22x", b"lo", flags | up))


class Systemd:
    """One running manager: `user` (a child of ours) or `system` (process 1)."""

    def __init__(self, mode):
        self.mode = mode
        self.log = ""
        self.units = UNITS if mode == "system" else Path("/run/config/systemd/user")
        self.units.mkdir(parents=True, exist_ok=True)
        self.environment = dict(
            os.environ, XDG_RUNTIME_DIR="/run", XDG_CONFIG_HOME="/run/config", SYSTEMD_PAGER=""
        )
        self.environment.pop("DBUS_SESSION_BUS_ADDRESS", None)
        for name in STUBS:
            (self.units / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
        for unit in sorted(SCRATCH.glob("longhaul*.s*")):
            self.install(unit.name)

    def install(self, name):
        """The shipped unit; as it is, or for users without what they cannot have."""
        text = (SCRATCH / name).read_text()
        if self.mode == "user":
            above, _, _ = text.partition(SANDBOX_MARKER)
            lines = [line for line in above.splitlines() if not line.startswith(NOT_FOR_USERS)]
            text = "\n".join(lines) + "\n"
        (self.units / name).write_text(text)

    def command(self):
        flags = ["--unit=multi-user.target", "--show-status=no", "--log-color=no"]
        return ["/usr/lib/systemd/systemd", f"--{self.mode}", *flags]

    def follow(self, descriptor):
        """Keeps what the manager logs."""

        def read():
            while True:
                try:
                    data = os.read(descriptor, 65536)
                except OSError:
                    return
                if not data:
                    return
                self.log += data.decode("utf-8", "replace").replace("\r", "")
                NEWS.tell()

        threading.Thread(target=read, daemon=True).start()

    def ctl(self, *arguments, check=True):
        scope = ["--user"] if self.mode == "user" else []
        done = subprocess.run(
            ["systemctl", *scope, "--no-ask-password", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=CALL_LIMIT,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"systemctl {' '.join(arguments)}: {done.stderr.strip()}")
        return done

    def show(self, name, unit="longhaul.service"):
        return self.ctl("show", "--value", "-p", name, unit).stdout.strip()

    def main_pid(self):
        return int(self.show("MainPID"))

    def await_up(self):
        until(lambda: self.ctl("is-system-running", check=False).stdout.strip() in
              ("running", "degraded"), "systemd is up")


class News:
    """That the manager has logged something; at its debug level it does at each step."""

    def __init__(self):
        self.changed = threading.Condition()
        self.count = 0

    def tell(self):
        with self.changed:
            self.count += 1
            self.changed.notify_all()

    def wait(self, seen, limit):
        """Until there is more than had been `seen`, or the limit has passed."""
        with self.changed:
            self.changed.wait_for(lambda: self.count != seen, limit)


NEWS = News()


def until(condition, what, limit=20.0):
    """Asks whenever there is news until it is so; the bound makes it a failure instead
    of a hang."""
    end = time.monotonic() + limit
    while True:
        seen = NEWS.count
        if condition():
            return
        left = end - time.monotonic()
        if left <= 0:
            raise AssertionError(f"not within {limit:g} s: {what}")
        NEWS.wait(seen, left)


def enter(mode, tests):
    """Starts systemd and runs `tests(manager)` beside it; does not return for
    `system`, where this process becomes systemd and a child runs the tests."""
    manager = Systemd(mode)
    # Both kinds of manager log to the console, which must be a terminal. Our
    # own end of it stays open, or reading would fail between their writes.
    master, slave = pty.openpty()
    mount("--bind", os.ttyname(slave), "/dev/console")
    if mode == "user":
        subprocess.Popen(
            manager.command(),
            env=manager.environment | LOG_ALL,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        manager.follow(master)
        return tests(manager)
    if os.fork() == 0:
        manager.follow(master)
        code = tests(manager)
        sys.stdout.flush()
        os._exit(code)
    environment = {"container": "longhaul-test", "PATH": os.environ["PATH"]} | LOG_ALL
    os.execve(manager.command()[0], manager.command(), environment)
