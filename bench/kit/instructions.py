"""Instructions that a proxy executes outside of the kernel for a handshake and for a request, counted by callgrind.

A machine with other work cannot change them. They are the slope between a short and a long run, so that what a start
costs is not among them."""

import collections
import os
import shutil
import signal
import subprocess

import cells
import hotspots
import measure
import targets
from tables import table

# Seconds of the two runs: callgrind is fifty times slower than the processor.
RUNS = (2, 8)
KEYS = ("handshake", "request")
# Seconds to start or to end in, under callgrind.
PATIENCE = 60
# What longhaul does for what it promises, each with all that it calls; what the compiler has put into its callers is
# not among them.
PARTS = {"request": [
    ("an unambiguous target", "longhaul::layers::target::settle"),
    ("headers that say who the client is", "longhaul::layers::forwarded::settle"),
    ("a name for the request", "longhaul::layers::trace::settle"),
    ("a check of the head's bytes", "longhaul::net::head_guard::HeadGuard::check"),
    ("fields of the connection", "longhaul::exchange::headers::strip_hop_by_hop"),
    ("what Connection names", "longhaul::exchange::headers::apply_connection"),
    ("a copy to be sent again", "longhaul::proxy::forward::replay"),
    ("interim answers passed on", "longhaul::proxy::forward::pass_on_interim"),
    ("a backend and a connection to it", "longhaul::proxy::attempt::connect::{{closure}}"),
    ("the route", "longhaul::state::router::find"),
    ("what the end of the answer's body is told", "longhaul::proxy::response_body::ResponseBody<B>::wrap"),
    ("the record for log and metrics", "longhaul::layers::record::conclude"),
    ("a stop that a connection obeys", "longhaul::drain::Watch::reached::{{closure}}"),
    ("room for 256 lines of an answer's head", "smallvec::SmallVec<A>::from_elem"),
]}


def run(bench):
    """For each cell and target, instructions for each."""
    if not shutil.which("valgrind"):
        raise SystemExit("bench/run: there is no valgrind, and it could not be installed")
    found = {}
    for cell in (c for c in cells.CELLS if c.key in KEYS and bench.wanted(c.key)):
        print(cell.title, flush=True)
        found[cell.key] = {}
        for cls in (targets.BareHyper, targets.Longhaul):
            try:
                (few, *less), (many, *more) = (counted(cls(10_000), cell, seconds) for seconds in RUNS)
            except (measure.Failed, RuntimeError, OSError) as error:
                print(f"  {cls.name}: {measure.why(str(error))}", flush=True)
                continue
            owners, functions = (slope(b, a, many - few) for b, a in zip(more, less))
            parts = {words: functions.get(name, 0) for words, name in PARTS.get(cell.key, ()) if cls is targets.Longhaul}
            for words in (words for words, count in parts.items() if count < 1):
                print(f"  {cls.name}: no function of its own is left of {words}", flush=True)
            found[cell.key][cls.name] = {"owners": owners, "parts": parts}
            print(f"  {cls.name:24} {sum(owners.values()):10.0f}", flush=True)
    return found


def slope(more, less, count):
    return {name: (value - less.get(name, 0)) / count for name, value in more.items()}


def counted(target, cell, seconds):
    """How many there were in a run, and what `summed` says of it."""
    out = os.path.join(target.directory, "callgrind")
    proxy = target.command
    target.command = lambda: ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", *proxy()]
    target.patience = PATIENCE
    target.start()
    process = target.process
    try:
        done = measure.load(target, cell.load, warm=0, time=seconds, limit=PATIENCE, **cell.options)
        # It writes what it has counted when it ends by itself.
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise measure.Failed(f"{target.name} does not end") from error
    finally:
        target.stop()
    with open(out, encoding="utf-8") as file:
        return done["count"], *summed(file)


def summed(file):
    """The instructions in a file of callgrind: by whose functions they are in, and by function, each with all that it
    calls. See "Callgrind Format Specification" in the manual of valgrind."""
    names, owners, functions = {}, collections.Counter(), collections.Counter()
    inside = called = total = None
    for line in file:
        kind, _, rest = line.partition("=")
        if kind in ("fn", "cfn"):
            number, _, name = rest.rstrip().partition(" ")
            # A name stands with its number the first time only.
            name = names.setdefault(number, name)
            if kind == "fn":
                inside = hotspots.crate(name)
            else:
                called = name
        elif kind == "calls":
            # What the called function has taken stands in the next line.
            functions[called] += int(next(file).split()[1])
        elif line.startswith("totals:"):
            total = int(line.split()[1])
        elif line[0] in "+-*0123456789":
            owners[inside] += int(line.split()[1])
    if not total or sum(owners.values()) != total:
        raise measure.Failed(f"callgrind has counted {total}, and its functions have {sum(owners.values())}")
    return owners, functions


def section(results):
    """The tables of docs/performance.md."""
    found = results["instructions"]
    if not any(found.values()):
        return f"Nothing was counted by `bench/run instructions` on {results['begun']}."
    titles = {c.key: c.title.removeprefix("CPU ") for c in cells.CELLS}
    text = [f"Made by `bench/run instructions` on {results['begun']}: by whose functions they are in, as the compiler has "
            "left them; what is below 100 is in \"rest\"."]
    for key, by_target in found.items():
        if not by_target:
            continue
        merged = [hotspots.folded(counted["owners"], 100) for counted in by_target.values()]
        sums = [hundreds(sum(counted["owners"].values())) for counted in by_target.values()]
        text.append(table([[f"`{key}`: {titles[key]}", *by_target],
                           *([row, *(hundreds(counts.get(row)) for counts in merged)]
                             for row in hotspots.rows(merged, merged[-1])),
                           ["**in all**", *sums]]))
        parts = by_target.get("longhaul", {}).get("parts")
        if parts:
            parts = {words: count for words, count in parts.items() if count >= 1}
            text.append(table([[f"`{key}`: of longhaul's, each with all that it calls", "longhaul"],
                               *([words, hundreds(parts[words])] for words in hotspots.rows([parts], parts))]))
    return "\n\n".join(text)


def hundreds(count):
    return "" if count is None else f"{round(count / 100) * 100:,.0f}"
