"""Where the CPU of a proxy goes: samples of `perf`, summed by system call in the kernel and by crate outside of it.

It says why a figure is what it is and measures none: sampling costs time itself."""

import collections
import os
import re
import shutil
import subprocess

import cells
import measure
import targets
from tables import number, table

SECONDS = 3
# Cells in which the core of load and backend is full before the proxy's, so that what it does decides.
LOADS_CORE = ("bulk",)
# What stands below longhaul where it misses: the least that the same calls cost.
FLOORS = {"bulk": "bare relay, splice", "handshake": "bare hyper", "request": "bare hyper"}

# The first function of a stack, from the inside, that names the system call; compilers leave out the outermost.
CALLS = [
    ("epoll_wait", r"do_epoll_wait|ep_poll|epoll_pwait"), ("epoll_ctl", r"do_epoll_ctl"),
    ("recv", r"__sys_recvfrom|sock_read_iter|do_readv"), ("send", r"__sys_sendto|do_writev|sock_write_iter|__sys_sendmsg"),
    ("splice", r"do_splice|do_tee"), ("connect", r"__sys_connect"), ("accept", r"__sys_accept4"),
    ("shutdown", r"__sys_shutdown"), ("close", r"__fput|sock_close|filp_flush|task_work_run"),
    ("socket options", r"__sys_setsockopt|__sys_getsockopt|__sys_getsockname"), ("socket", r"__sys_socket"),
    ("wake another thread", r"do_futex|eventfd_write"), ("memory", r"do_madvise|exc_page_fault|do_mmap|do_munmap"),
]
CALLS = [(name, re.compile(pattern)) for name, pattern in CALLS]

CRATES = [
    ("cryptography", r"aws_lc|_aesni|aes_|gcm_|ghash|sha\d|x25519|ecp_|bn_|p256|EVP_|CRYPTO|mlkem|ml_kem"),
    ("rustls", r"rustls"), ("malloc and free", r"^_?mi_|malloc|free$|calloc|realloc|rdl_alloc|rust_alloc|rust_dealloc"),
    ("memcpy", r"memmove|memcpy|memset|memchr|memcmp"), ("longhaul", r"longhaul"), ("hyper", r"hyper"),
    ("tokio", r"tokio|mio::"), ("http", r"http::|httparse|http_body|bytes::"), ("libc and vdso", r"vdso|GI_|__libc|pthread"),
    ("std", r"^<?&?(?:mut )?\[?(core|alloc|std|hashbrown|smallvec)::"),
]
CRATES = [(name, re.compile(pattern)) for name, pattern in CRATES]


def find():
    return shutil.which("perf")


def run(bench, missed):
    """A table for each cell whose target is missed, longhaul beside whom it is held against: what, and its share of the
    samples in per cent."""
    if not find():
        raise SystemExit("bench/run: there is no perf, and it could not be installed")
    found = {}
    for cell in (c for c in cells.CELLS if c.key in missed and bench.wanted(c.key)):
        print(cell.title, flush=True)
        names = {"longhaul", *missed[cell.key], FLOORS.get(cell.key)}
        found[cell.key] = {}
        for target in (t for cls in bench.classes(False) if cls.name in names for t in bench.start([cls])):
            try:
                found[cell.key][target.name] = sample(target, cell)
            except measure.Failed as error:
                print(f"  {target.name}: {error}", flush=True)
                found[cell.key][target.name] = {"failed": str(error)}
            finally:
                target.stop()
    return found


def sample(target, cell):
    """Shares of the proxy's CPU, and beside them what is no share of it."""
    pids = ",".join(map(str, measure.family(target.pid())))
    found = {"shares": shares(target, cell, pids), "beside": {}}
    for which in (calls, loads_core):
        try:
            found["beside"].update(which(target, cell, pids))
        except measure.Failed as error:
            print(f"  {target.name}: {error}", flush=True)
    return found


def shares(target, cell, pids):
    """Of what the CPU of the proxy does, in per cent."""
    script, _ = recorded(target, cell, ["-g", "-F", "1999", "-p", pids], "ip,sym,dso")
    sums = collections.Counter(place(stack.splitlines()) for stack in script.split("\n\n") if stack.strip())
    total = sum(sums.values())
    if total < 200:
        raise measure.Failed(f"only {total} samples")
    return {name: 100 * count / total for name, count in sums.most_common()}


def recorded(target, cell, options, fields, meanwhile=f"sleep {SECONDS}"):
    """What `perf` samples under load for as long as a command takes, and what that says."""
    data = os.path.join(target.directory, "perf.data")
    recorder = subprocess.Popen(["perf", "record", "-q", *options, "-o", data, "--", "sh", "-c", meanwhile],
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        loaded(target, cell, warm=0.3, time=SECONDS + 1.0)
    finally:
        said, _ = recorder.communicate()
    script = subprocess.run(["perf", "script", "-i", data, "-F", fields], stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True, check=False).stdout
    return script, said


def loaded(target, cell, **options):
    return measure.load(target, cell.load, tls=cell.tls, resume=cell.resume, http2=cell.http2, **options, **cell.options)


def calls(target, cell, pids):
    """System calls of the proxy for each unit of the cell: of some seconds in the middle, both."""
    counter = subprocess.Popen(["perf", "stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-D", "500", "-p", pids, "--",
                                "sleep", str(SECONDS)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        each_second = loaded(target, cell, warm=0.5, time=SECONDS)["per_second"]
    finally:
        _, said = counter.communicate()
    counted = re.search(r"^(\d+),.*sys_enter", said, re.M)
    if counted is None:
        raise measure.Failed("perf has counted no system calls")
    return {"system calls for each": int(counted.group(1)) / (SECONDS - 0.5) / each_second}


def loads_core(target, cell, _):
    """What the core of load and backend does meanwhile: idle and stolen in per cent of its time, copying of its work."""
    if cell.key not in LOADS_CORE:
        return {}
    core = targets.cores()[0]
    times = f"grep '^cpu{core} ' /proc/stat"
    script, said = recorded(target, cell, ["-F", "1999", "-C", str(core)], "ip,sym",
                            f"sleep 0.5; {times}; sleep {SECONDS}; {times}")
    work = [line for line in script.splitlines() if not re.search(r"idle|halt|hlt", line)]
    seen = [[int(each) for each in line.split()[1:9]] for line in said.splitlines()]
    if len(work) < 200 or len(seen) != 2:
        raise measure.Failed(f"only {len(work)} samples of the load's core")
    # Of user, nice, system, idle, iowait, irq, softirq and stolen time (proc(5)).
    passed = [after - before for before, after in zip(*seen)]
    copied = sum("copy_to_iter" in line for line in work)
    return {"load's core: idle": 100 * passed[3] / sum(passed),
            "load's core: stolen by the host": 100 * passed[7] / sum(passed),
            "load's core: copying out of sockets, of its work": 100 * copied / len(work)}


def place(lines):
    """What one sample is counted for."""
    frames = [re.match(r"\s*[0-9a-f]+ (.*) \((.*)\)$", line) for line in lines]
    frames = [(m.group(1), m.group(2)) for m in frames if m]
    if not frames:
        return "kernel: other"
    symbol, binary = frames[0]
    if "kernel" in binary or binary.startswith("["):
        if "vdso" in binary:
            return "libc and vdso"
        for name, pattern in CALLS:
            if any(pattern.search(s) for s, _ in frames):
                return f"kernel: {name}"
        return "kernel: other"
    return crate(symbol)


def crate(symbol):
    """Whose code outside of the kernel it is, by the name of a function."""
    return next((name for name, pattern in CRATES if pattern.search(symbol)), "other user code")


def section(results):
    """The tables of docs/performance.md."""
    text = [f"Made by `bench/run hotspots` on {results['begun']}: per cent of the samples of `perf record` over "
            f"{SECONDS} s. What is below 1 % is in \"rest\"."]
    for key, by_target in results["hotspots"].items():
        sampled = {name: found for name, found in by_target.items() if "failed" not in found}
        failed = [f"{name} ({by_target[name]['failed'][:80]})" for name in by_target if name not in sampled]
        if failed:
            text.append(f"`{key}`, not sampled: " + "; ".join(failed) + ".")
        if not sampled:
            continue
        merged = [folded(found["shares"], 1) for found in sampled.values()]
        lines = [[row, *(f"{shares[row]:.0f}" if row in shares else "" for shares in merged)]
                 for row in rows(merged, merged[0])]
        kernel = (sum(v for k, v in shares.items() if k.startswith("kernel")) for shares in merged)
        lines.append(["**kernel in all**", *(f"{share:.0f}" for share in kernel)])
        beside = [found["beside"] for found in sampled.values()]
        for row in sorted({row for figures in beside for row in figures}):
            lines.append([f"*{row}*", *(number(figures.get(row)) for figures in beside)])
        text.append(table([[f"`{key}`", *sampled], *lines]))
    return "\n\n".join(text)


def folded(values, least):
    """What is less is summed up."""
    kept = {name: value for name, value in values.items() if value >= least}
    rest = sum(values.values()) - sum(kept.values())
    return {**kept, "rest": rest} if rest >= least / 2 else kept


def rows(columns, by):
    """The rows of a table, in the order of one of its columns."""
    return sorted({row for values in columns for row in values}, key=lambda row: (row == "rest", -by.get(row, 0), row))
