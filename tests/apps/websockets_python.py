"""Python's `websockets`, client and server, with permessage-deflate, plain and by TLS."""

import asyncio
import contextlib
import os
import pathlib
import ssl
import tempfile

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from longhaul import Longhaul, certificate, site

MOST = 16 * 1024 * 1024
SIZES = [0, 1, 125, 126, 127, 65535, 65536, 1024 * 1024, MOST]


async def echo(socket):
    with contextlib.suppress(ConnectionClosed):
        async for message in socket:
            await socket.send(message)


async def talk(url, tls, deflate):
    options = {"ssl": tls, "max_size": None, "subprotocols": ["v2.test", "v1.test"]}
    options["extensions"] = [ClientPerMessageDeflateFactory()] if deflate else None
    options["compression"] = None
    async with connect(url, **options) as socket:
        names = [one.name for one in socket.protocol.extensions]
        assert names == (["permessage-deflate"] if deflate else []), names
        assert socket.subprotocol == "v1.test"
        for size in SIZES:
            # Half compressible, half not.
            half = os.urandom(size // 2)
            for message in (half + b"\0" * (size - len(half)), "aä€😀"[: size % 5] + "x" * size):
                await socket.send(message)
                assert await socket.recv() == message, f"{size} bytes came back different"
        # Fragmented, as a streaming client sends.
        await socket.send(["one ", "two ", "three"])
        assert await socket.recv() == "one two three"
        await (await socket.ping())
        await socket.close(4001, "done")
        assert (socket.close_code, socket.close_reason) == (4001, "done")


async def main():
    deflating = {"max_size": None, "subprotocols": ["v1.test"], "compression": "deflate"}
    async with serve(echo, "127.0.0.1", 0, **deflating) as server:
        port = server.sockets[0].getsockname()[1]
        for scheme in ("ws", "wss"):
            with tempfile.TemporaryDirectory() as directory:
                chain, key = certificate(pathlib.Path(directory))
                pair = f'certificates = [{{ chain = "{chain}", key = "{key}" }}]'
                config = site({"python": port}, listener=pair if scheme == "wss" else "")
                tls = ssl.create_default_context(cafile=chain) if scheme == "wss" else None
                with Longhaul(config) as longhaul:
                    for deflate in (False, True):
                        await talk(f"{scheme}://localhost:{longhaul.port()}/", tls, deflate)
                    closed = longhaul.wait("tunnel closed")
                    assert closed["cause"] == "close 4001", closed
        print(f"{len(SIZES) * 8} messages of up to {MOST} bytes")


asyncio.run(main())
