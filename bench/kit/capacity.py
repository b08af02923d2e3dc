"""The computed tables of docs/capacity.md: figures of the last full run, multiplied. Measures nothing."""

SIZES = [10_000, 50_000, 100_000, 250_000, 500_000, 1_000_000]
# One message each way for each tunnel in so many seconds.
HEARTBEAT = 30
# What messages of a fleet at rest may take of a core, so that a storm finds the rest.
SHARE = 0.5
# What of a machine's memory tunnels may take.
MEMORY_SHARE = 0.75


class Costs:
    """Of one tunnel and one message, in bytes and microseconds."""

    def __init__(self, results, median):
        memory = results["memory"]
        self.plain = memory["memory"]["longhaul"]["bytes_each"]
        self.tls = memory["memory-tls"]["longhaul"]["bytes_each"]
        self.kernel = (memory["memory"]["longhaul"]["kernel_bytes_each"]
                       - memory["memory"]["direct"]["kernel_bytes_each"])
        # An echo is two messages.
        self.message = median(results, "echo-1000", "longhaul", "cpu_us_each") / 2
        self.message_tls = median(results, "echo-1000-tls", "longhaul", "cpu_us_each") / 2
        self.handshake = median(results, "handshake", "longhaul", "cpu_us_each")
        self.full = median(results, "handshake-tls", "longhaul", "cpu_us_each")
        self.resumed = median(results, "handshake-resumed", "longhaul", "cpu_us_each")


def section(results, median, table):
    """None when the results lack a figure."""
    try:
        costs = Costs(results, median)
        return "\n\n".join([each(costs, table), sizes(costs, table), storm(costs, table)])
    except (KeyError, TypeError):
        return None


def each(c, table):
    return "What one costs:\n\n" + table([
        ["", "plain", "TLS 1.3", "where it comes from"],
        ["descriptors", "2", "2", "a socket to the client, a socket to the backend"],
        ["local ports", "1", "1", "towards TCP backends; none with Unix sockets"],
        ["resident memory, idle", f"{c.plain / 1e3:.1f} KB", f"{c.tls / 1e3:.1f} KB", "`--cells memory,memory-tls`"],
        ["kernel memory, idle", f"{c.kernel / 1e3:.1f} KB", f"{c.kernel / 1e3:.1f} KB",
         "`--cells memory`: through longhaul less direct"],
        ["CPU per message", f"{c.message:.1f} µs", f"{c.message_tls:.1f} µs",
         "`--cells echo-1000,echo-1000-tls`: half an echo"],
        ["CPU per handshake", f"{c.handshake:.0f} µs", f"{c.full:.0f} µs full, {c.resumed:.0f} µs resumed",
         "`--cells handshake*`"],
    ])


def sizes(c, table):
    rows = [["tunnels", "descriptors", "memory, plain, GB", "memory, TLS 1.3, GB", "messages a second",
             "CPU, plain, cores", "CPU, TLS 1.3, cores", "a machine for TLS 1.3"]]
    for n in SIZES:
        plain, tls = n * (c.plain + c.kernel) / 1e9, n * (c.tls + c.kernel) / 1e9
        messages = 2 * n / HEARTBEAT
        cpu, cpu_tls = messages * c.message / 1e6, messages * c.message_tls / 1e6
        rows.append([f"{n:,}", f"{2 * n:,}", f"{plain:.1f}", f"{tls:.1f}", f"{messages:,.0f}", f"{cpu:.2f}",
                     f"{cpu_tls:.2f}", f"{power(tls / MEMORY_SHARE)} GB, {cores(n, cpu_tls, c)} cores"])
    return (f"A fleet at rest, one message each way for each tunnel in {HEARTBEAT} s. The machine: a quarter of its memory "
            "is free, messages take half of its cores at most, and it takes all its clients back within a minute with "
            "full TLS handshakes:\n\n" + table(rows))


def cores(n, busy, c):
    return max(2, power(busy / SHARE), power(n / 60 * c.full / 1e6))


def storm(c, table):
    rows = [["tunnels that come back within a minute", "handshakes a second", "cores, plain",
             "cores, TLS 1.3 resumed", "cores, TLS 1.3 full"]]
    for n in SIZES[1:]:
        rate = n / 60
        rows.append([f"{n:,}", f"{rate:,.0f}"] + [f"{rate * us / 1e6:.1f}" for us in (c.handshake, c.resumed, c.full)])
    return "When all come back at once:\n\n" + table(rows)


def power(value):
    """The next size that machines come in."""
    size = 1
    while size < value:
        size *= 2
    return size
