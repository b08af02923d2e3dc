"""bench/run: measures longhaul beside its peers, in turn, on the same work.

all     full, scale, hotspots and instructions, one after the other (what it does without a mode)
quick   echo, bulk and memory, few rounds: under four minutes (without the first build)
full    every cell of the issue's table
scale   how cost grows with tunnels, routes and backends
hotspots  where the CPU goes, by perf, in the cells whose target the last whole run missed
instructions  what a handshake and a request take outside of the kernel, by callgrind
report  writes the tables and plots again from the results that are there"""

import argparse
import datetime
import os
import statistics
import subprocess
import sys
import time

import cells
import check
import hotspots
import install
import instructions
import measure
import namespace
import report
import rounds
import scale
import targets

DEFAULT_PEERS = ["nginx", "haproxy", "caddy", "envoy", "sozu"]


def arguments():
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", nargs="?", default="all",
                        choices=["all", "quick", "full", "scale", "hotspots", "instructions", "report"])
    parser.add_argument("--rounds", type=int, help="rounds of each cell (quick: 2, full: 5, scale: 3)")
    parser.add_argument("--seconds", type=float, help="measured window of each round (1; quick: 0.6)")
    parser.add_argument("--warm", type=float, default=0.3, help="full: seconds before each window that are not measured (0.3)")
    parser.add_argument("--peers", default=",".join(DEFAULT_PEERS), help="which peers, with commas")
    parser.add_argument("--cells", default="", help="only cells whose key begins with one of these, with commas")
    parser.add_argument("--tunnels", type=int, help="idle tunnels of the memory cells (9000; quick: 4500)")
    parser.add_argument("--no-build", action="store_true", help="build and install nothing: measure the programs that are there")
    parser.add_argument("--no-docs", action="store_true", help="do not write docs/performance.md")
    parser.add_argument("--realtime", action="store_true",
                        help="cells with a fixed rate run before all other work of the machine (root only)")
    parser.add_argument("--check", action="store_true",
                        help="with `report`: write nothing, say whether the documents are what the results make")
    parser.add_argument("--keep", action="store_true", help="keep the other cells of the last results of this mode")
    args = parser.parse_args([a for a in sys.argv[1:] if a != "prepare"])
    quick = args.mode == "quick"
    args.seconds = args.seconds or (0.6 if quick else 1.0)
    args.tunnels = args.tunnels or (4500 if quick else 9000)
    return args


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


class Bench:
    """One run: the backend, the targets, the results."""

    def __init__(self, args, mode):
        self.args, self.mode = args, mode
        self.peers = args.peers.split(",")
        self.only = [c for c in args.cells.split(",") if c]
        self.results = {"mode": mode, "cells": {}, "memory": {}, "reloads": {}, "stamps": {}, "versions": {},
                        "missing": {}}
        self.backend = None

    def wanted(self, key):
        return not self.only or any(key == c or (c.endswith("*") and key.startswith(c[:-1])) for c in self.only)

    def begin(self):
        release = os.uname().release.split("-")[0]
        self.results["machine"] = {"kernel": ".".join(release.split(".")[:2]), "cores": os.cpu_count(),
                                   "congestion_control": "reno", "pinned": targets.cores()[0] != targets.cores()[1],
                                   "open_files": os.sysconf("SC_OPEN_MAX")}
        self.results["begun"] = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        self.results["load_before"] = os.getloadavg()[0]
        # On every address of the namespace, which has nothing but loopback: `scale` gives each backend its own.
        port = targets.BACKEND.rsplit(":", 1)[1]
        self.backend = targets.spawn([targets.LOAD, "backend", f"0.0.0.0:{port}"], targets.cores()[0],
                                     stdout=subprocess.DEVNULL)
        targets.wait_for(9000, self.backend)

    def classes(self, quick):
        chosen = []
        for cls in targets.ALL:
            peer = cls.name in DEFAULT_PEERS
            parent = cls.name.split(",")[0]
            if (parent in DEFAULT_PEERS and parent not in self.peers) or (quick and cls.name == "longhaul, no cursor"):
                continue
            target = cls(0)
            if target.find() is None:
                self.results["missing"][cls.name] = "not installed, and could not be"
                continue
            chosen.append(cls)
            if peer or cls.name == "longhaul":
                self.results["versions"][cls.name] = target.version()
        return chosen

    def start(self, classes):
        """Starts a fresh process of each target; one that does not start is left out and named."""
        started = []
        for i, cls in enumerate(classes):
            target = cls(10_000 + 100 * i)
            try:
                target.start()
                started.append(target)
            except RuntimeError as error:
                say(f"  {error}")
                self.results["missing"][cls.name] = "does not start"
        return started

    def cell(self, cell, classes, times):
        say(cell.title)
        realtime = self.args.realtime and cell.key.startswith("rate")
        targets.REALTIME = realtime
        targets.set_realtime(self.backend.pid, realtime)
        started = self.start([c for c in classes if cell.takes(c(0))])
        rows = {t.name: [] for t in started}
        options = dict(warm=self.args.warm, time=self.args.seconds, **cell.options)
        try:
            for turn in range(times):
                # Each round begins with another target, so that no one always runs first.
                shift = turn % max(len(started), 1)
                for target in started[shift:] + started[:shift]:
                    try:
                        row = measure.load(target, cell.load, tls=cell.tls, resume=cell.resume, http2=cell.http2,
                                           **options)
                        row["load_average"] = os.getloadavg()[0]
                        row["realtime"] = realtime
                        row["warm"] = self.args.warm
                        rows[target.name].append(row)
                    except measure.Failed as error:
                        say(f"  {target.name}: {error}")
                        rows[target.name].append({"failed": str(error)})
        finally:
            for target in started:
                target.stop()
            targets.REALTIME = False
            targets.set_realtime(self.backend.pid, False)
        self.results["cells"][cell.key] = rows
        for name, got in rows.items():
            wall = [r["per_second"] for r in got if "failed" not in r]
            if wall:
                figures = [r[cell.metric] for r in got if r.get(cell.metric)]
                text = f"{statistics.median(figures):8.2f} {cell.unit}" if figures else "       – "
                say(f"  {name:24} {text}   {statistics.median(wall):10.0f}/s")

    def afresh(self, classes, times, once):
        """Rounds of what wants a process of its own each time: `once` of each target in turn; the rows of each."""
        rows = {cls.name: [] for cls in classes}
        for turn in range(times):
            shift = turn % max(len(classes), 1)
            for target in (t for cls in classes[shift:] + classes[:shift] for t in self.start([cls])):
                try:
                    rows[target.name].append(once(target))
                except (measure.Failed, subprocess.SubprocessError) as error:
                    say(f"  {target.name}: {error}")
                    rows[target.name].append({"failed": measure.why(str(error))})
                finally:
                    target.stop()
        return {name: got for name, got in rows.items() if got}

    def memory(self, classes, kind, times):
        say(f"memory per idle tunnel, {kind.title}")
        chosen = [c for c in classes if kind.takes(c(0)) and not (c.variant and self.mode == "quick")]
        rows = self.afresh(chosen, times,
                           lambda target: measure.idle_memory(target, kind.tls, self.args.tunnels, kind.http2))
        self.results["memory"][kind.key] = {name: rounds.memory(got) for name, got in rows.items()}
        for name, row in self.results["memory"][kind.key].items():
            if "failed" not in row:
                say(f"  {name:22} {row['bytes_each']:8.0f} B, kernel {row.get('kernel_bytes_each', 0):8.0f} B")

    def reloads(self, classes, times):
        say("5 reloads under 200 live tunnels and 40 new ones a second")
        chosen = [c for c in classes if c.reloads and not c.variant and c.name != "longhaul, no cursor"]
        rows = self.afresh(chosen, times, lambda target: measure.reloads(target, False))
        self.results["reloads"] = {name: rounds.reloads(got) for name, got in rows.items()}
        for name, row in self.results["reloads"].items():
            if "failed" not in row:
                say(f"  {name:22} lost {row['lost']}, processes {row['processes_before']} -> {row['processes_most']} -> "
                    f"{row['processes_after']}, memory {row['growth']:+.1%}")

    def run(self):
        quick = self.mode == "quick"
        times = self.args.rounds or (2 if quick else 5)
        classes = self.classes(quick)
        for cell in cells.CELLS:
            if self.wanted(cell.key) and (cell.quick or not quick):
                self.cell(cell, classes, times)
                self.stamp(cell.key)
        # Whole processes with thousands of tunnels, and half a minute of churn: no more than three.
        few = 1 if quick else min(times, 3)
        for kind in cells.MEMORY:
            if self.wanted(kind.key) and (kind.quick or not quick):
                self.memory(classes, kind, few)
                self.stamp(kind.key)
        if not quick and self.wanted("reloads"):
            self.reloads(classes, few)
            self.stamp("reloads")

    def stamp(self, key):
        """Notes when a cell was measured, and of which commit: results that are kept may be older than others."""
        self.results["stamps"][key] = f"{self.results['begun']}, {targets.commit()}"

    def end(self):
        if self.backend:
            self.backend.kill()
            self.backend.wait()


def main():
    args = arguments()
    if sys.argv[1:2] == ["prepare"]:
        tools = {"hotspots": "linux-perf", "instructions": "valgrind"}
        tools = [tool for mode, tool in tools.items() if args.mode in ("all", mode)]
        install.prepare(args.peers.split(","), build=not args.no_build, tools=tools)
        return
    if args.mode == "report":
        if args.check:
            sys.exit(check.run())
        report.write_all(not args.no_docs)
        return
    namespace.enter()
    for mode in report.MODES if args.mode == "all" else [args.mode]:
        measured(args, mode)


def measured(args, mode):
    """One mode from its first process to its results on the disk."""
    bench = Bench(args, mode)
    try:
        bench.begin()
        if mode == "scale":
            bench.results["scale"] = scale.run(bench, args.rounds or 3)
        elif mode == "hotspots":
            bench.results["hotspots"] = hotspots.run(bench, report.missed())
        elif mode == "instructions":
            bench.results["instructions"] = instructions.run(bench)
        else:
            bench.run()
    except KeyboardInterrupt:
        say("interrupted: nothing is written")
        sys.exit(130)
    finally:
        bench.end()
    report.save(bench.results, keep=args.keep)
    report.write_all(not args.no_docs)
    print(report.terminal(bench.results))


if __name__ == "__main__":
    main()
