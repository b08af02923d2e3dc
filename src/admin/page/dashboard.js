"use strict";
// The dashboard: asks the admin API it came from, and nobody else.
// It holds at most KEPT samples of each line and one page of tunnels.
const KEPT = 90, PAGE = 50, REFRESH = 3000, MOST_BACKENDS = 300;
const $ = id => document.getElementById(id);
const histories = new Map();
let token = sessionStorage.getItem("longhaul-token") || "";
let role = "reader", last = null, socket = null, tries = 0, pages = [0], next = null, shownQuery = "";

function make(tag, options, ...children) {
  const { text, kind, label, ...rest } = options || {};
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (kind) node.className = kind;
  if (label) node.dataset.label = label;
  for (const [key, value] of Object.entries(rest)) {
    if (key === "click") node.addEventListener("click", value);
    else node.setAttribute(key, value);
  }
  node.append(...children.filter(Boolean));
  return node;
}

// Sets only what is different, so that focus, selection and screen readers are left alone.
function put(node, text) { if (node.textContent !== String(text)) node.textContent = text; }

const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const count = value => value < 10000 ? String(Math.round(value)) : short.format(value);
const rate = value => value < 10 ? value.toFixed(1) : count(value);
function span(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${(seconds / 3600).toFixed(1)} h`;
  return `${(seconds / 86400).toFixed(1)} d`;
}
const clock = unix => new Date(unix * 1000).toLocaleTimeString([], { hour12: false });

function remember(name, value) {
  const line = histories.get(name) || [];
  line.push(value);
  if (line.length > KEPT) line.shift();
  histories.set(name, line);
}

const SVG = "http://www.w3.org/2000/svg";
function sparkline() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 100 24");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  for (const kind of ["area", "line"]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", kind);
    svg.append(path);
  }
  return svg;
}
function draw(svg, name) {
  const line = histories.get(name) || [];
  if (line.length < 2) return;
  const top = Math.max(...line, 1e-9), step = 100 / (KEPT - 1), start = 100 - step * (line.length - 1);
  const points = line.map((value, at) => `${(start + at * step).toFixed(2)} ${(23 - 21 * value / top).toFixed(2)}`);
  svg.children[0].setAttribute("d", `M${start.toFixed(2)} 23L${points.join("L")}L100 23Z`);
  svg.children[1].setAttribute("d", `M${points.join("L")}`);
}

// Of health: a strip of the last states, in three colours at three heights.
const HEIGHTS = { good: 5, warn: 12, bad: 19 };
function strip() {
  const svg = sparkline();
  svg.replaceChildren(...Object.keys(HEIGHTS).map(kind => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", kind);
    return path;
  }));
  return svg;
}
function drawStates(svg, name) {
  const states = histories.get(name) || [];
  const step = 100 / KEPT, start = 100 - step * states.length, parts = { good: "", warn: "", bad: "" };
  for (let at = 0, end; at < states.length; at = end) {
    for (end = at + 1; end < states.length && states[end] === states[at]; end++);
    parts[states[at]] += `M${(start + at * step).toFixed(2)} ${HEIGHTS[states[at]]}H${(start + end * step).toFixed(2)}`;
  }
  for (const path of svg.children) path.setAttribute("d", parts[path.getAttribute("class")]);
}

// ---- asking ----
async function ask(path, body) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const options = body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers };
  const answer = await fetch(path, { ...options, signal: AbortSignal.timeout(20000) });
  const json = await answer.json();
  if (answer.status === 401) { login("This token is not good."); throw new Error("a token is needed"); }
  if (!answer.ok) throw new Error(json.error || `status ${answer.status}`);
  return json;
}
let saying = 0;
function say(text) { put($("said"), text); clearTimeout(saying); saying = setTimeout(() => put($("said"), ""), 6000); }

// Resolves to whether the person says yes; Escape is no.
function sure(title, text, yes) {
  const dialog = $("ask");
  put($("ask-title"), title); put($("ask-text"), text); put($("ask-yes"), yes);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise(done => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}
$("ask-no").addEventListener("click", () => $("ask").close(""));
$("ask-yes").addEventListener("click", () => $("ask").close("yes"));

async function act(title, text, yes, path, body, told) {
  if (!await sure(title, text, yes)) return;
  try { say(told(await ask(path, body))); list(); } catch (error) { say(`Not done: ${error.message}`); }
}
const plural = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
const setState = (upstream, backend, state) => {
  const tunnels = plural(backend.tunnels, "live tunnel");
  const [title, text, yes] = state === "draining"
    ? [`Drain ${backend.name}?`, `It gets no new clients, and its ${tunnels} are closed at the pace of the config.`, "Drain"]
    : [`Take ${backend.name} back?`, "It gets clients again, as the config says.", "Take it back"];
  act(title, text, yes, "/backends", { upstream, backend: backend.name, state },
    answer => `${answer.backend} is ${answer.state}` + (answer.closing ? `; ${plural(answer.closing, "tunnel")} closed over ${span(answer.seconds)}` : ""));
};
const closeAll = (upstream, backend) => act(`Close the tunnels of ${backend.name}?`,
  `${plural(backend.tunnels, "live tunnel")} would get a Close frame at the pace of the config. Clients may come back at once, and to the same backend.`,
  "Close them", "/tunnels/close", { upstream, backend: backend.name }, answer => `${plural(answer.closing, "tunnel")} closed over ${span(answer.seconds)}`);
const closeOne = tunnel => act(`Close tunnel ${tunnel.id}?`,
  `Of ${tunnel.client} at ${tunnel.backend}. Both sides get a Close frame at the next message boundary.`,
  "Close it", "/tunnels/close", { id: tunnel.id }, () => `Tunnel ${tunnel.id} is told to close`);

// ---- totals and upstreams ----
const tiles = new Map();
function tile(name, label, value) {
  let one = tiles.get(name);
  if (!one) {
    one = { value: make("div", { kind: "value" }), svg: sparkline() };
    tiles.set(name, one);
    $("tiles").append(make("div", { kind: "tile" }, make("div", { kind: "soft", text: label }), one.value, one.svg));
  }
  put(one.value, value);
  draw(one.svg, name);
}
// What is counted never goes down; a moment between two counts may look so.
const most = new Map();
function perSecond(name, total, seconds) {
  const before = most.get(name), now = Math.max(before ?? 0, total);
  most.set(name, now);
  return before === undefined || seconds <= 0 ? 0 : (now - before) / seconds;
}
function standing(backend) {
  if (backend.health !== "up") return [backend.health, "bad"];
  if (backend.state !== "active") return [backend.state, "warn"];
  return ["up", "good"];
}
function measure(now, seconds) {
  let into = 0, out = 0;
  for (const upstream of now.upstreams) for (const backend of upstream.backends) {
    const name = `${upstream.name}/${backend.name}`;
    const messages = [perSecond(`${name} in`, backend.messages_in, seconds), perSecond(`${name} out`, backend.messages_out, seconds)];
    into += messages[0]; out += messages[1];
    remember(`${name} tunnels`, backend.tunnels);
    remember(`${name} rate`, messages[0] + messages[1]);
    remember(`${name} health`, standing(backend)[1]);
    backend.rate = messages;
  }
  remember("tunnels", now.tunnels); remember("in", into); remember("out", out); remember("connections", now.connections);
  tile("tunnels", "live tunnels", count(now.tunnels));
  tile("in", "messages/s from clients", rate(into));
  tile("out", "messages/s from backends", rate(out));
  tile("connections", "connections", count(now.connections));
}
const rows = new Map();
function backendRow(upstream, backend) {
  const row = {
    chip: make("span", { kind: "chip" }), by: make("span", { kind: "soft" }), tunnels: make("span"), rate: make("span"),
    stalled: make("span"), trends: [sparkline(), sparkline()], states: strip(),
    drain: make("button", { click: () => setState(upstream, row.now, row.now.state === "draining" ? "config" : "draining") }),
    close: make("button", { text: "Close tunnels", "aria-label": `Close tunnels of ${backend.name}`, click: () => closeAll(upstream, row.now) }),
  };
  row.node = make("tr", {},
    make("td", { kind: "name" }, make("span", { text: backend.name })),
    make("td", { kind: "mono wide", label: "address" }, make("span", { text: backend.address })),
    make("td", { kind: "wide", label: "health" }, make("span", {}, row.chip, " ", row.by)),
    make("td", { kind: "trend health", label: "the last states" }, row.states),
    make("td", { kind: "number", label: "tunnels" }, row.tunnels),
    make("td", { kind: "trend", label: "trend" }, row.trends[0]),
    make("td", { kind: "number", label: "messages/s" }, row.rate),
    make("td", { kind: "trend", label: "trend" }, row.trends[1]),
    make("td", { kind: "number", label: "stalled" }, row.stalled),
    role === "operator" ? make("td", { kind: "acts" }, row.drain, " ", row.close) : null);
  return row;
}
function upstreamCard(upstream) {
  const heads = ["backend", "address", "health", "", "tunnels", "", "messages/s", "", "stalled"].map(text =>
    make("th", { text, kind: ["tunnels", "messages/s", "stalled"].includes(text) ? "number" : "" }));
  for (const [at, label] of [[3, "health, the last states"], [5, "tunnels, trend"], [7, "messages/s, trend"]])
    heads[at].setAttribute("aria-label", label);
  if (role === "operator") heads.push(make("th", { "aria-label": "actions" }));
  const card = { note: make("span", { kind: "soft" }), panic: make("span", { kind: "chip bad", text: "panic: every backend is used" }), body: make("tbody") };
  card.node = make("div", { kind: "card" },
    make("div", { kind: "head" }, make("h3", { text: upstream.name }), card.note, card.panic),
    make("div", { kind: "scroll" }, make("table", { kind: "stack" }, make("thead", {}, make("tr", {}, ...heads)), card.body)));
  return card;
}
const cards = new Map();
function showUpstreams(now) {
  let left = MOST_BACKENDS;
  const seen = new Set();
  for (const upstream of now.upstreams) {
    let card = cards.get(upstream.name);
    if (!card) { card = upstreamCard(upstream); cards.set(upstream.name, card); $("upstreams").append(card.node); }
    seen.add(upstream.name);
    put(card.note, plural(upstream.backends.length, "backend"));
    card.panic.hidden = !upstream.panic;
    for (const backend of upstream.backends.slice(0, Math.max(left, 0))) {
      const name = `${upstream.name}/${backend.name}`;
      let row = rows.get(name);
      if (!row) { row = backendRow(upstream.name, backend); rows.set(name, row); card.body.append(row.node); }
      seen.add(name);
      showBackend(row, name, backend);
    }
    left -= upstream.backends.length;
  }
  for (const [known, all] of [[rows, rows], [cards, cards]]) for (const [name, one] of all)
    if (!seen.has(name)) { one.node.remove(); known.delete(name); }
  put($("upstreams-note"), left < 0 ? `the first ${MOST_BACKENDS} backends` : "");
}
function showBackend(row, name, backend) {
  row.now = backend;
  const [word, kind] = standing(backend);
  put(row.chip, word);
  row.chip.className = `chip ${kind}`;
  put(row.by, backend.state_by === "operator" ? "by an operator" : backend.last_probe?.error || "");
  put(row.tunnels, count(backend.tunnels) + (backend.handshakes ? ` +${backend.handshakes}` : ""));
  put(row.rate, rate(backend.rate[0] + backend.rate[1]));
  put(row.stalled, count(backend.stalled));
  draw(row.trends[0], `${name} tunnels`); draw(row.trends[1], `${name} rate`); drawStates(row.states, `${name} health`);
  const draining = backend.state === "draining";
  put(row.drain, draining ? "Take back" : "Drain");
  row.drain.setAttribute("aria-label", `${draining ? "Take back" : "Drain"} ${backend.name}`);
  row.close.disabled = backend.tunnels === 0;
}

// ---- last closes, reloads ----
let endedSeen = "", reloadsSeen = "", sought = "";
// What is searched for is looked for among the last hundred; else the newest come by themselves.
async function findEnded(query, fields) {
  sought = query.trim();
  if (!sought) { if (last) showEnded(last.ended, "No tunnel has ended yet."); return; }
  const found = (await ask(`/tunnels/ended?${fields}`)).ended;
  if (query === $("query").value) showEnded(found, "None of the last hundred closes fits.");
}
function showEnded(ended, none) {
  const seen = `${sought} ${ended.length} ${ended[0]?.id}`;
  if (seen === endedSeen) return;
  endedSeen = seen;
  put($("ended-note"), sought ? `${ended.length} found` : "");
  put($("ended-empty"), none);
  const planned = ["drain", "removed", "operator", "rebalance", "max_lifetime", "expired"];
  $("ended").replaceChildren(...ended.map(one => make("tr", {},
    make("td", { kind: "when", label: "when", text: clock(one.at_unix) }),
    make("td", { label: "cause" }, make("span", { text: one.cause,
      kind: `chip ${/^close 100[01]$/.test(one.cause) ? "good" : planned.includes(one.cause) ? "" : "warn"}` })),
    make("td", { label: "ended by", text: one.ended_by }),
    make("td", { kind: "mono wide", label: "client" }, make("span", { text: one.client })),
    pathCell(one),
    make("td", { kind: "wide", label: "route" }, make("span", { text: one.route })),
    make("td", { kind: "wide", label: "backend" }, make("span", { text: one.backend })),
    make("td", { kind: "number", label: "lasted" }, make("span", { text: span(one.duration_seconds) })))));
  $("ended-empty").hidden = ended.length > 0;
}
function pathCell(one) {
  const path = (one.host || "") + (one.path || "");
  return make("td", { kind: "wide", label: "path" }, make("div", { kind: "cut", text: path, title: path }));
}
function showReloads(reloads) {
  const seen = JSON.stringify(reloads);
  if (seen === reloadsSeen) return;
  reloadsSeen = seen;
  $("reloads").replaceChildren(...reloads.map(one => make("li", {},
    make("span", { kind: `chip ${one.ok ? "good" : "bad"}`, text: one.ok ? "in force" : "rejected" }), " ",
    make("span", { kind: "soft", text: clock(one.at_unix) + (one.generation ? `, generation ${one.generation}` : "") }),
    make("div", { kind: one.ok ? "what" : "what mono", text: (one.message || "no change").replaceAll("; ", "\n") }))));
}

// ---- tunnels ----
// `key:value` words are exact; what is left is searched for as it stands.
const EXACT = ["client", "key", "listener", "route", "upstream", "backend", "state"];
function wanted(query) {
  const fields = new URLSearchParams(), rest = [];
  for (const word of query.trim().split(/\s+/)) {
    const at = word.indexOf(":"), key = word.slice(0, at);
    if (at > 0 && EXACT.includes(key) && word.length > at + 1) fields.set(key, word.slice(at + 1));
    else if (word) rest.push(word);
  }
  if (rest.length) fields.set("search", rest.join(" "));
  return fields;
}
let listing = false, again = false;
async function list() {
  if (listing) { again = true; return; }
  listing = true;
  try {
    const query = $("query").value;
    if (query !== shownQuery) { pages = [0]; shownQuery = query; }
    await page(wanted(query), pages[pages.length - 1]);
    await findEnded(query, wanted(query));
  } catch (error) { put($("tunnels-note"), error.message); }
  listing = false;
  if (again) { again = false; list(); }
}
async function page(fields, after) {
  let found = [], answer;
  // Where few are meant among many, a page may be empty though more follow.
  for (let asked = 0; asked < 20 && found.length < PAGE; asked++) {
    fields.set("after", after); fields.set("limit", PAGE - found.length);
    answer = await ask(`/tunnels?${fields}`);
    found = found.concat(answer.tunnels);
    if (answer.next === null) break;
    after = answer.next;
  }
  next = answer.next;
  showTunnels(found, answer.matching);
}
// Rows stay as long as their tunnels do, so that nobody presses what has just moved away.
const tunnelRows = new Map();
function showTunnels(found, matching) {
  const ids = new Set(found.map(one => one.id));
  for (const [id, row] of tunnelRows) if (!ids.has(id)) { row.node.remove(); tunnelRows.delete(id); }
  found.forEach((one, at) => {
    let row = tunnelRows.get(one.id);
    if (!row) { row = tunnelRow(one); tunnelRows.set(one.id, row); }
    showTunnel(row, one);
    const before = $("tunnels").children[at];
    if (before !== row.node) $("tunnels").insertBefore(row.node, before || null);
  });
  $("tunnels-empty").hidden = found.length > 0;
  $("tunnels-foot").hidden = next === null && pages.length === 1;
  $("more").hidden = next === null;
  $("first").hidden = pages.length === 1;
  put($("tunnels-note"), matching === null ? `${found.length} shown` : `${found.length} of ${count(matching)}`);
}
function tunnelRow(one) {
  const row = { state: make("span"), age: make("span"), silent: make("span"), messages: make("span") };
  row.node = make("tr", {},
    make("td", { kind: "number name", label: "tunnel" }, make("span", { text: one.id })),
    make("td", { kind: "mono wide", label: "client" }, make("span", { text: one.client })),
    pathCell(one),
    make("td", { kind: "wide", label: "route" }, make("span", { text: one.route })),
    make("td", { kind: "wide", label: "backend" }, make("span", { text: one.backend })),
    make("td", { label: "state" }, row.state),
    make("td", { kind: "number", label: "age" }, row.age),
    make("td", { kind: "number", label: "silent" }, row.silent),
    make("td", { kind: "number", label: "in / out" }, row.messages),
    role === "operator" ? make("td", { kind: "acts" }, make("button", { text: "Close", "data-tunnel": one.id,
      "aria-label": `Close tunnel ${one.id}`, click: () => closeOne(one) })) : null);
  return row;
}
function showTunnel(row, one) {
  put(row.state, one.state);
  row.state.className = `chip ${one.state === "open" ? "good" : "warn"}`;
  put(row.age, span(one.age_seconds));
  put(row.silent, span(Math.min(one.idle_in_seconds, one.idle_out_seconds)));
  put(row.messages, `${count(one.messages_in)} / ${count(one.messages_out)}`);
}
$("search").addEventListener("submit", event => { event.preventDefault(); list(); });
let typing = 0;
$("query").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(list, 250); });
$("more").addEventListener("click", () => { pages.push(next); list(); });
$("first").addEventListener("click", () => { pages = [0]; list(); });
setInterval(() => { if (!document.hidden && !$("all").hidden && !$("ask").open) list(); }, REFRESH);

// ---- the socket ----
function show(now) {
  const seconds = last ? (now.at_unix_ms - last.at_unix_ms) / 1000 : 0;
  // Another process begins from nothing.
  if (last && last.pid !== now.pid) { most.clear(); histories.clear(); }
  last = now;
  for (const part of document.querySelectorAll(".told")) part.hidden = false;
  $("proxies").hidden = now.proxies_counted.length === 0;
  put($("proxies"), `Limits for each client count what looks like a proxy, on ${now.proxies_counted.join(", ")}: `
    + "name it in trusted_proxies and have it send X-Forwarded-For.");
  put($("process"), `${now.version}, pid ${now.pid}, generation ${now.generation}`);
  measure(now, seconds);
  showUpstreams(now);
  if (!sought) showEnded(now.ended, "No tunnel has ended yet.");
  showReloads(now.reloads);
}
function connected(on, text) { $("dot").classList.toggle("on", on); put($("connection-text"), text); }
const hex = text => Array.from(new TextEncoder().encode(text), byte => byte.toString(16).padStart(2, "0")).join("");
function watch() {
  const protocols = ["longhaul.watch"];
  if (token) protocols.push(`longhaul.token.${hex(token)}`);
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/watch`, protocols);
  const mine = socket;
  mine.onopen = () => { tries = 0; connected(true, "live"); };
  mine.onmessage = event => show(JSON.parse(event.data));
  mine.onclose = () => {
    if (mine !== socket) return;
    connected(false, "not connected");
    setTimeout(start, Math.min(15000, 500 * 2 ** tries++));
  };
}
function login(error) {
  socket = null;
  $("all").hidden = true; $("login").hidden = false;
  put($("login-error"), token ? error : "");
  $("token").focus();
}
$("login").addEventListener("submit", event => {
  event.preventDefault();
  token = $("token").value.trim();
  $("token").value = "";
  sessionStorage.setItem("longhaul-token", token);
  start();
});
$("forget").addEventListener("click", () => { sessionStorage.removeItem("longhaul-token"); token = ""; location.reload(); });

async function start() {
  let status;
  try { status = await ask("/status"); } catch (error) {
    if (!$("login").hidden) return;
    $("all").hidden = false;
    connected(false, `not connected: ${error.message}`);
    setTimeout(start, Math.min(15000, 500 * 2 ** tries++));
    return;
  }
  if (role !== status.asked_by.role) { role = status.asked_by.role; rows.clear(); cards.clear(); tunnelRows.clear();
    $("upstreams").replaceChildren(); $("tunnels").replaceChildren(); }
  $("login").hidden = true; $("all").hidden = false; $("forget").hidden = !token;
  put($("role"), role === "operator" ? "operator" : "read only");
  $("role").title = status.asked_by.who;
  for (const title of document.querySelectorAll(".acts-title")) title.hidden = role !== "operator";
  list();
  watch();
}
start();
