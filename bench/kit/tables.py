"""Tables in markdown: figures as text, failures in words, memory and reloads. Computes ratios, measures nothing."""


def number(value):
    if value is None:
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def table(rows):
    """A markdown table: the first row is the head, the first column text."""
    head, *body = rows
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in body])


def failure(rows):
    """Why there is no figure; None where there is one. What a proxy does not have is no failure of it."""
    reasons = [r["failed"] for r in rows if "failed" in r]
    if not rows or len(reasons) < len(rows):
        return None
    for sign, words in (("RFC 8441", "no WebSockets over HTTP/2"), ("chose no h2", "no HTTP/2")):
        if sign in reasons[-1]:
            return words
    return f"failed: {reasons[-1][:80]}"


def memory_table(results):
    plain, tls = results["memory"].get("memory", {}), results["memory"].get("memory-tls", {})
    if not plain and not tls:
        return None
    direct = plain.get("direct", {}).get("kernel_bytes_each")
    rows = [["target", "plain, B", "TLS 1.3, B", "kernel, plain, all four sockets, B", "of these the proxy's two, B"]]
    for name in dict.fromkeys([*plain, *tls]):
        kernel = plain.get(name, {}).get("kernel_bytes_each")
        own = kernel - direct if kernel is not None and direct is not None and name != "direct" else None
        rows.append([name, number(plain.get(name, {}).get("bytes_each")), number(tls.get(name, {}).get("bytes_each")),
                     number(kernel), number(own)])
    return table(rows)


def memory_http2_table(results):
    """Over HTTP/2 beside HTTP/1.1, both over TLS; what serves no tunnel over HTTP/2 is named."""
    many, one = results["memory"].get("memory-h2", {}), results["memory"].get("memory-tls", {})
    if not many:
        return None
    rows = [["target", "HTTP/2, B", "HTTP/1.1, B", "HTTP/2 to HTTP/1.1", "kernel, HTTP/2, all sockets, B",
             "kernel, HTTP/1.1, all sockets, B"]]
    for name, row in many.items():
        other = one.get(name, {})
        value, beside = row.get("bytes_each"), other.get("bytes_each")
        ratio = f"{value / beside:.2f}" if value is not None and beside else "–"
        rows.append([name, failure([row]) or number(value), number(beside), ratio,
                     number(row.get("kernel_bytes_each")), number(other.get("kernel_bytes_each"))])
    return table(rows)


def reload_table(results):
    if not results.get("reloads"):
        return None
    rows = [["target", "tunnels lost (live, new)", "opened", "processes before, most, after",
             "memory before, most, after, MB", "growth"]]
    for name, r in results["reloads"].items():
        if "failed" in r:
            rows.append([name, "failed", "–", "–", "–", "–"])
            continue
        memory = ", ".join(f"{r[k] / 1e6:.1f}" for k in ("resident_before", "resident_most", "resident_after"))
        rows.append([name, f"{r['lost_live']}, {r['lost_new']}", str(r["opened"]),
                     f"{r['processes_before']}, {r['processes_most']}, {r['processes_after']}", memory,
                     f"{r['growth']:+.1%}"])
    return table(rows)
