"""Turns results into tables, plots and the generated part of docs/performance.md. Measures nothing."""

import json
import math
import os
import random
import re
import statistics

import capacity
import cells
import hotspots
import instructions
import plot
import targets
from tables import failure, memory_http2_table, memory_table, number, reload_table, table

RESULTS = os.path.join(targets.HERE, "results")
DOCUMENT = os.path.join(targets.ROOT, "docs", "performance.md")
CAPACITY = os.path.join(targets.ROOT, "docs", "capacity.md")
MODES = ("full", "scale", "hotspots", "instructions")


def path_of(mode):
    return os.path.join(RESULTS, f"{mode}.json")


def read(mode):
    try:
        with open(path_of(mode), encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None


def save(results, keep=False):
    os.makedirs(RESULTS, exist_ok=True)
    old = read(results["mode"]) if keep else None
    if old:
        for part in ("cells", "memory", "reloads", "stamps", "versions", "scale", "hotspots", "instructions"):
            if part in old:
                results[part] = merged(old[part], results.get(part, {}), deep=part in ("memory", "hotspots"))
    with open(path_of(results["mode"]), "w", encoding="utf-8") as file:
        text = json.dumps(rounded(results), indent=1, sort_keys=True)
        # One round, one line.
        file.write(re.sub(r"\{\n([^{}\[\]]*)\}", lambda m: "{" + " ".join(m.group(1).split()) + "}", text) + "\n")


def merged(old, new, deep):
    """What is new over what was there; `deep`: target by target, not cell by cell."""
    if not deep:
        return {**old, **new}
    return {key: {**old.get(key, {}), **new.get(key, {})} for key in [*old, *(k for k in new if k not in old)]}


def rounded(value):
    """Five significant digits are more than the machine repeats."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return value


def median(results, key, name, metric):
    rows = [r for r in results["cells"].get(key, {}).get(name, []) if r.get(metric) is not None]
    return statistics.median(r[metric] for r in rows) if rows else None


def spread(results, key, name, metric):
    rows = [r[metric] for r in results["cells"].get(key, {}).get(name, []) if r.get(metric) is not None]
    return (min(rows), max(rows)) if rows else None


def goals(results):
    """The targets of the issue: text, figure, bound, pass or miss."""
    rows = [["what", "cell", "against", "longhaul", "it", "ratio", "target", ""]]
    by_key = {c.key: c for c in cells.CELLS}
    for text, keys, factor, others in cells.GOALS:
        for key in keys:
            cell = by_key[key]
            mine = median(results, key, "longhaul", cell.metric)
            theirs = {o: median(results, key, o, cell.metric) for o in others}
            theirs = {o: v for o, v in theirs.items() if v}
            if not mine or not theirs:
                rows.append([text, key, " or ".join(others), number(mine), "–", "–", bound(cell, factor), "not measured"])
                continue
            best = (min if cell.low else max)(theirs, key=theirs.get)
            ratio = mine / theirs[best]
            good = ratio <= factor if cell.low else ratio >= factor
            name = f"{best} (best)" if len(others) > 1 else best
            rows.append([text, key, name, number(mine), number(theirs[best]), f"{ratio:.2f}", bound(cell, factor),
                         "pass" if good else "**miss**"])
    for key in ("rate-64", "rate-1000", "rate-64-tls"):
        rows += latency_goal(results, key)
    for text, key, limit in cells.MEMORY_GOALS:
        row = results["memory"].get(key, {}).get("longhaul", {})
        value = row.get("bytes_each")
        verdict = "not measured" if value is None else "pass" if value <= limit else "**miss**"
        rows.append([text, key, "–", number(value) + " B", "–", "–", f"≤ {limit:,} B", verdict])
    row = results["reloads"].get("longhaul")
    if row and "failed" not in row:
        good = row["lost"] == 0 and row["processes_most"] == 1 and abs(row["growth"]) <= 0.02
        rows.append(["5 reloads under load", "reloads", "–",
                     f"{row['lost']} lost, {row['processes_most']} process, {row['growth']:+.1%}", "–", "–",
                     "0 lost, 1 process, ±2 %", "pass" if good else "**miss**"])
    return rows


def missed():
    """Cells whose target is missed in the last whole run, each with whom it is held against."""
    results, found = read("full"), {}
    for _, key, against, *_, verdict in goals(results)[1:] if results else []:
        if "miss" in verdict and key in {c.key for c in cells.CELLS}:
            found.setdefault(key, set()).add(against.removesuffix(" (best)"))
    return found


def latency_goal(results, key):
    """Added latency as medians, and once more as the least disturbed round of each: a pause of the machine in two of
    three rounds moves a median of tails by milliseconds."""
    return [added_latency(results, key, title, of) for title, of in
            (("median", statistics.median), ("least disturbed round", min))]


def added_latency(results, key, title, of):
    # The direct line of the TLS cell is the plain one: there is no proxy to end TLS.
    direct, mine = tails(results, key.removesuffix("-tls"), "direct"), tails(results, key, "longhaul")
    peers = {p: tails(results, key, p) for p in cells.PEERS if tails(results, key, p)}
    text = f"added p99 at 20,000/s, µs, {title}"
    if not direct or not mine or not peers:
        return [text, key, "best peer", "–", "–", "–", "≤ 1 ×", "not measured"]
    best = min(peers, key=lambda peer: of(peers[peer]))
    added, theirs = of(mine) - of(direct), of(peers[best]) - of(direct)
    ratio = f"{added / theirs:.2f}" if theirs > 0 else "–"
    if theirs > 0 and title == "median":
        ratio += " ({:.1f} to {:.1f})".format(*likely(direct, mine, peers[best]))
    return [text, key, f"{best} (best)", number(added), number(theirs), ratio, "≤ 1 ×",
            "pass" if added <= theirs else "**miss**"]


def tails(results, key, name):
    return [r["p99_us"] for r in results["cells"].get(key, {}).get(name, []) if r.get("p99_us") is not None]


def likely(direct, mine, theirs, times=1000):
    """Where the ratio of added medians lies in nine of ten draws of rounds out of those that were measured (bootstrap)."""
    draw = random.Random(times)
    ratios = []
    for _ in range(times):
        floor, me, them = (statistics.median(draw.choices(rows, k=len(rows))) for rows in (direct, mine, theirs))
        ratios.append((me - floor) / (them - floor) if them > floor else math.inf)
    ratios.sort()
    return ratios[times // 20], ratios[-1 - times // 20]


def bound(cell, factor):
    return f"{'≤' if cell.low else '≥'} {factor:g} ×"


def cell_table(results, cell):
    got = results["cells"].get(cell.key)
    if not got:
        return None
    mine = median(results, cell.key, "longhaul", cell.metric)
    rows = [["target", cell.unit, "rounds", "longhaul to it"] + [title for _, title in cell.extra]]
    for name in got:
        value = median(results, cell.key, name, cell.metric)
        if failure(got[name]):
            rows.append([name, failure(got[name]), "–", "–"] + ["–"] * len(cell.extra))
            continue
        low, high = spread(results, cell.key, name, cell.metric) or (None, None)
        ratio = f"{mine / value:.2f}" if mine and value else "–"
        figure = number(value) if value else "–"
        rows.append([name, figure, f"{number(low)} … {number(high)}" if value else "–", ratio]
                    + [number(median(results, cell.key, name, key)) for key, _ in cell.extra])
    return table(rows)


def head(results, command):
    machine = results["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in sorted(results["versions"].items()))
    lines = [f"Made by `{command}` on {results['begun']}: {machine['cores']} cores, kernel {machine['kernel']}, "
             f"congestion control {machine['congestion_control']}. {versions}."]
    if results["missing"]:
        lines.append("Missing: " + "; ".join(f"{k} ({v})" for k, v in sorted(results["missing"].items())) + ".")
    stamps = set(results.get("stamps", {}).values())
    if len(stamps) > 1:
        by_stamp = {s: [k for k, v in results["stamps"].items() if v == s] for s in sorted(stamps)}
        lines.append("Cells of several runs: " + "; ".join(f"{s}: " + ", ".join(f"`{k}`" for k in keys)
                                                            for s, keys in by_stamp.items()) + ".")
    elif stamps:
        lines.append(f"All of one run, of the commit {stamps.pop().rsplit(', ', 1)[1]}.")
    rounds = [len(rows) for cell in results["cells"].values() for rows in cell.values()]
    windows = [row["seconds"] for cell in results["cells"].values() for rows in cell.values() for row in rows
               if "seconds" in row]
    if rounds and windows:
        lines.append(f"Rounds of each cell: {min(rounds)} to {max(rounds)}, each of {min(windows):.0f} to "
                     f"{max(windows):.0f} s; load average when it began: "
                     f"{results['load_before']:.1f} (2 cores; what is above 0 is other work on the machine).")
    return "\n".join(lines)


def full_section(results):
    parts = [head(results, f"bench/run {results['mode']}"), "### Against the targets", table(goals(results))]
    for cell in cells.CELLS:
        text = cell_table(results, cell)
        if text:
            parts += [f"### {cell.title}", f"`bench/run full --cells {cell.key}`"]
            if os.path.exists(os.path.join(RESULTS, f"{cell.key}.svg")):
                parts.append(f"![{cell.title}](../bench/results/{cell.key}.svg)")
            parts.append(text)
    for title, text, key, picture in (
            ("Memory per idle tunnel", memory_table(results), "memory,memory-tls", "memory"),
            ("Memory per idle tunnel, HTTP/2 over TLS 1.3, 50 on a connection", memory_http2_table(results),
             "memory-tls,memory-h2", "memory-h2"),
            ("5 reloads under 200 live tunnels and 40 new ones a second", reload_table(results), "reloads", "")):
        if text:
            parts += [f"### {title}", f"`bench/run full --cells {key}`"]
            if picture and os.path.exists(os.path.join(RESULTS, f"{picture}.svg")):
                parts.append(f"![{title}](../bench/results/{picture}.svg)")
            parts.append(text)
    return "\n\n".join(parts)


def scale_section(results):
    parts = [head(results, "bench/run scale")]
    for key, series in results["scale"].items():
        parts += [f"### {series['title']}", f"![{series['title']}](../bench/results/{key}.svg)"]
        counts = series["counts"]
        rows = [[series["by"]] + [f"{c:,}" for c in counts]]
        for name, values in series["lines"].items():
            rows.append([name] + [number(v) for v in values])
        parts.append(table(rows))
    return "\n\n".join(parts)


def plots(results):
    os.makedirs(RESULTS, exist_ok=True)
    for cell in cells.CELLS:
        got = results["cells"].get(cell.key, {})
        bars = [(name, median(results, cell.key, name, cell.metric)) for name in got]
        bars = [(n, v) for n, v in bars if v]
        if bars:
            note = "less is better" if cell.low else "more is better"
            plot.bars(os.path.join(RESULTS, f"{cell.key}.svg"), f"{cell.title} ({cell.unit}, {note})", bars)
    memory_plot(results, "memory", "Resident bytes per idle tunnel", (("memory", "plain"), ("memory-tls", "TLS 1.3")))
    if results.get("memory", {}).get("memory-h2"):
        memory_plot(results, "memory-h2", "Resident bytes per idle tunnel, over TLS 1.3, HTTP/2 with 50 on a connection",
                    (("memory-h2", "HTTP/2"), ("memory-tls", "HTTP/1.1")))
    for key, series in results.get("scale", {}).items():
        plot.lines(os.path.join(RESULTS, f"{key}.svg"), series["title"], series["by"], series["counts"], series["lines"])


def memory_plot(results, name, title, kinds):
    """Only targets that have a figure of the first kind, of both kinds."""
    memory = results.get("memory", {})
    got = [(f"{target}, {label}", row["bytes_each"]) for key, label in kinds
           for target, row in memory.get(key, {}).items() if "bytes_each" in row and target != "direct"
           and "bytes_each" in memory.get(kinds[0][0], {}).get(target, {})]
    if got:
        plot.bars(os.path.join(RESULTS, f"{name}.svg"), f"{title} (less is better)", got)


def sections():
    """The generated parts of the documents: file, name of the part, text."""
    makers = {"full": full_section, "scale": scale_section, "hotspots": hotspots.section,
              "instructions": instructions.section}
    for mode in MODES:
        results = read(mode)
        if not results:
            continue
        yield DOCUMENT, mode, makers[mode](results)
        sizes = capacity.section(results, median, table) if mode == "full" else None
        if sizes:
            yield CAPACITY, "capacity", sizes


def write_all(docs):
    for mode in MODES:
        results = read(mode)
        if results and mode in ("full", "scale"):
            plots(results)
    for path, name, section in sections():
        if name in ("full", "scale"):
            with open(os.path.join(RESULTS, f"{name}.md"), "w", encoding="utf-8") as file:
                file.write(section.replace("../bench/results/", "") + "\n")
        if docs:
            with open(path, encoding="utf-8") as file:
                text = file.read()
            with open(path, "w", encoding="utf-8") as file:
                file.write(placed(text, name, section))


def placed(text, name, section):
    """A document with one generated part, which stands between two comments, replaced."""
    pattern = re.compile(f"(<!-- bench:{name} begin -->).*?(<!-- bench:{name} end -->)", re.S)
    return pattern.sub(lambda m: f"{m.group(1)}\n\n{section}\n\n{m.group(2)}", text)


def terminal(results):
    if results["mode"] == "scale":
        return scale_section(results)
    if results["mode"] in ("hotspots", "instructions"):
        return {"hotspots": hotspots, "instructions": instructions}[results["mode"]].section(results)
    rows = [r for r in goals(results) if r[-1] != "not measured"]
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths)) for row in rows)
