"""Server-sent events pass one by one, and the client comes back with its last id."""

import subprocess

from longhaul import APPS, Longhaul, node, site

EVENTS = 200

server, hello = node("sse.mjs", "server")
try:
    with Longhaul(site({"sse": hello["port"]})) as longhaul:
        url = f"http://127.0.0.1:{longhaul.port()}/events"
        client = ["node", APPS / "sse.mjs", "client", url, str(EVENTS)]
        subprocess.run(client, check=True, timeout=60)
finally:
    server.kill()
    server.wait()
