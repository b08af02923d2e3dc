"""Several rounds of what is measured once in each: idle memory as a median, reloads as their worst."""

import statistics


def memory(rows):
    """The medians of the rounds that came about; the reason of the last where none did."""
    got = [r for r in rows if "failed" not in r]
    if not got:
        return rows[-1]
    result = {"tunnels": got[0]["tunnels"], "rounds": [r["bytes_each"] for r in got]}
    for key in ("bytes_each", "resident", "kernel_bytes_each"):
        values = [r[key] for r in got if key in r]
        if values:
            result[key] = statistics.median(values)
    return result


def reloads(rows):
    """The round that lost most, and of those the one that grew most: a tunnel lost in one of three rounds is lost."""
    failed = [r for r in rows if "failed" in r]
    return failed[-1] if failed else max(rows, key=lambda r: (r["lost"], r["processes_most"], abs(r["growth"])))
