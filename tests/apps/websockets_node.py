"""Node's `ws`, client and server, with permessage-deflate and messages up to 16 MiB."""

import subprocess

from longhaul import APPS, Longhaul, node, site

server, hello = node("websockets_node.mjs", "server")
try:
    with Longhaul(site({"node": hello["port"]})) as longhaul:
        url = f"ws://127.0.0.1:{longhaul.port()}/"
        client = ["node", APPS / "websockets_node.mjs", "client", url]
        subprocess.run(client, check=True, timeout=120)
        closed = longhaul.wait("tunnel closed")
        assert closed["cause"] == "close 4002", closed
finally:
    server.kill()
    server.wait()
