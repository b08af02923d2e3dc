"""HAProxy before and behind longhaul: what one says by the PROXY protocol the other believes.

The client's own address must come through both, by each version, with and without TLS.
"""

import asyncio
import contextlib
import json
import pathlib
import shutil
import socket
import ssl
import subprocess
import tempfile

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from longhaul import Longhaul, certificate, site

GLOBAL = """
global
    stats socket {directory}/stats.sock level admin
defaults
    timeout connect 5s
    timeout client 30s
    timeout server 30s
"""

# In front: bare connections, with what it says of them.
FRONT = """
listen front
    mode tcp
    bind fd@{listening} {tls}
    server longhaul 127.0.0.1:{longhaul} {says} check check-send-proxy inter 100ms
"""

# Behind: it must be told, and tells the application what it heard.
BEHIND = """
frontend behind
    mode http
    bind fd@{listening} accept-proxy
    monitor-uri /health
    http-request set-header X-Heard "%[src]:%[src_port] %[dst_port]"
    http-request set-header X-Name "%[fc_pp_authority]"
    default_backend application
backend application
    mode http
    server application 127.0.0.1:{application}
"""

SAYS = {
    "send-proxy": "",
    "send-proxy-v2": "",
    "send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,authority,crc32c": "tls",
}


class HAProxy:
    """Listens from the start, so that nobody has to wait for it."""

    def __init__(self, directory, name):
        self.program = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")
        assert self.program, "haproxy is missing (Debian package haproxy)"
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.socket.getsockname()[1]
        self.directory = pathlib.Path(directory) / name
        self.directory.mkdir()
        self.process = None

    def start(self, section, **values):
        values["listening"] = self.socket.fileno()
        text = (GLOBAL + section).format(directory=self.directory, **values)
        path = self.directory / "haproxy.cfg"
        path.write_text(text)
        self.process = subprocess.Popen(
            [self.program, "-db", "-f", path], pass_fds=[self.socket.fileno()]
        )

    def checks_are_good(self):
        """Whether its own probes of its server go well."""
        with socket.socket(socket.AF_UNIX) as stats:
            try:
                stats.connect(str(self.directory / "stats.sock"))
            except OSError:
                return False
            stats.sendall(b"show stat\n")
            lines = b"".join(iter(lambda: stats.recv(65536), b"")).decode().splitlines()
        fields = lines[0].lstrip("# ").split(",")
        servers = [dict(zip(fields, line.split(","))) for line in lines[1:] if line]
        return [one["status"] for one in servers if one["svname"] == "longhaul"] == ["UP"] and any(
            one["check_status"] == "L4OK" for one in servers
        )

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        self.socket.close()


async def application(websocket):
    """First what it was told, then an echo."""
    heard = {name: websocket.request.headers.get(name, "") for name in TOLD}
    await websocket.send(json.dumps(heard))
    with contextlib.suppress(ConnectionClosed):
        async for message in websocket:
            await websocket.send(message)


TOLD = ["x-heard", "x-name", "x-forwarded-for", "x-forwarded-proto"]


async def talk(front, tls):
    url = f"{'wss' if tls else 'ws'}://localhost:{front.port}/"
    async with connect(url, host="127.0.0.1", ssl=tls) as websocket:
        host, port = websocket.local_address
        heard = json.loads(await websocket.recv())
        assert heard["x-heard"] == f"{host}:{port} {front.port}", heard
        assert heard["x-forwarded-for"] == host, heard
        assert heard["x-forwarded-proto"] == ("https" if tls else "http"), heard
        await websocket.send("hello")
        assert await websocket.recv() == "hello"
        return host, port, heard["x-name"]


async def through(directory, says, version, app_port):
    chain, key = certificate(directory)
    pem = directory / "both.pem"
    pem.write_text(chain.read_text() + key.read_text())
    tls = ssl.create_default_context(cafile=chain) if SAYS[says] else None
    front, behind = HAProxy(directory, "front"), HAProxy(directory, "behind")
    try:
        behind.start(BEHIND, application=app_port)
        config = site(
            {"haproxy": behind.port},
            f'proxy_protocol = "{version}"\nhealth = {{ type = "http", path = "/health" }}',
            'proxy_protocol = { from = ["127.0.0.1"] }',
        )
        with Longhaul(config) as longhaul:
            bind = f"ssl crt {pem}" if tls else ""
            front.start(FRONT, longhaul=longhaul.port(), tls=bind, says=says)
            host, port, name = await talk(front, tls)
            # Version 1 has no place for it.
            assert name == ("localhost" if tls and version == "v2" else ""), (name, says, version)
            closed = await asyncio.to_thread(longhaul.wait, "tunnel closed")
            assert closed["client"] == f"{host}:{port}", closed
            longhaul.until(front.checks_are_good, "HAProxy's probes of longhaul")
            good = 'longhaul_probes_total{upstream="app",backend="haproxy",result="ok"}'
            longhaul.until(lambda: longhaul.metric(good) > 0, "longhaul's probes of HAProxy")
            refused = [line for line in longhaul.lines if "refusal" in line]
            assert not refused, refused
    finally:
        front.stop()
        behind.stop()


async def main():
    async with serve(application, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        for says in SAYS:
            for version in ("v1", "v2"):
                with tempfile.TemporaryDirectory() as directory:
                    await through(pathlib.Path(directory), says, version, port)
                print(f"{says}, then {version}")


asyncio.run(main())
