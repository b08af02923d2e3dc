"""How cost grows: tunnels from 10 to 9,000, routes and backends from 1 to 1,000. One plot for each."""

import statistics

import measure
import targets

TUNNELS = [10, 100, 1000, 9000]
COUNTS = [1, 10, 100, 1000]
NAMES = ("longhaul", "nginx", "haproxy", "bare relay")


class Grown(targets.Longhaul):
    """longhaul with many routes or many backends; the load uses the last route."""

    routes = 1
    backends = 1

    def write_config(self):
        super().write_config()
        with open(self.config_path(), encoding="utf-8") as file:
            text = file.read()
        head, _ = text.split("[[routes]]", 1)
        routes = "".join(
            f'[[routes]]\nname = "r{i}"\npath = "/ws/r{i}/*"\nupstream = "bench"\n' for i in range(self.routes))
        # Every address of 127/8 is this host: one listener serves them all, and stickiness has something to choose.
        port = targets.BACKEND.rsplit(":", 1)[1]
        backends = ",\n".join(
            f'  {{ name = "b{i}", address = "127.0.{i // 250}.{i % 250 + 1}:{port}" }}' for i in range(self.backends))
        text = (head + routes + '[upstreams.bench]\nbalance = "hash"\nsticky = ["client_ip"]\nbackends = [\n'
                + backends + "\n]\n")
        with open(self.config_path(), "w", encoding="utf-8") as file:
            file.write(text)


def run(bench, rounds):
    found = {}
    if bench.wanted("scale-tunnels") or bench.wanted("scale-memory"):
        classes = [c for c in bench.classes(False) if c.name in NAMES]
        found.update(by_tunnels(bench, classes, rounds))
    for what in ("routes", "backends"):
        if bench.wanted(f"scale-{what}"):
            found.update(by_count(bench, what, rounds))
    return found


def by_tunnels(bench, classes, rounds):
    cpu = {c.name: [] for c in classes}
    memory = {c.name: [] for c in classes}
    for count in TUNNELS:
        started = bench.start(classes)
        rows = {t.name: [] for t in started}
        try:
            for _ in range(rounds):
                for target in started:
                    rows[target.name].append(attempt(target, ["echo"], conns=count, time=bench.args.seconds))
        finally:
            for target in started:
                target.stop()
        for cls in classes:
            cpu[cls.name].append(middle(rows.get(cls.name, [])))
            memory[cls.name].append(idle(bench, cls, count))
        report(bench, f"{count} tunnels", {n: v[-1] for n, v in cpu.items()}, {n: v[-1] for n, v in memory.items()})
    return {
        "scale-tunnels": {"title": "CPU per 125 B echo by number of tunnels (µs)", "by": "tunnels", "counts": TUNNELS,
                          "lines": cpu},
        "scale-memory": {"title": "Resident bytes per idle tunnel by number of tunnels", "by": "tunnels",
                         "counts": TUNNELS, "lines": memory},
    }


def idle(bench, cls, count):
    """Memory for each of `count` tunnels; below some thousand the allocator's steps show."""
    for target in bench.start([cls]):
        try:
            return measure.idle_memory(target, False, max(count, 9))["bytes_each"]
        except measure.Failed:
            return None
        finally:
            target.stop()
    return None


def by_count(bench, what, times):
    """All counts in turn in each round, so that what else the machine does hits them alike."""
    started, rows = [], {count: {"echo": [], "handshakes": []} for count in COUNTS}
    try:
        for i, count in enumerate(COUNTS):
            target = Grown(12_000 + 100 * i)
            setattr(target, what, count)
            target.start()
            started.append((count, target))
        for turn in range(times):
            for count, target in started[turn % len(COUNTS):] + started[:turn % len(COUNTS)]:
                for load, got in rows[count].items():
                    got.append(attempt(target, [load], conns=64, path=f"/ws/r{target.routes - 1}/x",
                                       time=bench.args.seconds))
    finally:
        for _, target in started:
            target.stop()
    echo = [middle(rows[count]["echo"]) for count in COUNTS]
    handshake = [middle(rows[count]["handshakes"]) for count in COUNTS]
    memory = [idle_grown(what, count, bench.args.tunnels) for count in COUNTS]
    for i, count in enumerate(COUNTS):
        report(bench, f"{count} {what}", {"echo": echo[i], "handshake": handshake[i]}, {"longhaul": memory[i]})
    return {
        f"scale-{what}": {
            "title": f"Cost by number of {what} (longhaul)", "by": what, "counts": COUNTS,
            "lines": {"µs CPU per echo": echo, "µs CPU per handshake": handshake,
                      "10 B per idle tunnel": [m / 10 if m else None for m in memory]}},
    }


def idle_grown(what, count, tunnels):
    target = Grown(12_000)
    setattr(target, what, count)
    # The load's default path belongs to no route here.
    target.load_args = ("--path", f"/ws/r{target.routes - 1}/x")
    target.start()
    try:
        return measure.idle_memory(target, False, tunnels)["bytes_each"]
    except measure.Failed:
        return None
    finally:
        target.stop()


def attempt(target, load, **options):
    try:
        return measure.load(target, load, warm=0.3, **options)["cpu_us_each"]
    except measure.Failed as error:
        print(f"  {target.name}: {error}", flush=True)
        return None


def middle(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def report(_bench, text, cpu, memory):
    def show(row):
        return ", ".join(f"{k} {v:.2f}" for k, v in row.items() if v is not None)
    print(f"{text}: CPU µs {show(cpu)}; memory B {show(memory)}", flush=True)
