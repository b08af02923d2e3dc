"""Processes and their descendants, from /proc."""

import glob


def family(pid):
    """A process and its descendants, zombies left out."""
    parents = {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:
            continue
        # The name may hold anything; what follows its last bracket is fixed (proc(5)).
        rest = text.rsplit(")", 1)[1].split()
        if rest[0] != "Z":
            parents.setdefault(int(rest[1]), []).append(int(text.split(" ", 1)[0]))
    found = [pid]
    for each in found:
        found += parents.get(each, [])
    return found
