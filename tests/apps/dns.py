"""Backends found in DNS, by a real server (dnsmasq) whose records change, fail and are many."""

import asyncio
import tempfile

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from dnsmasq import FAILED, KEYS, NAME, Dnsmasq, all_live, config, found, greet, hosts, keys
from dnsmasq import moved_only, where
from longhaul import Longhaul

SERVICE = f"_ws._tcp.{NAME}"
TUNNELS = 60
MANY = 200


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
        failed = longhaul.metric(FAILED)
        dns.stop()
        longhaul.until(lambda: longhaul.metric(FAILED) > failed, "nobody to be asked", 60)
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
