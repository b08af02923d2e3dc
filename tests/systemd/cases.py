"""What a real systemd must see of longhaul, one function for each promise.

Run by `run` inside namespaces of its own (`world.py`). Each case starts from a
stopped service and the same files. The manager's own debug log tells which
notifications arrived; nothing waits by sleeping.
"""

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import world
from wire import Backend, Ended, Tunnel, get
from world import CONFIG, SERVICE_LOG, until

PLAIN, TLS = 80, 443
LOG_DROP_IN = f"[Service]\nStandardOutput=append:{SERVICE_LOG}\nStandardError=append:{SERVICE_LOG}\n"
CAP_NET_BIND_SERVICE = 1 << 10
DYNAMIC_USERS = range(61184, 65520)
# Read before the world covers the directory they are in.
ROOT = Path(__file__).resolve().parent.parent.parent
REPOSITORY = {
    name: (ROOT / name).read_bytes()
    for name in (
        "README.md",
        "certs-example/make.sh",
        "config/longhaul.toml",
        "systemd/longhaul.service",
    )
}


def main_config():
    return f"""
include = ["routes.d/*.toml"]
[listeners.public]
address = "[::]:{TLS}"
certificates = [{{ chain = "certs/pair.pem", key = "certs/pair.key" }}]
[listeners.plain]
address = "[::]:{PLAIN}"
[admin]
socket = "/run/longhaul/admin.sock"
[drain]
window = "100ms"
deadline = "5s"
close_timeout = "1s"
"""


def route(path, port):
    name = "r" + re.sub(r"\W", "", path)
    return f"""
[[routes]]
path = "{path}"
upstream = "{name}"
[upstreams.{name}]
backends = [{{ name = "one", address = "127.0.0.1:{port}" }}]
"""


class Case:
    """The state that every case starts from."""

    def __init__(self, manager, backend):
        self.manager = manager
        self.backend = backend
        self.mark = len(manager.log)

    def prepare(self):
        manager = self.manager
        sockets = ("longhaul-public.socket", "longhaul-plain.socket", "longhaul-both.socket")
        manager.ctl("stop", *sockets, "longhaul.service", check=False)
        manager.ctl("reset-failed", check=False)
        for leftover in manager.units.glob("longhaul.service.d/*"):
            leftover.unlink()
        (manager.units / "longhaul-both.socket").unlink(missing_ok=True)
        self.drop_in("log", LOG_DROP_IN)
        if manager.mode == "system":
            self.drop_in("keys", f"[Service]\nSupplementaryGroups={world.GROUP}\n")
        (CONFIG / "routes.d").mkdir(exist_ok=True)
        for old in (CONFIG / "routes.d").iterdir():
            old.unlink()
        (CONFIG / "longhaul.toml").write_text(main_config())
        (CONFIG / "routes.d/a.toml").write_text(route("/*", self.backend.port))
        manager.ctl("daemon-reload")
        self.mark = len(manager.log)

    def drop_in(self, name, text):
        directory = self.manager.units / "longhaul.service.d"
        directory.mkdir(exist_ok=True)
        (directory / f"{name}.conf").write_text(text)

    def start(self):
        self.manager.ctl("start", "longhaul.service")

    def heard(self, message):
        """How often the service sent this notification since the case began."""
        return self.manager.log[self.mark :].count(message)

    def await_heard(self, message, count=1, limit=20.0):
        until(lambda: self.heard(message) >= count, f"notification {message}", limit)


# ---- both modes


def start_returns_when_every_listener_is_bound(case):
    case.start()
    # The first attempt, on both, with no second one.
    assert get(PLAIN) == 200
    assert get(TLS, tls=True) == 200
    manager = case.manager
    case.await_heard("READY=1")
    assert manager.show("ActiveState") == "active"
    until(lambda: manager.show("StatusText") != "", "a status text")


def start_fails_when_a_listener_cannot_be_bound(case):
    with socket.create_server(("::", TLS), family=socket.AF_INET6):
        done = case.manager.ctl("start", "longhaul.service", check=False)
    assert done.returncode != 0, "systemctl start succeeded without the listener"
    assert case.heard("READY=1") == 0


def a_bad_config_is_not_restarted(case):
    (CONFIG / "routes.d/a.toml").write_text("[[routes]]\npaht = 1\n")
    done = case.manager.ctl("start", "longhaul.service", check=False)
    assert done.returncode != 0
    until(lambda: case.manager.show("ActiveState") == "failed", "the unit has failed")
    assert case.manager.show("ExecMainStatus") == "2"
    assert case.manager.show("NRestarts") == "0"
    assert "paht" in SERVICE_LOG.read_text()


def sockets_activate_it_and_outlive_it(case):
    manager = case.manager
    manager.ctl("start", "longhaul-public.socket", "longhaul-plain.socket")
    assert manager.show("ActiveState") == "inactive"
    assert get(PLAIN) == 200
    # A client may have its answer before systemd has read that the service is ready.
    until(lambda: manager.show("ActiveState") == "active", "the unit is active")
    assert get(TLS, tls=True) == 200
    inherited(case, {PLAIN: 1, TLS: 1})
    manager.ctl("stop", "longhaul.service")
    # The first one starts it again.
    assert get(TLS, tls=True) == 200


def one_socket_unit_is_matched_by_address(case):
    manager = case.manager
    (manager.units / "longhaul-both.socket").write_text(
        f"[Socket]\nListenStream=[::]:{PLAIN}\nListenStream=[::]:{TLS}\n"
        "BindIPv6Only=both\nService=longhaul.service\n"
    )
    manager.ctl("daemon-reload")
    manager.ctl("start", "longhaul-both.socket")
    assert get(TLS, tls=True) == 200
    assert get(PLAIN) == 200
    inherited(case, {PLAIN: 1, TLS: 1})


def inherited(case, ports):
    """The service listens on these ports, and only on systemd's sockets."""
    listening = {}
    for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]:
        fields = line.split()
        port = int(fields[1].split(":")[1], 16)
        if fields[3] == "0A" and port in ports:
            listening.setdefault(port, []).append(f"socket:[{fields[9]}]")
    assert {port: len(found) for port, found in listening.items()} == ports, listening
    held = set()
    for descriptor in Path(f"/proc/{case.manager.main_pid()}/fd").iterdir():
        try:
            held.add(os.readlink(descriptor))
        except FileNotFoundError:
            pass
    for found in listening.values():
        assert set(found) <= held, f"{found} not among the descriptors of the service"


def a_restart_behind_sockets_refuses_nobody(case):
    manager = case.manager
    manager.ctl("start", "longhaul-public.socket", "longhaul-plain.socket")
    assert get(PLAIN) == 200
    refused, tried, done = [], [], threading.Event()

    def knock():
        while not done.is_set():
            try:
                socket.create_connection(("127.0.0.1", PLAIN), timeout=10).close()
            except ConnectionError as error:
                refused.append(str(error))
            tried.append(1)

    knocking = threading.Thread(target=knock)
    knocking.start()
    manager.ctl("restart", "longhaul.service")
    done.set()
    knocking.join()
    assert tried and not refused, f"{len(refused)} of {len(tried)} refused: {refused[:1]}"
    assert get(PLAIN) == 200


def reload_is_announced_and_keeps_tunnels(case):
    manager = case.manager
    case.start()
    pid = manager.main_pid()
    tunnel = Tunnel(PLAIN)
    tunnel.echo("before")
    assert get(PLAIN, "/") == 200
    ready = case.heard("READY=1")
    manager.ctl("reload", "longhaul.service")
    case.await_heard("RELOADING=1")
    case.await_heard("MONOTONIC_USEC=")
    case.await_heard("READY=1", ready + 1)
    until(lambda: manager.show("SubState") == "running", "running again")
    (CONFIG / "routes.d/a.toml").write_text(route("/new/*", case.backend.port))
    manager.ctl("reload", "longhaul.service")
    until(lambda: get(PLAIN, "/old") == 404, "the removed route is gone")
    assert get(PLAIN, "/new/") == 200
    tunnel.echo("after")
    assert manager.main_pid() == pid


def a_wrong_reload_leaves_it_running(case):
    manager = case.manager
    case.start()
    (CONFIG / "routes.d/a.toml").write_text("[[routes]]\npaht = 1\n")
    manager.ctl("reload", "longhaul.service")
    case.await_heard("RELOADING=1")
    case.await_heard("READY=1", 2)
    until(lambda: manager.show("SubState") == "running", "running again")
    assert get(PLAIN) == 200


def the_watchdog_is_fed(case):
    case.drop_in("watchdog", "[Service]\nWatchdogSec=1s\n")
    case.manager.ctl("daemon-reload")
    case.start()
    pid = case.manager.main_pid()
    case.await_heard("WATCHDOG=1", 4)
    assert case.manager.main_pid() == pid
    assert case.manager.show("NRestarts") == "0"


def the_watchdog_restarts_a_stuck_process(case):
    manager = case.manager
    case.drop_in("watchdog", "[Service]\nWatchdogSec=1s\nTimeoutAbortSec=2s\n")
    manager.ctl("daemon-reload")
    case.start()
    pid = manager.main_pid()
    os.kill(pid, signal.SIGSTOP)
    until(lambda: manager.show("NRestarts") == "1", "one restart")
    until(lambda: manager.show("SubState") == "running", "running again")
    assert manager.main_pid() not in (0, pid)
    assert "Watchdog timeout" in manager.log[case.mark :]
    assert get(PLAIN) == 200


def a_crash_is_restarted(case):
    manager = case.manager
    case.start()
    pid = manager.main_pid()
    os.kill(pid, signal.SIGKILL)
    until(lambda: manager.show("NRestarts") == "1", "one restart")
    until(lambda: manager.show("SubState") == "running", "running again")
    assert manager.main_pid() not in (0, pid)
    assert get(PLAIN) == 200


def stop_closes_tunnels_with_a_close_frame(case):
    manager = case.manager
    case.start()
    tunnels = [Tunnel(PLAIN), Tunnel(TLS, tls=True)]
    for tunnel in tunnels:
        tunnel.echo("here")
    codes = []
    readers = [
        threading.Thread(target=lambda t=tunnel: codes.append(t.closed_with()))
        for tunnel in tunnels
    ]
    for reader in readers:
        reader.start()
    began = time.monotonic()
    manager.ctl("stop", "longhaul.service")
    took = time.monotonic() - began
    for reader in readers:
        reader.join()
    assert codes == [1012, 1012], codes
    assert case.heard("STOPPING=1") == 1
    assert manager.show("ActiveState") == "inactive"
    assert manager.show("Result") == "success"
    assert took < 5, f"{took:.1f} s, as long as the deadline"


def the_soft_limit_of_files_is_raised(case):
    case.drop_in("files", "[Service]\nLimitNOFILE=512:4096\n")
    case.manager.ctl("daemon-reload")
    case.start()
    limits = Path(f"/proc/{case.manager.main_pid()}/limits").read_text()
    (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
    assert line.split()[3:5] == ["4096", "4096"], line


# ---- only where systemd is process 1


def it_runs_as_nobody_in_particular_in_its_sandbox(case):
    case.start()
    status = Path(f"/proc/{case.manager.main_pid()}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    users = {int(user) for user in fields["Uid"].split()}
    assert len(users) == 1 and users.pop() in DYNAMIC_USERS, fields["Uid"]
    for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
        assert int(fields[name], 16) == CAP_NET_BIND_SERVICE, f"{name} {fields[name]}"
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    # All of it works in there: low ports, the key by its group, dialling, the
    # admin socket, short turns where the kernel has them (Linux 6.12).
    if tuple(map(int, os.uname().release.split("-")[0].split(".")[:2])) >= (6, 12):
        turns = turns_of(case.manager.main_pid(), "relay")
        assert turns and turns == {100_000}, turns
    assert get(TLS, tls=True) == 200
    Tunnel(TLS, tls=True).echo("from the sandbox")
    assert Path("/run/longhaul/admin.sock").is_socket()
    # What the shipped unit asks for, or as much as this machine lets anybody have.
    limits = Path(f"/proc/{case.manager.main_pid()}/limits").read_text()
    (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
    soft, hard = map(int, line.split()[3:5])
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert soft == hard and hard in (1048576, most), line


def turns_of(process, name):
    """The turns, in nanoseconds, of all threads that are called so."""
    turns = set()
    for thread in Path(f"/proc/{process}/task").iterdir():
        if (thread / "comm").read_text().strip() == name:
            found = re.search(r"^se\.slice\s*:\s*(\d+)", (thread / "sched").read_text(), re.M)
            turns.add(int(found.group(1)))
    return turns


def without_the_group_the_key_cannot_be_read(case):
    (case.manager.units / "longhaul.service.d/keys.conf").unlink()
    case.manager.ctl("daemon-reload")
    done = case.manager.ctl("start", "longhaul.service", check=False)
    assert done.returncode != 0
    assert "pair.key" in SERVICE_LOG.read_text()


def the_steps_of_the_readme_start_it(case):
    """Literally, in a copy of the repository; the last case, for it replaces the config."""
    manager = case.manager
    repository = world.SCRATCH / "repository"
    for name, content in REPOSITORY.items():
        path = repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755)
    (manager.units / "longhaul.service.d/keys.conf").unlink()
    (manager.units / "longhaul.service").unlink()
    shutil.rmtree(CONFIG)
    _, _, section = REPOSITORY["README.md"].decode().partition("## Under systemd")
    steps = section.split("```sh\n")[1].split("```")[0]
    assert "systemctl enable --now longhaul" in steps
    # Whoever runs this is root already.
    script = 'set -eu\nsudo() { "$@"; }\n' + steps
    done = subprocess.run(
        ["sh", "-c", script], cwd=repository, env=manager.environment,
        capture_output=True, text=True, timeout=world.CALL_LIMIT,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert manager.show("ActiveState") == "active"
    assert get(PLAIN) == 308, "the redirect"
    # Nobody is behind it: 502 is longhaul's own answer, after the handshake.
    assert get(TLS, tls=True) == 502


BOTH = [
    start_returns_when_every_listener_is_bound,
    start_fails_when_a_listener_cannot_be_bound,
    a_bad_config_is_not_restarted,
    sockets_activate_it_and_outlive_it,
    one_socket_unit_is_matched_by_address,
    a_restart_behind_sockets_refuses_nobody,
    reload_is_announced_and_keeps_tunnels,
    a_wrong_reload_leaves_it_running,
    the_watchdog_is_fed,
    the_watchdog_restarts_a_stuck_process,
    a_crash_is_restarted,
    stop_closes_tunnels_with_a_close_frame,
    the_soft_limit_of_files_is_raised,
]
SYSTEM = [
    it_runs_as_nobody_in_particular_in_its_sandbox,
    without_the_group_the_key_cannot_be_read,
    the_steps_of_the_readme_start_it,
]


def run_all(manager):
    return play(manager, Case, BOTH + (SYSTEM if manager.mode == "system" else []))


def play(manager, kind, functions):
    """Each function with a `kind` of its own, and what became of it as a line."""
    backend = Backend()
    try:
        manager.await_up()
    except Exception as error:  # noqa: BLE001 - said with what systemd says
        print(f"failed systemd comes up: {error}", flush=True)
        for line in manager.log.splitlines()[-60:]:
            print(f"    systemd: {line}", flush=True)
    for function in functions:
        name = function.__name__
        case = kind(manager, backend)
        SERVICE_LOG.write_text("")
        os.chmod(SERVICE_LOG, 0o666)
        try:
            case.prepare()
            function(case)
            print(f"ok {name}", flush=True)
        except Exception as error:  # noqa: BLE001 - one case must not end the others
            what = str(error) or traceback.format_exc(limit=2).replace("\n", " | ")
            print(f"failed {name}: {type(error).__name__}: {what}", flush=True)
            for line in SERVICE_LOG.read_text().splitlines()[-15:]:
                print(f"    longhaul: {line}", flush=True)
            about = [line for line in manager.log[case.mark :].splitlines() if "longhaul" in line]
            for line in about[-25:]:
                print(f"    systemd: {line}", flush=True)
    print("end", flush=True)
    return 0


if __name__ == "__main__":
    mode, binary, certificates, *shipped = sys.argv[1:]
    try:
        world.build(shipped, binary, certificates)
        code = world.enter(mode, run_all)
    except world.NotAllowed as reason:
        print(f"not allowed: {reason}", flush=True)
        code = 0
    sys.exit(code)
