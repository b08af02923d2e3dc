"""Backends found in DNS where that is hard: IPv6, names that vanish, a server that is not there,
and the system's own resolver. It is never asked in a storm, and no tunnel is lost."""

import asyncio
import os
import pathlib
import tempfile

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from dnsmasq import FAILED, NAME, Dnsmasq, all_live, config, found, greet, hosts, keys, where
from longhaul import Longhaul

OK = FAILED.replace("failed", "ok")
# Pauses after failures are 1 s, 2 s, 4 s and so on, less a fifth at most.
WATCHED = 8
MOST_TRIES = 4
# Where resolv.conf can say no port.
SYSTEM = ("127.0.7.7", 53)


async def ipv6(dns, port):
    """AAAA records alone, though the name has others."""
    dns.start([*hosts(11, 12), (NAME, "::1")])
    with Longhaul(config(dns, f'dns = "{NAME}", type = "AAAA", port = {port}')) as longhaul:
        main = longhaul.port()
        async with connect(f"ws://127.0.0.1:{main}/") as tunnel:
            assert await tunnel.recv() == "::1"
            assert set(await keys(main)) == {"::1"}
            listed = longhaul.status()["upstreams"][0]["backends"]
            assert [one["name"] for one in listed] == [f"[::1]:{port}"], listed
            await all_live([tunnel])
    dns.stop()


async def asked_meanwhile(dns, longhaul, main, least=1):
    """How often the server is asked, and longhaul tries to, while clients come and come."""
    tries, asked = longhaul.metric(FAILED), len(dns.queries)
    loop = asyncio.get_running_loop()
    start = loop.time()
    clients = 0
    while loop.time() - start < WATCHED:
        assert await where(main, "x") == "127.0.0.11"
        clients += 1
    tries, asked = longhaul.metric(FAILED) - tries, len(dns.queries) - asked
    print(f"{clients} clients in {WATCHED} s: {tries:.0f} tries, {asked} questions")
    assert least <= tries <= MOST_TRIES, tries
    return asked


async def names_that_vanish(dns, port):
    dns.start(hosts(11))
    with Longhaul(config(dns, f'dns = "{NAME}", port = {port}')) as longhaul:
        main = longhaul.port()
        tunnel = await connect(f"ws://127.0.0.1:{main}/")
        assert await tunnel.recv() == "127.0.0.11"

        # The name is there and has no such record; then there is no such name.
        for records in [[(NAME, "::1")], []]:
            failed = longhaul.metric(FAILED)
            dns.set(records)
            longhaul.until(lambda: longhaul.metric(FAILED) > failed, "a failure")
            asked = await asked_meanwhile(dns, longhaul, main)
            # By datagram, and perhaps once more by a connection.
            assert 1 <= asked <= 2 * MOST_TRIES, f"{asked} questions in {WATCHED} s"
            worked = longhaul.metric(OK)
            dns.set(hosts(11))
            longhaul.until(lambda: longhaul.metric(OK) > worked, "an answer", 60)

        # Nobody is there to ask.
        failed = longhaul.metric(FAILED)
        dns.stop()
        longhaul.until(lambda: longhaul.metric(FAILED) > failed, "a failure", 60)
        # A try takes as long as the patience with a server that is silent.
        await asked_meanwhile(dns, longhaul, main, least=0)
        discovery = longhaul.status()["upstreams"][0]["discovery"]
        assert discovery["ok"] is False, discovery
        worked = longhaul.metric(OK)
        dns.start(hosts(11, 12))
        longhaul.until(lambda: longhaul.metric(OK) > worked, "an answer", 60)
        found(longhaul, 2, 1)
        await all_live([tunnel])
        await tunnel.close()
    dns.stop()


async def the_system(dns, port, directory):
    """Without `servers`: those of resolv.conf, which longhaul alone sees changed."""
    if os.geteuid() != 0:
        print("the system's resolver: not asked, which takes root")
        return
    resolv = pathlib.Path(directory) / "resolv.conf"
    resolv.write_text(f"nameserver {SYSTEM[0]}\noptions timeout:2\n")
    dns.start(hosts(11), at=SYSTEM)
    before = len(dns.queries)
    inside = f'mount --bind "{resolv}" /etc/resolv.conf && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", inside, "sh"]
    with Longhaul(config(None, f'dns = "{NAME}", port = {port}'), command) as longhaul:
        main = longhaul.port()
        assert set(await keys(main)) == {"127.0.0.11"}
        dns.set(hosts(11, 12))
        found(longhaul, 2, 1)
        assert set(await keys(main)) == {"127.0.0.11", "127.0.0.12"}
        assert len(dns.queries) > before
    dns.stop()


async def main():
    # All addresses of the loopback network, and its one of IPv6.
    async with serve(greet, "0.0.0.0", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with serve(greet, "::1", port):
            with tempfile.TemporaryDirectory() as directory:
                dns = Dnsmasq(directory)
                try:
                    await ipv6(dns, port)
                    await names_that_vanish(dns, port)
                    await the_system(dns, port, directory)
                finally:
                    dns.stop()


asyncio.run(main())
