"""Backends found in DNS, by a real server (dnsmasq) whose records change, fail and are many."""

import asyncio
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from longhaul import DEADLINE, Longhaul

NAME = "chat.internal"
SERVICE = f"_ws._tcp.{NAME}"
TUNNELS = 60
KEYS = 40
MANY = 200


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

    def start(self, hosts, ttl=1, *more):
        self.write(hosts)
        self.process = subprocess.Popen(
            [self.program, "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"]
            + [f"--port={self.port}", "--listen-address=127.0.0.1", "--bind-interfaces"]
            + [f"--addn-hosts={self.hosts}", f"--local-ttl={ttl}", "--local=/internal/"]
            + ["--log-queries", "--log-facility=-", "--user=root", *more],
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
    return (
        '[listeners.main]\naddress = "127.0.0.1:0"\n[[routes]]\nupstream = "app"\n'
        f'[upstreams.app]\nsticky = "query:key"\ndiscovery = {{ {discovery}, '
        f'servers = ["127.0.0.1:{dns.port}"], min_ttl = "1s" }}\n'
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


async def addresses(dns, port):
    """A records that change, vanish, and are many."""
    dns.start(hosts(11, 12))
    with Longhaul(config(dns, f'dns = "{NAME}", port = {port}')) as longhaul:
        main = longhaul.port()
        # The first one waits for the first answer.
        tunnels = [await connect(f"ws://127.0.0.1:{main}/?key={n}") for n in range(TUNNELS)]
        at = [await tunnel.recv() for tunnel in tunnels]
        assert set(at) == {"127.0.0.11", "127.0.0.12"}, at
        found(longhaul, 2, 0)
        first = await keys(main)

        dns.set(hosts(11, 12, 13))
        event = found(longhaul, 3, 1)
        assert event["added"] == f"127.0.0.13:{port}" and event["removed"] == "", event
        second = await keys(main)
        moved_only(first, second, {"127.0.0.13"})
        assert "127.0.0.13" in second

        # Another longhaul, begun later, sends every key the same way.
        with Longhaul(config(dns, f'dns = "{NAME}", port = {port}')) as other:
            assert await keys(other.port()) == second

        dns.set(hosts(11, 13))
        assert found(longhaul, 2, 2)["removed"] == f"127.0.0.12:{port}"
        third = await keys(main)
        assert "127.0.0.12" not in third

        # The name is gone, then nobody answers: the last answer stands.
        dns.set([])
        longhaul.wait("discovery has failed: the last answer stands")
        assert await keys(main) == third
        dns.stop()
        assert await keys(main) == third
        dns.start([(NAME, f"127.0.1.{end}") for end in range(1, MANY + 1)])
        longhaul.wait("discovery works again", deadline=60)
        found(longhaul, MANY, 3)
        assert len(set(await keys(main))) > KEYS // 2

        # It is asked once for each time to live, whatever its clients do.
        asked = len(dns.queries)
        loop = asyncio.get_running_loop()
        start = loop.time()
        while loop.time() - start < 4:
            await where(main, "x")
        count = len(dns.queries) - asked
        # Each is asked by datagram first, and then again for all of a long answer.
        assert 2 <= count <= 12, f"{count} questions in four seconds of answers that live for one"
        await all_live(tunnels)
        for tunnel in tunnels:
            await tunnel.close()
    dns.stop()


async def a_long_life(dns, port):
    """An answer that lives for long is not asked for again, reload or not."""
    before = len(dns.queries)
    dns.start(hosts(11), 60)
    with Longhaul(config(dns, f'dns = "{NAME}", port = {port}')) as longhaul:
        main = longhaul.port()
        await where(main, "x")
        dns.was_asked(before + 1)
        for number in range(5):
            text = longhaul.config.read_text()
            longhaul.config.write_text(f"{text}# {number}\n")
            longhaul.wait("config reloaded", lambda event: event["generation"] == number + 2)
            await where(main, "x")
        assert len(dns.queries) == before + 1, dns.queries[before:]
    dns.stop()


async def services(dns, port):
    """SRV records: the name is that of the target, whatever its address."""
    records = [
        f"--srv-host={SERVICE},pod-{number}.{NAME},{port},{priority},{weight}"
        for number, priority, weight in [(1, 0, 1), (2, 0, 3), (3, 9, 1)]
    ]
    pods = lambda *ends: [(f"pod-{n}.{NAME}", f"127.0.2.{end}") for n, end in enumerate(ends, 1)]
    dns.start(pods(1, 2, 3), 1, *records)
    with Longhaul(config(dns, f'dns = "{SERVICE}", type = "SRV"')) as longhaul:
        main = longhaul.port()
        before = await keys(main)
        assert set(before) == {"127.0.2.1", "127.0.2.2"}, "the first priority alone"
        listed = longhaul.status()["upstreams"][0]["backends"]
        assert [(one["name"], one["weight"]) for one in listed] == [
            (f"pod-1.{NAME}:{port}", 1),
            (f"pod-2.{NAME}:{port}", 3),
        ], listed
        tunnel = await connect(f"ws://127.0.0.1:{main}/?key=1")
        await tunnel.recv()
        # A pod is made anew elsewhere: its keys go with it.
        dns.set(pods(7, 2, 3))
        found(longhaul, 2, 1)
        after = await keys(main)
        assert after == [end.replace("127.0.2.1", "127.0.2.7") for end in before], after
        await all_live([tunnel])
        await tunnel.close()
    dns.stop()


async def main():
    # One server for all addresses of the loopback network.
    async with serve(greet, "0.0.0.0", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with tempfile.TemporaryDirectory() as directory:
            dns = Dnsmasq(directory)
            try:
                await addresses(dns, port)
                await a_long_life(dns, port)
                await services(dns, port)
            finally:
                dns.stop()
    print(f"{TUNNELS} tunnels through every change, {len(dns.queries)} questions in all")


asyncio.run(main())
