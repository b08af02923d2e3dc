"""The network of the benchmark: a namespace with nothing but loopback, and the same settings for every socket in it."""

import fcntl
import os
import resource
import signal
import socket
import struct
import sys

SETTINGS = {
    # The default of many kernels, BBR, paces even loopback: figures would show its timers.
    "net/ipv4/tcp_congestion_control": "reno",
    "net/ipv4/ip_local_port_range": "1024 65535",
    # No connection may take the port that a proxy is about to listen on.
    "net/ipv4/ip_local_reserved_ports": "9000,10000-12999",
    "net/core/somaxconn": "16384",
    "net/ipv4/tcp_max_syn_backlog": "16384",
    # Handshakes leave ports in TIME_WAIT; they may be used again.
    "net/ipv4/tcp_tw_reuse": "1",
    # Nor may they be so many that a later target finds none left.
    "net/ipv4/tcp_max_tw_buckets": "4096",
}


def enter():
    """Brings up loopback and the settings; refuses to run where another interface is up."""
    if [name for _, name in socket.if_nameindex() if name not in ("lo", "sit0", "tunl0", "gre0", "gretap0", "erspan0",
                                                                 "ip6tnl0", "ip6gre0", "ip_vti0", "ip6_vti0")]:
        sys.exit("bench: not in a network namespace of its own; start it as bench/run")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP (netdevice(7))
        request = fcntl.ioctl(sock, 0x8913, struct.pack("16sH14s", b"lo", 0, b""))
        flags = struct.unpack("16sH14s", request)[1]
        fcntl.ioctl(sock, 0x8914, struct.pack("16sH14s", b"lo", flags | 1, b""))
    for name, value in SETTINGS.items():
        try:
            with open(f"/proc/sys/{name}", "w", encoding="utf-8") as file:
                file.write(value)
        except OSError as error:
            sys.exit(f"bench: {name} cannot be set to {value}: {error}")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 1 << 20), hard))
    # The first process of a namespace gets no default action for signals.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ.pop("NOTIFY_SOCKET", None)
    os.environ.pop("RUST_BACKTRACE", None)
