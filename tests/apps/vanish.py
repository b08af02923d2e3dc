"""Peers whose packets vanish: with the defaults both ends of a tunnel are gone within 90 s.

The client, and then the backend, live in a network namespace of their own; the
link to it is cut, so that neither FIN nor RST ever comes. One tunnel is silent
(found by keepalive), one has data on its way (found by TCP_USER_TIMEOUT).
Needs iproute2, and root or a kernel that lets anybody make user namespaces.
"""

import os
import pathlib
import socket
import subprocess
import sys
import time

from longhaul import Longhaul

BOUND = 90
# Two run at once: each has a network of its own.
HOSTS = {"client": ("10.213.77.1", "10.213.77.2"), "backend": ("10.213.78.1", "10.213.78.2")}
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


class Net:
    """A namespace behind a pair of virtual links."""

    def __init__(self, who):
        self.host, self.guest = HOSTS[who]
        self.name = f"lh{os.getpid()}"
        ip("netns", "add", self.name)
        ip("link", "add", f"{self.name}h", "type", "veth", "peer", "name", f"{self.name}g")
        ip("link", "set", f"{self.name}g", "netns", self.name)
        ip("addr", "add", f"{self.host}/24", "dev", f"{self.name}h")
        ip("link", "set", f"{self.name}h", "up")
        ip("-n", self.name, "addr", "add", f"{self.guest}/24", "dev", f"{self.name}g")
        ip("-n", self.name, "link", "set", f"{self.name}g", "up")

    def socket(self):
        """A TCP socket that belongs to the namespace."""
        ours = os.open("/proc/self/ns/net", os.O_RDONLY)
        theirs = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        enter(theirs)
        try:
            return socket.socket()
        finally:
            enter(ours)
            os.close(ours)
            os.close(theirs)

    def cut(self):
        ip("-n", self.name, "link", "set", f"{self.name}g", "down")

    def remove(self):
        ip("netns", "del", self.name)


def enter(namespace):
    """setns(2), which Python 3.11 does not have."""
    import ctypes

    CLONE_NEWNET = 0x40000000
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def head(stream):
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        data += stream.recv(1)
    return data


def tunnel(client, port, host, listener):
    """Joins a client socket to the next connection of the listener."""
    client.connect((host, port))
    client.sendall(
        f"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    server, _ = listener.accept()
    head(server)
    server.sendall(
        f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n".encode()
    )
    assert b" 101 " in head(client)
    return client, server


def run(who):
    net = Net(who)
    try:
        listener = net.socket() if who == "backend" else socket.socket()
        address = net.guest if who == "backend" else "127.0.0.1"
        listener.bind((address, 0))
        listener.listen()
        listener.settimeout(20)
        backend = f"{address}:{listener.getsockname()[1]}"
        config = (
            '[listeners.main]\naddress = "0.0.0.0:0"\n[[routes]]\nupstream = "app"\n'
            f'[upstreams.app]\nbackends = [{{ name = "a", address = "{backend}" }}]\n'
        )
        with Longhaul(config) as longhaul:
            fds = pathlib.Path(f"/proc/{longhaul.process.pid}/fd")
            port, before = longhaul.port(), len(list(fds.iterdir()))
            host = net.host if who == "client" else "127.0.0.1"
            make = net.socket if who == "client" else socket.socket
            silent = tunnel(make(), port, host, listener)
            busy = tunnel(make(), port, host, listener)
            net.cut()
            start = time.monotonic()
            # From the side that is still there: a frame that nobody acknowledges.
            busy[1 if who == "client" else 0].sendall(
                b"\x81\x02hi" if who == "client" else b"\x81\x82\0\0\0\0hi"
            )
            for name, ends in (("silent", silent), ("busy", busy)):
                alive = ends[1 if who == "client" else 0]
                alive.settimeout(BOUND + 10)
                try:
                    while alive.recv(1000):
                        pass
                except ConnectionResetError:
                    pass
                took = time.monotonic() - start
                print(f"vanished {who}, {name} tunnel: gone after {took:.0f} s")
                assert took <= BOUND, f"{took} s"
                alive.close()
            while len(longhaul.events("tunnel closed")) < 2:
                longhaul.status()
            for event in longhaul.events("tunnel closed"):
                assert (event["ended_by"], event["cause"]) == (who, "peer_timeout"), event
            while len(list(fds.iterdir())) > before:
                assert time.monotonic() - start < BOUND, "descriptors left behind"
                longhaul.status()
            assert longhaul.status()["tunnels"] == 0
            assert len(longhaul.events("tunnel closed")) == 2, "one line for each"
    finally:
        net.remove()


def parts():
    """Both at once, as their own processes."""
    running = [subprocess.Popen([sys.executable, __file__, who]) for who in HOSTS]
    return [part.wait() for part in running]


if sys.argv[1:] == ["inside"]:
    # Root of a user namespace, with a mount and a network namespace of its own.
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    ip("link", "set", "lo", "up")
    sys.exit(any(parts()))
elif len(sys.argv) > 1:
    run(sys.argv[1])
elif os.geteuid() == 0:
    sys.exit(any(parts()))
else:
    unshare = ["unshare", "--user", "--map-root-user", "--net", "--mount"]
    if subprocess.run([*unshare, "true"], stderr=subprocess.DEVNULL).returncode != 0:
        print("needs root, or user namespaces for everybody: not run")
        sys.exit(77)
    sys.exit(subprocess.run([*unshare, sys.executable, __file__, "inside"]).returncode)
