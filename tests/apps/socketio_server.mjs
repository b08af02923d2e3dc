// One process of the Socket.IO cluster: it knows only the sessions it has opened.

import { createServer } from "node:http";
import { Server } from "socket.io";

const name = process.argv[2];
const http = createServer();
const io = new Server(http, { transports: ["polling", "websocket"], pingInterval: 5000 });
const counts = { name, sessions: 0, upgraded: 0, unknown: 0, errors: [] };

io.engine.on("connection_error", (error) => {
  // Code 1 is "Session ID unknown".
  if (error.code === 1) counts.unknown += 1;
  counts.errors.push(`${error.code} ${error.message}`);
});
io.on("connection", (socket) => {
  counts.sessions += 1;
  socket.conn.on("upgrade", () => (counts.upgraded += 1));
  socket.on("echo", (text, reply) => reply(`${name}:${text}`));
});
http.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: http.address().port })));
process.on("SIGTERM", () => {
  console.log(JSON.stringify(counts));
  process.exit(0);
});
