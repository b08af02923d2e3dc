"""What the tests of DNS share: dnsmasq as a server whose records change, and backends by address."""

import pathlib
import shutil
import signal
import socket
import subprocess
import threading

from websockets.asyncio.client import connect

from longhaul import DEADLINE

NAME = "chat.internal"
KEYS = 40
FAILED = 'longhaul_discoveries_total{upstream="app",result="failed"}'


def free_port():
    # One that is free for both, as far as one can tell.
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
        stream.bind(("127.0.0.1", 0))
        datagram.bind(stream.getsockname())
        return stream.getsockname()[1]


class Dnsmasq:
    """A server of the hosts that the test has set."""

    def __init__(self, directory):
        self.program = shutil.which("dnsmasq", path="/usr/sbin:/usr/bin:/usr/local/sbin")
        assert self.program, "dnsmasq is missing (Debian package dnsmasq-base)"
        self.port = free_port()
        self.hosts = pathlib.Path(directory) / "hosts"
        self.queries = []
        self.said = threading.Condition()
        self.process = None

    def write(self, hosts):
        self.hosts.write_text("".join(f"{ip} {name}\n" for name, ip in hosts))

    def start(self, hosts, ttl=1, *more, at=("127.0.0.1", None)):
        """`at` is its address and port, if it may not be any."""
        self.write(hosts)
        self.process = subprocess.Popen(
            [self.program, "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"]
            + [f"--port={at[1] or self.port}", f"--listen-address={at[0]}", "--bind-interfaces"]
            + [f"--addn-hosts={self.hosts}", f"--local-ttl={ttl}", "--local=/internal/"]
            + ["--log-queries", "--log-facility=-", "--user=root", *more]
            # Or two that start together would quarrel over the system's.
            + [f"--pid-file={self.hosts.parent / 'pid'}"],
            stderr=subprocess.PIPE,
            text=True,
        )
        reading = threading.Event()
        threading.Thread(target=self._follow, args=(self.process, reading), daemon=True).start()
        assert reading.wait(DEADLINE), "dnsmasq did not start"

    def _follow(self, process, reading):
        for line in process.stderr:
            if "read " in line and str(self.hosts) in line:
                reading.set()
            if "query[" in line:
                with self.said:
                    self.queries.append(line)
                    self.said.notify_all()

    def set(self, hosts):
        self.write(hosts)
        self.process.send_signal(signal.SIGHUP)

    def stop(self):
        self.process.kill()
        self.process.wait()

    def was_asked(self, times):
        """Waits until it has said that it was asked so many times."""
        with self.said:
            assert self.said.wait_for(lambda: len(self.queries) >= times, DEADLINE)


async def greet(socket):
    await socket.send(socket.local_address[0])
    async for message in socket:
        await socket.send(message)


async def where(port, key):
    async with connect(f"ws://127.0.0.1:{port}/?key={key}") as socket:
        return await socket.recv()


async def keys(port):
    return [await where(port, key) for key in range(KEYS)]


async def all_live(tunnels):
    for number, tunnel in enumerate(tunnels):
        await tunnel.send(f"still {number}")
        assert await tunnel.recv() == f"still {number}"


def config(dns, discovery):
    """`dns` is the server to ask; `None`: those of the system."""
    servers = f', servers = ["127.0.0.1:{dns.port}"]' if dns else ""
    return (
        '[listeners.main]\naddress = "127.0.0.1:0"\n[[routes]]\nupstream = "app"\n'
        '[upstreams.app]\nsticky = "query:key"\n'
        f'discovery = {{ {discovery}, min_ttl = "1s"{servers} }}\n'
    )


def found(longhaul, count, skip):
    """The event, behind so many others, that tells of so many backends."""
    # Told once for each change and never for an answer that says the same.
    with longhaul.arrived:
        longhaul.arrived.wait_for(lambda: len(longhaul.events("backends found")) > skip, DEADLINE)
    events = longhaul.events("backends found")
    assert len(events) == skip + 1, events
    assert events[-1]["backends"] == count, events[-1]
    return events[-1]


def moved_only(before, after, to):
    for old, new in zip(before, after):
        assert new == old or new in to, f"{old} moved to {new}"


def hosts(*ends):
    return [(NAME, f"127.0.0.{end}") for end in ends]
