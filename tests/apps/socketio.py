"""Socket.IO 4: a cluster of three processes, long-polling then upgrade, behind two longhauls.

The processes share nothing, so a request at the wrong one is a "Session ID
unknown". With cookies longhaul's own cookie is the key, without them a query
parameter that the client sends from its first request.
"""

import json
import signal
import subprocess

from longhaul import APPS, Longhaul, node, site

SESSIONS = 1000


def run(kind, sticky):
    servers = {name: node("socketio_server.mjs", name) for name in ("one", "two", "three")}
    ports = {name: hello["port"] for name, (_, hello) in servers.items()}
    config = site(ports, f"sticky = {json.dumps(sticky)}")
    with Longhaul(config) as first, Longhaul(config) as second:
        client = subprocess.run(
            ["node", APPS / "socketio_client.mjs", str(SESSIONS), kind]
            + [str(first.port()), str(second.port())],
            stdout=subprocess.PIPE,
            text=True,
            timeout=240,
        )
    counts = []
    for process, _ in servers.values():
        process.send_signal(signal.SIGTERM)
        counts.append(json.loads(process.communicate(timeout=20)[0].splitlines()[-1]))
    assert client.returncode == 0, f"{kind}: a session failed; {counts}"
    print(f"{kind}: {client.stdout.strip()}")
    errors = [error for count in counts for error in count["errors"]]
    assert not errors, errors
    assert sum(count["unknown"] for count in counts) == 0
    assert sum(count["sessions"] for count in counts) == SESSIONS
    assert sum(count["upgraded"] for count in counts) == SESSIONS
    assert all(count["sessions"] > SESSIONS / 6 for count in counts), "spread over all three"


run("cookie", ["cookie"])
run("query", ["query:user"])
