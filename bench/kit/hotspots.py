"""Where the CPU of a proxy goes: samples of `perf`, summed by system call in the kernel and by crate outside of it.

It says why a figure is what it is and measures none: sampling costs time itself."""

import collections
import os
import re
import shutil
import subprocess

import cells
import measure

SECONDS = 3
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
    data = os.path.join(target.directory, "perf.data")
    pids = ",".join(map(str, measure.family(target.pid())))
    recorder = subprocess.Popen(["perf", "record", "-q", "-g", "-F", "1999", "-p", pids, "-o", data, "--", "sleep",
                                 str(SECONDS)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        measure.load(target, cell.load, tls=cell.tls, resume=cell.resume, http2=cell.http2, warm=0.3,
                     time=SECONDS + 1.0, **cell.options)
    finally:
        recorder.wait()
    script = subprocess.run(["perf", "script", "-i", data, "-F", "ip,sym,dso"], stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True, check=False).stdout
    sums = collections.Counter(place(stack.splitlines()) for stack in script.split("\n\n") if stack.strip())
    total = sum(sums.values())
    if total < 200:
        raise measure.Failed(f"only {total} samples")
    return {name: 100 * count / total for name, count in sums.most_common()}


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
        names = [name for name, shares in by_target.items() if "failed" not in shares]
        failed = [f"{name} ({shares['failed'][:80]})" for name, shares in by_target.items() if name not in names]
        if failed:
            text.append(f"`{key}`, not sampled: " + "; ".join(failed) + ".")
        if not names:
            continue
        merged = {name: folded(by_target[name]) for name in names}
        rows = sorted({row for shares in merged.values() for row in shares},
                      key=lambda row: (row == "rest", -merged[names[0]].get(row, 0), row))
        table = [f"| `{key}` | " + " | ".join(names) + " |", "| --- |" + " ---: |" * len(names)]
        for row in rows:
            cells = [f"{merged[name][row]:.0f}" if row in merged[name] else "" for name in names]
            table.append(f"| {row} | " + " | ".join(cells) + " |")
        kernel = [f"{sum(v for k, v in merged[name].items() if k.startswith('kernel')):.0f}" for name in names]
        table.append("| **kernel in all** | " + " | ".join(kernel) + " |")
        text.append("\n".join(table))
    return "\n\n".join(text)


def folded(shares):
    kept = {name: share for name, share in shares.items() if share >= 1}
    rest = sum(shares.values()) - sum(kept.values())
    return {**kept, "rest": rest} if rest >= 0.5 else kept
