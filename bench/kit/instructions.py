"""Instructions that a proxy executes outside of the kernel for a handshake and for a request, counted by callgrind.

A machine with other work cannot change them. They are the slope between a short and a long run, so that what a start
costs is not among them."""

import os
import re
import shutil
import signal
import subprocess

import cells
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
            found[cell.key][cls.name] = (more - less) / (many - few)
            print(f"  {cls.name:24} {found[cell.key][cls.name]:10.0f}", flush=True)
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
        total = re.search(r"^(?:totals|summary): (\d+)", file.read(), re.M)
    if total is None:
        raise measure.Failed("callgrind has counted nothing")
    return done["count"], int(total.group(1))


def section(results):
    """The table of docs/performance.md."""
    found = results["instructions"]
    if not any(found.values()):
        return f"Nothing was counted by `bench/run instructions` on {results['begun']}."
    names = list(dict.fromkeys(name for row in found.values() for name in row))
    titles = {c.key: c.title for c in cells.CELLS}
    lines = [f"Made by `bench/run instructions` on {results['begun']}.", "",
             "| instructions | " + " | ".join(names) + " |", "| --- |" + " ---: |" * len(names)]
    for key, row in found.items():
        lines.append(f"| `{key}`: {titles[key].removeprefix('CPU ')} | "
                     + " | ".join(f"{round(row[name], -2):,.0f}" if name in row else "–" for name in names) + " |")
    return "\n".join(lines)
