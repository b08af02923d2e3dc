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

# Seconds of the two runs: callgrind is fifty times slower than the processor.
RUNS = (2, 8)
KEYS = ("handshake", "request")
# Seconds to start or to end in, under callgrind.
PATIENCE = 60


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
                (few, less), (many, more) = (counted(cls(10_000), cell, seconds) for seconds in RUNS)
            except (measure.Failed, RuntimeError, OSError) as error:
                print(f"  {cls.name}: {measure.why(str(error))}", flush=True)
                continue
            more.subtract(less)
            found[cell.key][cls.name] = {owner: count / (many - few) for owner, count in more.items()}
            print(f"  {cls.name:24} {sum(found[cell.key][cls.name].values()):10.0f}", flush=True)
    return found


def counted(target, cell, seconds):
    """How many there were in a run, and all its instructions."""
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
        return done["count"], by_owner(file)


def by_owner(file):
    """The instructions in a file of callgrind, by whose functions they are in; see "Callgrind Format Specification" in
    the manual of valgrind."""
    names, sums, owner, is_call = {}, collections.Counter(), None, False
    for line in file:
        if line.startswith("fn="):
            number, _, name = line[3:].rstrip().partition(" ")
            # A name stands with its number the first time only, be it as caller or as called.
            owner = names.setdefault(number, hotspots.crate(name))
        elif line.startswith("cfn="):
            number, _, name = line[4:].rstrip().partition(" ")
            names.setdefault(number, hotspots.crate(name))
        elif line.startswith("calls="):
            # What the called function has taken is on the next line, and in the called function.
            is_call = True
        elif line[0] in "+-*0123456789":
            if not is_call:
                sums[owner] += int(line.split()[1])
            is_call = False
    if not sums:
        raise measure.Failed("callgrind has counted nothing")
    return sums


def section(results):
    """The table of docs/performance.md."""
    found = results["instructions"]
    if not any(found.values()):
        return f"Nothing was counted by `bench/run instructions` on {results['begun']}."
    titles = {c.key: c.title for c in cells.CELLS}
    text = [f"Made by `bench/run instructions` on {results['begun']}: by whose functions they are in, as the compiler has "
            "left them; what is below 100 is in \"rest\"."]
    for key, by_target in found.items():
        merged = {name: folded(counts) for name, counts in by_target.items()}
        if not merged:
            continue
        last = list(merged.values())[-1]
        rows = sorted({row for counts in merged.values() for row in counts},
                      key=lambda row: (row == "rest", -last.get(row, 0), row))
        table = [f"| `{key}`: {titles[key].removeprefix('CPU ')} | " + " | ".join(merged) + " |",
                 "| --- |" + " ---: |" * len(merged)]
        for row in rows:
            table.append(f"| {row} | " + " | ".join(f"{counts[row]:,.0f}" if row in counts else "" for counts in
                                                    merged.values()) + " |")
        sums = [f"{round(sum(counts.values()), -2):,.0f}" for counts in by_target.values()]
        table.append("| **in all** | " + " | ".join(sums) + " |")
        text.append("\n".join(table))
    return "\n\n".join(text)


def folded(counts):
    kept = {owner: round(count, -2) for owner, count in counts.items() if count >= 100}
    return {**kept, "rest": round(sum(counts.values()) - sum(kept.values()), -2)}
