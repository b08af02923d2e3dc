// The demo page: one WebSocket, and everything that can be seen of it.
"use strict";

const BEAT = 1000;
const KEPT = 60;
const $ = (id) => document.getElementById(id);
const body = document.body;

const tunnel = { opened: 0, since: 0, sent: 0, received: 0, times: [], waiting: new Map(), beat: 0 };
let socket, me, status, everyone = [], reconnects = 0, tries = 0, edits = [], chosen = 0, servedBy = body.dataset.backend;

// ---- small tools

function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}
const shape = (backend) => {
  const element = make("span", `shape ${backend}`);
  element.setAttribute("aria-hidden", "true");
  return element;
};
const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour12: false });
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
function lasted(ms) {
  const s = Math.floor(ms / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}
const remembered = {
  read() { try { return localStorage.getItem("name"); } catch { return null; } },
  write(name) { try { localStorage.setItem("name", name); } catch { /* not allowed: not kept */ } },
};

// ---- the tunnel

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
  socket.onmessage = (event) => {
    tunnel.received += 1;
    const message = JSON.parse(event.data);
    handlers[message.t]?.(message);
    showCounts();
  };
  socket.onclose = (event) => {
    const wasOpen = body.dataset.state === "open";
    body.dataset.state = "closed";
    if (wasOpen) {
      const age = lasted(performance.now() - tunnel.opened);
      record("bad", `The tunnel closed after ${age}, code ${event.code}`,
        event.code === 1012 ? "longhaul is stopping: it said so with a Close frame" : event.reason);
    }
    $("headline").textContent = wasOpen || me ? "The tunnel is closed" : "No tunnel yet";
    $("subline").textContent = "Trying again.";
    tries += 1;
    setTimeout(connect, Math.min(5000, 250 * 2 ** tries) * (0.5 + Math.random() / 2));
  };
}

function send(message) {
  if (socket.readyState !== WebSocket.OPEN) return;
  socket.send(JSON.stringify(message));
  tunnel.sent += 1;
  showCounts();
}

const handlers = {
  hello(message) {
    if (me) reconnects += 1;
    me = message.me;
    tries = 0;
    edits = message.edits;
    Object.assign(tunnel, { opened: performance.now(), since: message.since, sent: 0, received: 1, times: [], waiting: new Map() });
    body.dataset.state = "open";
    body.dataset.mine = me.backend;
    document.title = `${me.backend} · longhaul demo`;
    const on = make("em", "", me.backend);
    $("headline").replaceChildren("You stick to ", on);
    describe(message.handshake);
    $("file").textContent = message.file;
    $("lines").replaceChildren();
    message.lines.forEach(showLine);
    if (!message.lines.length) $("lines").append(make("li", "none", "Lines said to one backend arrive at all of them."));
    showPeople(message.people);
    const name = remembered.read();
    if (name) send({ t: "rename", name });
    showEdits();
    showBackends();
    showCounts();
  },
  pong({ n }) {
    const sent = tunnel.waiting.get(n);
    tunnel.waiting.delete(n);
    if (sent === undefined) return;
    tunnel.times.push(performance.now() - sent);
    if (tunnel.times.length > KEPT) tunnel.times.shift();
    showTimes();
  },
  people({ people }) { showPeople(people); },
  chat(line) { showLine(line); },
  status(message) {
    const before = status;
    status = message;
    if (status.generation === 0) return;
    $("generation").textContent = status.generation;
    $("hash").textContent = `config ${status.config_hash.slice(0, 8)}`;
    $("hubcount").textContent = plural(status.tunnels, "tunnel");
    showBackends();
    if (before?.generation) noticeReload(before);
  },
};

function describe(handshake) {
  const secure = location.protocol === "https:";
  $("transport").replaceChildren(make("b", "", secure ? "wss" : "ws"), secure ? " · TLS ends at longhaul" : " · plain");
  const parts = ["Since ", make("b", "", clock(tunnel.since)), ". The page came from ", make("b", "", servedBy),
    servedBy === me.backend ? ", the tunnel ends there too: one cookie, one backend."
      : ", the tunnel ends elsewhere: is the cookie blocked?"];
  $("subline").replaceChildren(...parts);
  $("footer").textContent = "Open this page in a private window, another browser or on the other port to be a second client. "
    + `The backend saw Host ${handshake.host}, X-Forwarded-For ${handshake.forwarded_for || "nothing"}, `
    + `X-Forwarded-Proto ${handshake.forwarded_proto || "nothing"}.`;
}

// ---- reloads

function noticeReload(before) {
  const last = status.last_reload;
  const age = lasted(performance.now() - tunnel.opened);
  if (status.generation !== before.generation) {
    flash($("gendial"));
    record("", `Generation ${status.generation}: your tunnel is still the same one, ${age} old`, last?.message);
    return;
  }
  if (last?.ok && before.last_reload && !before.last_reload.ok) {
    record("", `Right again: still generation ${status.generation}`, last.message);
  }
  if (last && !last.ok && JSON.stringify(last) !== JSON.stringify(before.last_reload)) {
    const item = record("bad", `Rejected: still generation ${status.generation}, nothing changed for anybody`);
    item.append(make("pre", "", last.message));
  }
}

function record(kind, title, detail) {
  const time = make("time", "", clock(Date.now()));
  const item = make("li", kind, time, title);
  if (detail) item.append(make("small", "", detail));
  $("events").querySelector(".none")?.remove();
  $("events").prepend(item);
  while ($("events").children.length > 50) $("events").lastChild.remove();
  return item;
}

function flash(element) {
  element.classList.remove("flash");
  void element.offsetWidth;
  element.classList.add("flash");
}

// ---- what is shown

function showBackends() {
  const configured = new Map((status?.upstreams[0]?.backends ?? []).map((backend) => [backend.name, backend]));
  const items = ["red", "green", "blue"].map((name) => {
    const backend = configured.get(name);
    const gone = Boolean(status?.generation) && !backend;
    const mine = me?.backend === name;
    const here = everyone.filter((person) => person.backend === name).length;
    const note = gone ? "removed" : backend ? `weight ${backend.weight}` : "";
    const live = plural(backend ? backend.tunnels : here, "tunnel");
    const detail = gone && here ? `${plural(here, "tunnel")} live${here === 1 ? "s" : ""} on` : live;
    return make("li", [name, mine && "mine", gone && "gone"].filter(Boolean).join(" "),
      make("span", "note", note), shape(name), make("b", "", name),
      make("small", "", mine ? `${detail}, ${here > 1 ? "1 " : ""}yours` : detail));
  });
  $("backends").replaceChildren(...items);
  $("myname").textContent = me?.name ?? "";
  drawRoads();
}

function showCounts() {
  $("messages").textContent = (tunnel.sent + tunnel.received).toLocaleString("en");
  $("ways").textContent = `${tunnel.sent} out, ${tunnel.received} in`;
  $("reconnects").textContent = reconnects;
  $("reconnects").classList.toggle("trouble", reconnects > 0);
  // The newest heartbeat is on its way.
  const lost = Math.max(0, tunnel.waiting.size - 1);
  $("unanswered").textContent = `${lost} beats lost`;
}

function showTimes() {
  const times = tunnel.times;
  const last = times[times.length - 1];
  $("rtt").textContent = `${last < 10 ? last.toFixed(1) : Math.round(last)} ms`;
  const top = Math.max(4, ...times) * 1.1;
  const points = times.map((t, i) => `${(100 * (KEPT - times.length + i)) / (KEPT - 1)},${40 - (40 * t) / top}`);
  const spark = $("spark");
  spark.setAttribute("viewBox", "0 0 100 40");
  const first = points[0].split(",")[0];
  spark.replaceChildren(svg("polygon", "area", { points: `${first},40 ${points.join(" ")} 100,40` }),
    svg("polyline", "stroke", { points: points.join(" ") }));
}

function showPeople(people) {
  everyone = people;
  const mine = people.find((person) => person.id === me?.id);
  if (mine) me = mine;
  if (me && document.activeElement !== $("name")) $("name").value = me.name;
  $("people").replaceChildren(...people.slice(0, 24).map((person) => {
    const label = person.id === me?.id ? make("b", "", `${person.name} (you)`) : person.name;
    return make("span", person.backend, shape(person.backend), label);
  }));
  showBackends();
}

function showLine(line) {
  const list = $("lines");
  list.querySelector(".none")?.remove();
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  const who = make("span", "who", shape(line.via), make("b", "", line.name), ` through ${line.via}, ${clock(line.at)}`);
  list.append(make("li", line.via, who, line.text));
  while (list.children.length > 200) list.firstChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

function showEdits() {
  const tabs = edits.map((edit, i) => {
    const tab = make("button", "", edit.label);
    tab.type = "button";
    tab.id = `tab-${i}`;
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", "panel");
    tab.setAttribute("aria-selected", String(i === chosen));
    tab.tabIndex = i === chosen ? 0 : -1;
    tab.onclick = () => choose(i);
    return tab;
  });
  $("tabs").replaceChildren(...tabs);
  $("panel").setAttribute("aria-labelledby", `tab-${chosen}`);
  const edit = edits[chosen];
  $("says").textContent = edit.says;
  $("command").textContent = edit.command;
  $("undo").textContent = edit.undo;
}

function choose(i) {
  chosen = i;
  showEdits();
  $(`tab-${i}`).focus();
}

function showAge() {
  if (body.dataset.state !== "open") return;
  const s = Math.floor((performance.now() - tunnel.opened) / 1000);
  const text = [s / 3600, (s / 60) % 60, s % 60].map((n) => String(Math.floor(n)).padStart(2, "0")).join(":");
  if ($("age").textContent === text && $("age").children.length) return;
  $("age").replaceChildren(...[...text].map((c) => make("i", c === ":" ? "sep" : "", c)));
}

// ---- the road map

function svg(tag, className, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  if (className) element.setAttribute("class", className);
  for (const [name, value] of Object.entries(attributes ?? {})) element.setAttribute(name, value);
  return element;
}

let road;
function drawRoads() {
  const frame = $("map").getBoundingClientRect();
  const box = (element) => {
    const r = element.getBoundingClientRect();
    return { left: r.left - frame.left, right: r.right - frame.left, y: r.top - frame.top + r.height / 2 };
  };
  const you = box($("map").querySelector(".you"));
  const hub = box($("map").querySelector(".hub"));
  const shapes = [];
  const first = `M${you.right} ${you.y}L${hub.left} ${hub.y}`;
  const lanes = [...$("backends").children].map((item) => {
    const end = box(item);
    const bend = (end.left - hub.right) * 0.55;
    const curve = `C${hub.right + bend} ${hub.y} ${end.left - bend} ${end.y} ${end.left} ${end.y}`;
    return { mine: item.classList.contains("mine"), d: `M${hub.right} ${hub.y}${curve}`, curve };
  });
  lanes.sort((a, b) => a.mine - b.mine);
  for (const lane of lanes) {
    const mine = lane.mine ? "mine" : "";
    shapes.push(svg("path", mine, { d: lane.d }), svg("path", `paint ${mine}`, { d: lane.d }));
  }
  const mine = lanes.find((lane) => lane.mine);
  shapes.push(svg("path", mine ? "mine" : "", { d: first }), svg("path", mine ? "paint mine" : "paint", { d: first }));
  road = mine && svg("path", "", { d: `${first}L${hub.right} ${hub.y}${mine.curve}`, visibility: "hidden" });
  if (road) shapes.push(road, svg("circle", "", { r: 6, id: "pulse" }));
  $("roads").replaceChildren(...shapes);
}

function pulse() {
  const started = performance.now();
  const step = (now) => {
    const dot = $("pulse");
    if (!dot || !road) return;
    const part = Math.min(1, (now - started) / 800);
    const there = part < 0.5 ? part * 2 : 2 - part * 2;
    const point = road.getPointAtLength(road.getTotalLength() * (there * there * (3 - 2 * there)));
    dot.setAttribute("cx", point.x);
    dot.setAttribute("cy", point.y);
    dot.classList.toggle("on", part < 1);
    if (part < 1) requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

// ---- start

setInterval(() => {
  if (socket.readyState !== WebSocket.OPEN || body.dataset.state !== "open") return;
  tunnel.beat += 1;
  tunnel.waiting.set(tunnel.beat, performance.now());
  send({ t: "ping", n: tunnel.beat });
  if (!document.hidden) pulse();
}, BEAT);
setInterval(showAge, 200);
new ResizeObserver(drawRoads).observe($("map"));

$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (text) send({ t: "say", text });
  $("text").value = "";
});
$("name").addEventListener("change", () => {
  const name = $("name").value.trim();
  if (!name) return;
  remembered.write(name);
  send({ t: "rename", name });
});
$("tabs").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  choose((chosen + step + edits.length) % edits.length);
});
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = $(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "copied";
  } catch {
    // Not a secure context: select it, so that one key copies it.
    getSelection().selectAllChildren(source);
    button.textContent = "selected";
  }
  setTimeout(() => { button.textContent = "copy"; }, 1500);
});
connect();
