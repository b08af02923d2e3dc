"""A real ACME server, Pebble: certificates by both challenges, with bad nonces on the way, from a
CA that wants an external account; kept over a restart, renewed with a tunnel open."""

import asyncio
import json
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from dnsmasq import free_port
from longhaul import DEADLINE, Longhaul

KEY_ID, KEY = "kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
# Long enough for every handshake of this test; renewed when 90 % of it are left.
LIFE = 20


def own_certificate(directory):
    """For localhost, trusted by itself; no CA, as rustls wants it of a server."""
    chain, key, settings = (directory / f"pebble.{end}" for end in ("pem", "key", "cnf"))
    settings.write_text(
        "[req]\ndistinguished_name = dn\nx509_extensions = own\nprompt = no\n[dn]\nCN = localhost\n"
        "[own]\nbasicConstraints = CA:FALSE\nsubjectAltName = DNS:localhost\n"
    )
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        + ["-nodes", "-days", "2", "-config", settings, "-keyout", key, "-out", chain],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return chain, key


class Pebble:
    """The server, and a DNS server that says of every name that it is here."""

    def __init__(self, directory, ports, **more):
        for program in ("pebble", "pebble-challtestsrv"):
            assert shutil.which(program), f"{program} is missing (Debian package pebble)"
        directory = pathlib.Path(directory)
        self.chain, key = own_certificate(directory)
        self.port, self.management, dns = free_port(), free_port(), free_port()
        settings = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self.management}",
            "certificate": str(self.chain),
            "privateKey": str(key),
            "httpPort": ports[0],
            "tlsPort": ports[1],
            **more,
        }
        config = directory / "pebble.json"
        config.write_text(json.dumps({"pebble": settings}))
        self.lines, self.said = [], threading.Condition()
        # One nonce in ten is refused, which a client has to bear.
        environment = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "10"}
        self.processes = [
            subprocess.Popen(
                ["pebble-challtestsrv", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""]
                + ["-dns01", f"127.0.0.1:{dns}", "-management", f"127.0.0.1:{free_port()}"]
                + ["-http01", "", "-https01", "", "-tlsalpn01", ""],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ),
            subprocess.Popen(
                ["pebble", "-config", config, "-strict", "-dnsserver", f"127.0.0.1:{dns}"],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment,
            ),
        ]
        threading.Thread(target=self._follow, daemon=True).start()
        self.wait("Root CA certificate available at")

    def _follow(self):
        for line in self.processes[1].stdout:
            with self.said:
                self.lines.append(line)
                self.said.notify_all()

    def count(self, words):
        with self.said:
            return sum(words in line for line in self.lines)

    def wait(self, words):
        there = lambda: any(words in line for line in self.lines)
        with self.said:
            assert self.said.wait_for(there, DEADLINE), f"no {words!r} in {self.lines[-20:]}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()

    def root(self):
        """What clients have to trust."""
        trust = ssl.create_default_context(cafile=self.chain)
        with socket.create_connection(("127.0.0.1", self.management)) as plain:
            with trust.wrap_socket(plain, server_hostname="localhost") as tls:
                tls.sendall(b"GET /roots/0 HTTP/1.0\r\nHost: localhost\r\n\r\n")
                answer = b"".join(iter(lambda: tls.recv(65536), b""))
        return answer.partition(b"\r\n\r\n")[2].decode()

    def section(self, storage, more=""):
        return (
            f'[acme]\ndirectory = "https://localhost:{self.port}/dir"\nca = "{self.chain}"\n'
            f'contact = ["ops@example.com"]\nagree_to_terms = true\nstorage = "{storage}"\n{more}\n'
        )


def config(ports, backend, acme, names):
    return (
        f'[listeners.plain]\naddress = "127.0.0.1:{ports[0]}"\nredirect_to_https = true\n'
        f'[listeners.main]\naddress = "127.0.0.1:{ports[1]}"\ncertificates = "acme"\n'
        f"acme_names = {json.dumps(names)}\n[[routes]]\nupstream = \"app\"\n"
        f'[upstreams.app]\nbackends = [{{ address = "127.0.0.1:{backend}" }}]\n{acme}'
    )


def issued(longhaul, name):
    longhaul.wait("certificate issued", lambda event: event["name"] == name)


def handshake(pebble, port, name):
    """The serial number of what is shown for this name, verified."""
    trust = ssl.create_default_context(cadata=pebble.root())
    with socket.create_connection(("127.0.0.1", port)) as plain:
        with trust.wrap_socket(plain, server_hostname=name) as tls:
            return tls.getpeercert()["serialNumber"]


def by_both_and_over_a_restart(directory, backend):
    ports = free_port(), free_port()
    key = directory / "external.key"
    key.write_text(KEY + "\n")
    external = {"externalAccountBindingRequired": True, "externalAccountMACKeys": {KEY_ID: KEY}}
    with Pebble(directory, ports, domainBlocklist=["blocked.test"], **external) as pebble:
        for challenge in ("http-01", "tls-alpn-01"):
            more = (
                f'challenges = ["{challenge}"]\nretry_interval = "200ms"\n'
                f'external_account = {{ key_id = "{KEY_ID}", key_file = "{key}" }}\n'
            )
            acme = pebble.section(directory / challenge, more)
            names = ["a.test", "b.test"]
            with Longhaul(config(ports, backend, acme, [*names, "blocked.test"])) as longhaul:
                issued(longhaul, "a.test")
                issued(longhaul, "b.test")
                # One that the CA does not want holds back no other.
                is_refused = lambda event: "rejectedIdentifier" in event["error"]
                refused = longhaul.wait("certificate not issued", is_refused)
                assert refused["name"] == "blocked.test", refused
                serials = [handshake(pebble, ports[1], name) for name in names]
                assert len(set(serials)) == 2
            asked = pebble.count("POST /")
            with Longhaul(config(ports, backend, acme, names)) as longhaul:
                # At once, and the CA hears nothing.
                again = [handshake(pebble, ports[1], name) for name in names]
                assert again == serials
                assert [one["error"] for one in longhaul.status()["acme"]] == [None, None]
            assert asked and pebble.count("POST /") == asked, "asked again"


async def renewed_with_a_tunnel_open(directory, backend):
    ports = free_port(), free_port()
    with Pebble(directory, ports, certificateValidityPeriod=LIFE) as pebble:
        acme = pebble.section(directory / "renewed", 'renewal = 0.9\nretry_interval = "1s"\n')
        with Longhaul(config(ports, backend, acme, ["a.test"])) as longhaul:
            issued(longhaul, "a.test")
            trust = ssl.create_default_context(cadata=pebble.root())
            uri = f"wss://127.0.0.1:{ports[1]}/"
            async with connect(uri, ssl=trust, server_hostname="a.test") as tunnel:
                first = handshake(pebble, ports[1], "a.test")
                longhaul.until(
                    lambda: longhaul.metric('longhaul_acme_orders_total{result="ok"}') >= 2,
                    "a renewal",
                )
                await tunnel.send("still there")
                assert await tunnel.recv() == "still there"
                assert handshake(pebble, ports[1], "a.test") != first
                assert longhaul.status()["generation"] == 1


async def echo(socket):
    async for message in socket:
        await socket.send(message)


async def main():
    with tempfile.TemporaryDirectory(prefix="longhaul-acme-") as directory:
        directory = pathlib.Path(directory)
        async with serve(echo, "127.0.0.1", 0) as server:
            backend = server.sockets[0].getsockname()[1]
            await asyncio.to_thread(by_both_and_over_a_restart, directory, backend)
            await renewed_with_a_tunnel_open(directory, backend)
    print("by http-01 and tls-alpn-01, over a restart, and renewed with a tunnel open")


asyncio.run(main())
