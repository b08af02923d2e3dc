"""One measurement of one target: runs the load generator, reads memory, counts what a reload costs."""

import json
import os
import re
import subprocess
import time

import targets
from processes import family

# The kernel's objects behind an open TCP connection.
SLABS = {"TCP", "sock_inode_cache", "filp", "dentry", "eventpoll_epi", "eventpoll_pwq", "tcp_bind_bucket",
         "tcp_bind2_bucket", "request_sock_TCP", "skbuff_head_cache", "skbuff_small_head", "skbuff_fclone_cache",
         "lsm_inode_cache", "lsm_file_cache", "ep_head"}


def why(text):
    """The first line of what a program said: the rest may name paths of the machine."""
    return (text.strip().splitlines() or ["no word"])[0][:200]


class Failed(Exception):
    """A measurement that did not come about; the text says why."""


# Tunnels on a connection of HTTP/2: a page with many sockets, or some pages.
STREAMS = 50


def command(target, load, tls, options, resume=False, http2=False):
    args = [targets.LOAD, "load", "--target", target.address(tls), *target.load_args]
    if tls:
        args += ["--tls", os.path.join(targets.CERTS, "cert.der")]
    if resume:
        args += ["--resume"]
    if http2:
        args += ["--http2", str(STREAMS)]
    if target.pid():
        args += ["--pid", str(target.pid())]
    for key, value in options.items():
        args += [f"--{key}", str(value)]
    return args + load


def load(target, what, tls=False, resume=False, http2=False, limit=60, **options):
    """Runs one load to its end and returns what it measured."""
    process = targets.spawn(command(target, what, tls, options, resume, http2), targets.cores()[0], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        raise Failed(f"no end after {limit} s") from error
    if process.returncode != 0:
        raise Failed(why(err))
    return json.loads(out.strip().splitlines()[-1])


def resident(pid):
    """Bytes of resident memory of a process and its descendants, counted page by page (smaps_rollup).

    A page that a master and its worker share counts for each; as a slope over tunnels this does no harm."""
    total = 0
    for each in family(pid):
        try:
            with open(f"/proc/{each}/smaps_rollup", encoding="utf-8") as file:
                total += int(re.search(r"^Rss:\s+(\d+) kB", file.read(), re.M).group(1)) * 1024
        except (OSError, AttributeError):
            continue
    return total


def kernel():
    """Bytes of the kernel's socket objects, of the whole machine; None where only root may know."""
    try:
        with open("/proc/slabinfo", encoding="utf-8") as file:
            rows = [line.split() for line in file][2:]
    except OSError:
        return None
    slab = sum(int(row[1]) * int(row[3]) for row in rows if row[0] in SLABS)
    with open("/proc/net/sockstat", encoding="utf-8") as file:
        pages = int(re.search(r"TCP:.* mem (\d+)", file.read()).group(1))
    return slab + pages * os.sysconf("SC_PAGESIZE")


def settle(seconds=5):
    """Waits until the kernel's figure stands still: sockets of the target before may still be on their way out."""
    last, until = kernel(), time.monotonic() + seconds
    while last is not None and time.monotonic() < until:
        time.sleep(0.5)
        now = kernel()
        if abs(now - last) < 64 << 10:
            return
        last = now


def idle_memory(target, tls, most, http2=False):
    """Memory for each idle tunnel: the slope between a ninth of the tunnels and all of them."""
    steps = [most // 9, most]
    settle()
    process = targets.spawn(command(target, ["hold", *map(str, steps)], tls, {}, http2=http2), targets.cores()[0],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    seen = []
    try:
        for step in steps:
            line = process.stdout.readline()
            if not line:
                raise Failed(why(process.stderr.read()))
            # What happens right after the last handshake (idle connections closed, buffers given back) belongs to it;
            # and who gives memory back once a second has had time to.
            time.sleep(3.0)
            seen.append((resident(target.pid()) if target.pid() else 0, kernel()))
            process.stdin.write("\n")
            process.stdin.flush()
    finally:
        process.kill()
        process.communicate()
    tunnels = steps[1] - steps[0]
    result = {"tunnels": most, "bytes_each": (seen[1][0] - seen[0][0]) / tunnels, "resident": seen[1][0]}
    if seen[0][1] is not None:
        result["kernel_bytes_each"] = (seen[1][1] - seen[0][1]) / tunnels
    return result


def reloads(target, tls, times=5, seconds=14):
    """Reloads under 200 live tunnels and 40 new ones a second: what is lost, how many processes, how much memory."""
    options = {"conns": 200, "time": seconds}
    process = targets.spawn(command(target, ["churn"], tls, options), targets.cores()[0], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)
    try:
        if not process.stdout.readline():
            raise Failed(why(process.stderr.read()))
        time.sleep(2.5)
        before, most, most_processes = resident(target.pid()), 0, 0
        processes = len(family(target.pid()))
        for _ in range(times):
            target.reload()
            for _ in range(6):
                time.sleep(0.25)
                most = max(most, resident(target.pid()))
                most_processes = max(most_processes, len(family(target.pid())))
        time.sleep(1.0)
        after, left = resident(target.pid()), len(family(target.pid()))
        out, err = process.communicate(timeout=seconds + 20)
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0:
        raise Failed(why(err))
    result = json.loads(out.strip().splitlines()[-1])
    result.update(reloads=times, resident_before=before, resident_most=most, resident_after=after,
                  processes_before=processes, processes_most=most_processes, processes_after=left,
                  growth=after / before - 1, lost=result["lost_live"] + result["lost_new"])
    return result
