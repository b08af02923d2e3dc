// The demo's page, run by its own script in two windows with cookies of their own.
//
//     node demo_page.mjs http://127.0.0.1:PORT
//
// jsdom lays nothing out and draws nothing; what the page knows and says is tested.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";

import { JSDOM, VirtualConsole } from "jsdom";

const DEADLINE = 20_000;
const url = process.argv[2];

/** Opens the page and runs its script, as a browser would. */
async function open() {
  const errors = [];
  const virtualConsole = new VirtualConsole();
  virtualConsole.on("jsdomError", (error) => errors.push(String(error.detail ?? error)));
  const dom = await JSDOM.fromURL(url, {
    resources: "usable",
    runScripts: "dangerously",
    virtualConsole,
    beforeParse(window) {
      // Nothing changes its size here.
      window.ResizeObserver = class { observe() {} };
    },
  });
  const { window } = dom;
  const page = {
    window,
    errors,
    body: window.document.body,
    $: (id) => window.document.getElementById(id),
    text: (id) => window.document.getElementById(id).textContent,
  };
  await until(() => page.body.dataset.state === "open", "an open tunnel");
  return page;
}

async function until(condition, what) {
  const end = Date.now() + DEADLINE;
  while (!condition()) {
    assert.ok(Date.now() < end, `not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function say(page, text) {
  page.$("text").value = text;
  const submit = new page.window.Event("submit", { cancelable: true, bubbles: true });
  page.$("say").dispatchEvent(submit);
}

const shell = (command) => execFileSync("sh", ["-c", command]);

/** Chooses a tab by its label; gives the commands that the page then shows. */
function choose(page, label) {
  const tab = [...page.$("tabs").children].find((one) => one.textContent === label);
  assert.ok(tab, `no tab ${label}`);
  tab.click();
  return [page.text("command"), page.text("undo")];
}

const one = await open();
const mine = one.body.dataset.mine;
assert.ok(["red", "green", "blue"].includes(mine), mine);
assert.equal(one.text("headline"), `You stick to ${mine}`);
assert.equal(one.body.dataset.backend, mine, "page and tunnel are at one backend");
await until(() => one.$("backends").querySelector(`li.mine.${mine}`), "the map");
await until(() => one.text("rtt").endsWith(" ms"), "a round trip");

// Two windows chat, whichever backends they stick to.
const two = await open();
const name = two.$("name");
name.value = "Bea";
name.dispatchEvent(new two.window.Event("change"));
await until(() => one.text("people").includes("Bea"), "the other's name");
say(two, "hello from the other window");
await until(() => one.text("lines").includes("hello from the other window"), "the other's line");
say(one, "and back");
await until(() => two.text("lines").includes("and back"), "the answer");

// Its own backend goes out of the config: the tunnel stays, and the page says so.
const generation = () => Number(one.text("generation"));
await until(() => generation() > 0, "a generation");
let before = generation();
const [remove, restore] = choose(one, `Remove ${mine}`);
shell(remove);
await until(() => generation() > before, "the edit");
assert.match(one.text("events"), /your tunnel is still the same one/);
await until(() => one.$("backends").querySelector(`li.gone.${mine}`), "the removed backend");
say(one, "still here");
await until(() => two.text("lines").includes("still here"), "a line after the edit");
before = generation();
shell(restore);
await until(() => generation() > before, "the edit taken back");

// A mistake changes nothing, and the page shows what is wrong.
before = generation();
const [mistake, mend] = choose(one, "Make a mistake");
shell(mistake);
await until(() => /Rejected/.test(one.text("events")), "the rejection");
assert.match(one.$("events").querySelector("pre").textContent, /did you mean/);
assert.equal(generation(), before);
shell(mend);
await until(() => generation() > before, "the mended file");

for (const page of [one, two]) {
  assert.equal(page.body.dataset.state, "open");
  assert.equal(page.text("reconnects"), "0");
  assert.deepEqual(page.errors, []);
}
console.log(`two windows, at ${mine} and ${two.body.dataset.mine}; ${generation()} generations, no reconnect`);
process.exit(0);
