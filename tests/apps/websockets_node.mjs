// Node's `ws`, client and server, with permessage-deflate.
//
// usage: websockets_node.mjs server | client URL

import { randomBytes } from "node:crypto";
import { once } from "node:events";
import WebSocket, { WebSocketServer } from "ws";

const MOST = 16 * 1024 * 1024;
const SIZES = [0, 1, 125, 126, 127, 65535, 65536, 1024 * 1024, MOST];
const [role, url] = process.argv.slice(2);
const perMessageDeflate = { threshold: 0 };

if (role === "server") {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate });
  server.on("connection", (socket) => {
    socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  });
  await once(server, "listening");
  console.log(JSON.stringify({ port: server.address().port }));
} else {
  let messages = 0;
  for (const deflate of [false, perMessageDeflate]) {
    const socket = new WebSocket(url, { perMessageDeflate: deflate });
    await once(socket, "open");
    const wanted = deflate ? "permessage-deflate" : "";
    if (!socket.extensions.startsWith(wanted) || (!deflate && socket.extensions)) {
      throw new Error(`extensions: ${socket.extensions}`);
    }
    for (const size of SIZES) {
      const random = randomBytes(Math.floor(size / 2));
      const binary = Buffer.concat([random, Buffer.alloc(size - random.length)]);
      for (const message of [binary, "ä".repeat(Math.floor(size / 2))]) {
        socket.send(message);
        const [data, isBinary] = await once(socket, "message");
        if (isBinary === (typeof message === "string") || !data.equals(Buffer.from(message))) {
          throw new Error(`${size} bytes came back different`);
        }
        messages += 1;
      }
    }
    socket.ping("p");
    const [pong] = await once(socket, "pong");
    if (pong.toString() !== "p") throw new Error("another pong");
    socket.close(4002, "done");
    const [code, reason] = await once(socket, "close");
    if (code !== 4002 || reason.toString() !== "done") throw new Error(`closed with ${code}`);
  }
  console.log(`${messages} messages of up to ${MOST} bytes`);
}
