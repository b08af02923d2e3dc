// Many Socket.IO sessions, each from long-polling to WebSocket.
//
// usage: socketio_client.mjs SESSIONS cookie|query PORT PORT
//
// Every TCP connection goes to the two longhauls in turn, as behind a balancer
// that knows nothing of HTTP: no session stays with one longhaul by chance.

import { connect, createServer } from "node:net";
import { io } from "socket.io-client";

const [sessions, kind, ...ports] = process.argv.slice(2);
const AT_ONCE = 40;
let turn = 0;

const front = createServer((client) => {
  const server = connect(Number(ports[turn++ % ports.length]), "127.0.0.1");
  client.pipe(server).pipe(client);
  client.on("error", () => server.destroy());
  server.on("error", () => client.destroy());
});
await new Promise((resolve) => front.listen(0, "127.0.0.1", resolve));
const url = `http://127.0.0.1:${front.address().port}`;

async function session(number) {
  const socket = io(url, {
    forceNew: true,
    reconnection: false,
    transports: ["polling", "websocket"],
    withCredentials: kind === "cookie",
    query: kind === "query" ? { user: `user-${number}` } : {},
  });
  const failed = new Promise((_, reject) => {
    socket.on("connect_error", (error) =>
      reject(new Error(`session ${number}: ${error.message} ${error.context?.responseText ?? ""}`)),
    );
    socket.on("disconnect", (reason) => reject(new Error(`session ${number}: ${reason}`)));
  });
  const lived = async () => {
    await new Promise((resolve) => socket.on("connect", resolve));
    const upgraded = new Promise((resolve) => socket.io.engine.on("upgrade", resolve));
    const first = await socket.timeout(10_000).emitWithAck("echo", `early ${number}`);
    if (socket.io.engine.transport.name !== "websocket") await upgraded;
    const second = await socket.timeout(10_000).emitWithAck("echo", `late ${number}`);
    const [server, text] = first.split(":");
    if (text !== `early ${number}` || second !== `${server}:late ${number}`) {
      throw new Error(`session ${number}: ${first} and then ${second}`);
    }
    return server;
  };
  try {
    return await Promise.race([lived(), failed]);
  } finally {
    socket.removeAllListeners();
    socket.close();
  }
}

const used = {};
let next = 0;
async function worker() {
  while (next < Number(sessions)) {
    const server = await session(next++);
    used[server] = (used[server] ?? 0) + 1;
  }
}
await Promise.all(Array.from({ length: AT_ONCE }, worker));
console.log(JSON.stringify(used));
process.exit(0);
