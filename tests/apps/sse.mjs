// Server-sent events.
//
// usage: sse.mjs server | client URL EVENTS
//
// The server ends the stream after every tenth event; the client comes back
// with Last-Event-ID, as browsers do. The next event is sent only when the
// client has confirmed the last one, so a proxy that buffers stops the test.

import { createServer } from "node:http";
import { EventSource } from "eventsource";

const [role, url, wanted] = process.argv.slice(2);

if (role === "server") {
  let confirm = () => {};
  const server = createServer((request, response) => {
    if (request.method === "POST") {
      confirm();
      response.end();
      return;
    }
    let next = Number(request.headers["last-event-id"] ?? -1) + 1;
    const last = next + 9;
    response.writeHead(200, { "content-type": "text/event-stream" });
    const send = () => {
      response.write(`id: ${next}\ndata: event ${next}\n\n`);
      if (next++ === last) {
        confirm = () => {};
        response.end();
      } else {
        confirm = send;
      }
    };
    response.write("retry: 1\n\n");
    send();
  });
  server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: server.address().port })));
} else {
  const source = new EventSource(url);
  let expected = 0;
  source.onmessage = (event) => {
    if (event.data !== `event ${expected}`) {
      console.error(`${event.data} instead of event ${expected}`);
      process.exit(1);
    }
    expected += 1;
    if (expected === Number(wanted)) {
      console.log(`${expected} events, none lost or doubled`);
      process.exit(0);
    }
    fetch(url, { method: "POST" });
  };
}
