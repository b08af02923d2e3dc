"""What is measured, cell by cell, and what the figures are held against."""

MIB = 1 << 20


class Cell:
    """One load on every target. `low` says whether less is better."""

    def __init__(self, key, title, load, metric="cpu_us_each", unit="µs", low=True, tls=False, resume=False,
                 http2=False, quick=False, skip=(), extra=(), **options):
        self.key, self.title, self.load = key, title, load
        self.metric, self.unit, self.low = metric, unit, low
        self.tls, self.resume, self.http2, self.quick = tls, resume, http2, quick
        self.skip, self.extra, self.options = set(skip), extra, options

    def takes(self, target):
        if target.name in self.skip or (self.tls and not target.tls):
            return False
        if target.variant and not self.key.startswith("bulk"):
            return False
        if target.name == "bare hyper":
            return self.key in ("handshake", "request")
        if target.name == "bare relay, splice":
            return self.key == "bulk"
        # Without the cursor only the echo is of interest.
        return target.name != "longhaul, no cursor" or self.key in ("echo-64", "echo-1000")


LATENCY = (("p50_us", "p50 µs"), ("p99_us", "p99 µs"), ("p999_us", "p99.9 µs"))
WALL = (("per_second", "a second"),)
RATE = ["echo", "--rate", "20000"]
MESSAGES = (("messages_per_cpu_second", "messages/CPU s"),)

CELLS = [
    Cell("echo-64", "CPU per echo, plain, 64 tunnels, saturated", ["echo"], conns=64, extra=WALL, quick=True),
    Cell("echo-1000", "CPU per echo, plain, 1,000 tunnels, saturated", ["echo"], conns=1000, extra=WALL, quick=True),
    Cell("echo-64-tls", "CPU per echo, TLS 1.3, 64 tunnels, saturated", ["echo"], conns=64, tls=True, extra=WALL,
         quick=True),
    Cell("echo-1000-tls", "CPU per echo, TLS 1.3, 1,000 tunnels, saturated", ["echo"], conns=1000, tls=True, extra=WALL,
         quick=True),
    Cell("rate-64", "CPU per echo at 20,000/s, plain, 64 tunnels", RATE, conns=64, extra=LATENCY),
    Cell("rate-1000", "CPU per echo at 20,000/s, plain, 1,000 tunnels", RATE, conns=1000, extra=LATENCY),
    Cell("rate-64-tls", "CPU per echo at 20,000/s, TLS 1.3, 64 tunnels", RATE, conns=64, tls=True, extra=LATENCY),
    Cell("bulk", "1 MiB messages, plain, 4 tunnels", ["echo"], metric="gb_per_cpu_second", unit="GB/CPU s", low=False,
         conns=4, size=MIB, extra=(("gb_per_second", "GB/s"),), quick=True),
    Cell("bulk-tls", "1 MiB messages, TLS 1.3, 4 tunnels", ["echo"], metric="gb_per_cpu_second", unit="GB/CPU s",
         low=False, conns=4, size=MIB, tls=True, extra=(("gb_per_second", "GB/s"),), quick=True),
    Cell("handshake", "CPU per WebSocket handshake, plain", ["handshakes"], conns=64, extra=WALL),
    Cell("handshake-tls", "CPU per WebSocket handshake, TLS 1.3, full", ["handshakes"], conns=64, tls=True, extra=WALL),
    Cell("handshake-resumed", "CPU per WebSocket handshake, TLS 1.3, resumed", ["handshakes"], conns=64, tls=True,
         resume=True, extra=WALL + (("resumed_share", "resumed"),)),
    Cell("request", "CPU per plain keep-alive request, 64 connections", ["requests"], conns=64, path="/", extra=WALL,
         skip=["longhaul, no cursor"]),
    Cell("request-tls", "CPU per keep-alive request, TLS 1.3, 64 connections", ["requests"], conns=64, path="/", tls=True,
         extra=WALL),
    Cell("room", "CPU per delivered message, one backend to 1,000 clients, plain", ["room"], conns=1000, path="/ws/room",
         extra=WALL),
    Cell("room-tls", "CPU per delivered message, one backend to 1,000 clients, TLS 1.3", ["room"], conns=1000,
         path="/ws/room", tls=True, extra=WALL),
    # Of the proxies, those that do not know RFC 8441 say so themselves, in their SETTINGS; the tables repeat it.
    Cell("echo-64-h2", "CPU per echo, HTTP/2 over TLS 1.3, 64 tunnels, 50 on a connection, saturated", ["echo"], conns=64,
         tls=True, http2=True, extra=MESSAGES + WALL),
    Cell("echo-1000-h2", "CPU per echo, HTTP/2 over TLS 1.3, 1,000 tunnels, 50 on a connection, saturated", ["echo"],
         conns=1000, tls=True, http2=True, extra=MESSAGES + WALL),
    Cell("rate-1000-h2", "CPU per echo at 20,000/s, HTTP/2 over TLS 1.3, 1,000 tunnels, 50 on a connection", RATE,
         conns=1000, tls=True, http2=True, extra=LATENCY),
]


class Memory:
    """Idle tunnels of one kind on every target."""

    def __init__(self, key, title, tls=False, http2=False, quick=True):
        self.key, self.title, self.tls, self.http2, self.quick = key, title, tls, http2, quick

    def takes(self, target):
        # Buffers of another size cost the same over HTTP/2 as over TLS.
        return target.name != "longhaul, no cursor" and (target.tls or not self.tls) and not (
            target.variant and self.http2)


MEMORY = [
    Memory("memory", "plain"),
    Memory("memory-tls", "TLS 1.3", tls=True),
    Memory("memory-h2", "HTTP/2 over TLS 1.3", tls=True, http2=True, quick=False),
]

PEERS = ["nginx", "haproxy", "caddy", "envoy", "sozu"]
LARGE = ["nginx, 64 KiB buffers", "haproxy, 64 KiB buffers"]
RUST = ["sozu"]

# Rows of the table of targets: text, cells, kind of bound, factor, against whom.
# "times": longhaul <= factor x other (or >= for cells where more is better); "bytes": longhaul <= factor.
GOALS = [
    ("CPU per echo, plain, saturated", ["echo-64", "echo-1000"], 0.75, ["haproxy"]),
    ("CPU per echo, plain, saturated", ["echo-64", "echo-1000"], 0.90, ["nginx"]),
    ("CPU per echo, plain, saturated", ["echo-64", "echo-1000"], 1.10, ["bare relay"]),
    ("CPU per echo, TLS 1.3, saturated", ["echo-64-tls", "echo-1000-tls"], 0.75, ["haproxy"]),
    ("CPU per echo, TLS 1.3, saturated", ["echo-64-tls", "echo-1000-tls"], 0.75, ["nginx"]),
    ("CPU per echo, TLS 1.3, saturated", ["echo-64-tls", "echo-1000-tls"], 0.95, RUST),
    ("CPU per echo at 20,000/s", ["rate-64", "rate-1000", "rate-64-tls"], 0.90, PEERS),
    ("bulk, plain, GB per CPU-second", ["bulk"], 2.0, PEERS + LARGE),
    ("bulk, TLS 1.3, GB per CPU-second", ["bulk-tls"], 1.5, PEERS + LARGE),
    ("CPU per handshake, plain", ["handshake"], 1.1, ["nginx"]),
    ("CPU per handshake, TLS 1.3", ["handshake-tls", "handshake-resumed"], 0.6, ["nginx"]),
    ("CPU per plain keep-alive request", ["request"], 1.2, ["nginx"]),
    ("CPU per echo, HTTP/2 over TLS 1.3, saturated", ["echo-64-h2", "echo-1000-h2"], 1.0, ["haproxy"]),
    ("CPU per echo, HTTP/2 over TLS 1.3, saturated", ["echo-64-h2", "echo-1000-h2"], 0.5, ["envoy"]),
    ("cost of the frame cursor", ["echo-64", "echo-1000"], 1.03, ["longhaul, no cursor"]),
]
MEMORY_GOALS = [("resident memory per idle tunnel, plain", "memory", 700),
                ("resident memory per idle tunnel, TLS 1.3", "memory-tls", 10_000),
                ("resident memory per idle tunnel, HTTP/2 over TLS 1.3", "memory-h2", 8_000)]
