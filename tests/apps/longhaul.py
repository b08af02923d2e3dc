"""Starts longhaul for the application tests, as its service manager would.

It writes the config into a directory of its own, is the notify socket, waits
for READY=1, and asks the admin socket for the bound addresses. Nothing here
waits for a time to pass.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import threading
import time

OWN = '\n[admin]\nsocket = "admin.sock"\n[log]\nformat = "json"\n'
ROOT = pathlib.Path(__file__).resolve().parents[2]
APPS = ROOT / "tests" / "apps"
DEADLINE = 20


def binary():
    """The program to test: $LONGHAUL, or what cargo built last."""
    if os.environ.get("LONGHAUL"):
        return pathlib.Path(os.environ["LONGHAUL"]).resolve()
    target = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
    built = [target / profile / "longhaul" for profile in ("release", "debug")]
    built = [path for path in built if path.exists()]
    if not built:
        raise SystemExit(f"no longhaul in {target}: run `cargo build` first")
    return max(built, key=lambda path: path.stat().st_mtime)


class Longhaul:
    """A running longhaul; use it in a `with` statement."""

    def __init__(self, config, command=(), own=OWN):
        """`own` is what these tests need of a config; the admin socket has that name."""
        self.directory = tempfile.TemporaryDirectory(prefix="longhaul-app-")
        self.path = pathlib.Path(self.directory.name)
        self.config = self.path / "longhaul.toml"
        self.config.write_text(config + own)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(self.path / "notify.sock"))
        self.ready = threading.Event()
        self.lines = []
        self.arrived = threading.Condition()
        self.process = subprocess.Popen(
            [*command, binary(), "run", "--config", self.config],
            env={**os.environ, "NOTIFY_SOCKET": str(self.path / "notify.sock")},
            stderr=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._follow, daemon=True).start()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        # To the end: a manager that does not read on would stall its service.
        while message := self.notify.recv(65536):
            if b"READY=1" in message.splitlines():
                self.ready.set()

    def _follow(self):
        for line in self.process.stderr:
            with self.arrived:
                self.lines.append(line)
                self.arrived.notify_all()

    def __enter__(self):
        if not self.ready.wait(DEADLINE):
            self.__exit__(RuntimeError, None, None)
            raise SystemExit("longhaul did not get ready")
        return self

    def __exit__(self, kind, error, trace):
        self.process.send_signal(signal.SIGKILL if kind else signal.SIGTERM)
        try:
            self.process.wait(DEADLINE)
        finally:
            self.process.kill()
            self.process.wait()
            if kind:
                print("".join(self.lines[-200:]))
            # Ends the listening thread.
            self.notify.shutdown(socket.SHUT_RDWR)
            self.directory.cleanup()

    def events(self, message):
        """The log's events with this message so far, as flat dictionaries."""
        with self.arrived:
            lines = list(self.lines)
        events = (json.loads(line) for line in lines)
        flat = ({**event, **event.get("fields", {})} for event in events)
        return [event for event in flat if event.get("message") == message]

    def wait(self, message, fits=lambda event: True, deadline=DEADLINE):
        """The first such event, past or to come."""

        def found():
            return [event for event in self.events(message) if fits(event)]

        with self.arrived:
            self.arrived.wait_for(found, deadline)
        events = found()
        assert events, f"no event {message!r} in the log"
        return events[0]

    def admin(self, path):
        """The body of the answer to a GET."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.settimeout(DEADLINE)
            admin.connect(str(self.path / "admin.sock"))
            request = f"GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n"
            admin.sendall(request.encode())
            answer = b"".join(iter(lambda: admin.recv(65536), b""))
        return answer.partition(b"\r\n\r\n")[2]

    def status(self):
        return json.loads(self.admin("/status"))

    def metric(self, name):
        """What a metric with these labels says; 0 if there is none yet."""
        lines = self.admin("/metrics").decode().splitlines()
        return sum(float(line.split(" ")[1]) for line in lines if line.startswith(f"{name} "))

    def until(self, fact, what, deadline=DEADLINE):
        """Asks until it is so."""
        end = time.monotonic() + deadline
        while not fact():
            assert time.monotonic() < end, f"{what}: not within {deadline} s"

    def port(self, listener="main"):
        for one in self.status()["listeners"]:
            if one["name"] == listener:
                return int(one["address"].rpartition(":")[2])
        raise KeyError(listener)


def node(script, *arguments):
    """A Node process whose first line of output is JSON: what it has to say when it is ready."""
    process = subprocess.Popen(
        ["node", APPS / script, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    line = process.stdout.readline()
    assert line, f"{script} ended before it was ready"
    return process, json.loads(line)


def certificate(directory):
    """A self-signed certificate for localhost: the paths of chain and key."""
    chain, key = directory / "site.pem", directory / "site.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        + ["-nodes", "-days", "2", "-subj", "/CN=localhost"]
        + ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        + ["-keyout", key, "-out", chain],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return chain, key


def site(backends, upstream="", listener=""):
    """One route for everything; `backends` are ports by name."""
    listed = ", ".join(
        f'{{ name = "{name}", address = "127.0.0.1:{port}" }}' for name, port in backends.items()
    )
    return (
        f'[listeners.main]\naddress = "127.0.0.1:0"\n{listener}\n'
        f'[[routes]]\nupstream = "app"\n[upstreams.app]\nbackends = [{listed}]\n{upstream}\n'
    )
