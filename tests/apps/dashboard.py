"""The dashboard in a headless Chromium: wide and as narrow as a phone, light and dark.

What it shows comes from live tunnels; what its buttons do is seen in longhaul's log.
axe-core looks for barriers. Screenshots are kept in $LONGHAUL_SHOTS, for people to look at; two of
them, dashboard.png and dashboard-phone.png, are those of docs/:

    LONGHAUL_SHOTS=/tmp/shots tests/.venv/bin/python tests/apps/dashboard.py
    pngquant --output docs/dashboard.png --force /tmp/shots/dashboard.png    # and the other
"""

import base64
import contextlib
import os
import pathlib
import shutil
import tempfile
import threading
import urllib.error
import urllib.request

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import serve

from longhaul import APPS, DEADLINE, Longhaul

OPERATOR, READER = "an-operators-own-token/+=", "a-token-that-only-reads"
AXE = APPS / "node_modules" / "axe-core" / "axe.min.js"
SIZES = {"wide": (1280, 1000), "phone": (375, 812)}
IN_DOCUMENTS = {"document": (1240, 800)}
SHOTS = os.environ.get("LONGHAUL_SHOTS")


def config(directory, ports):
    # The last has no name but its address, which is as long as a name may well be.
    named = lambda n: f'name = "chat-{n}", ' if n < len(ports) else ""
    listed = ", ".join(
        f'{{ {named(n)}address = "127.0.0.1:{port}" }}' for n, port in enumerate(ports, 1)
    )
    for name, token in (("operator", f"alice: {OPERATOR}"), ("reader", READER)):
        path = directory / f"{name}.token"
        path.write_text(token + "\n")
        path.chmod(0o600)
    return f"""
[listeners.main]
address = "127.0.0.1:0"
[[routes]]
name = "chat"
path = "/chat/*"
upstream = "chat"
[[routes]]
name = "limited"
path = "/limited"
upstream = "quotes"
request_rate_per_client = "1000/s"
[[routes]]
name = "quotes"
upstream = "quotes"
[upstreams.chat]
balance = "round_robin"
backends = [{listed}]
drain = {{ window = "0s" }}
[upstreams.quotes]
backends = [{{ name = "quotes-1", address = "127.0.0.1:{ports[0]}" }},
  {{ name = "quotes-2", address = "127.0.0.1:9" }}]
health = {{ type = "tcp", interval = "1s" }}
"""


def admin(directory):
    return (
        '\n[admin]\nsocket = "admin.sock"\nlisten = "127.0.0.1:0"\n'
        f'token_file = "{directory}/operator.token"\n'
        f'read_token_file = "{directory}/reader.token"\n[drain]\nwindow = "0s"\n[log]\nformat = "json"\n'
    )


@contextlib.contextmanager
def echo():
    """A WebSocket server in threads of its own."""

    def answer(socket):
        # longhaul closes some.
        with contextlib.suppress(ConnectionClosed):
            for message in socket:
                socket.send(message)

    with serve(answer, "127.0.0.1", 0, ping_interval=None) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.socket.getsockname()[1]
        server.shutdown()


class Talk:
    """Tunnels on which something is said all the time."""

    def __init__(self, port, count):
        path = lambda n: f"/chat/room-{n}" if n % 4 else f"/quotes?of={n}"
        opened = lambda n: connect(f"ws://127.0.0.1:{port}{path(n)}", ping_interval=None)
        self.stack = contextlib.ExitStack()
        self.sockets = [self.stack.enter_context(opened(n)) for n in range(count)]
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._talk, daemon=True)
        self.thread.start()

    def _talk(self):
        while not self.over.wait(0.05):
            for socket in self.sockets:
                # longhaul may have closed it.
                with contextlib.suppress(ConnectionClosed):
                    socket.send("hello")
                    socket.recv()

    def end(self):
        self.over.set()
        self.thread.join()
        self.stack.close()


def chromium(directory):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    # They would be drawn over the edge of a screenshot.
    options.add_argument("--hide-scrollbars")
    options.add_argument(f"--user-data-dir={directory}/chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options, Service(shutil.which("chromedriver")))


class Page:
    def __init__(self, browser, address):
        self.browser, self.address = browser, address

    def looks(self, size, scheme):
        width, height = (SIZES | IN_DOCUMENTS)[size]
        # Not the window, which has a least width.
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def open(self, token=None):
        self.browser.get(self.address)
        if token:
            self.until(lambda: self.one("#token").is_displayed(), "the form for a token")
            self.one("#token").send_keys(token, Keys.ENTER)
            self.until(lambda: self.one("#connection-text").text == "live", "the socket")

    def one(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def script(self, text, *arguments):
        return self.browser.execute_script(text, *arguments)

    def texts(self, selector):
        # At once, so that nothing is replaced meanwhile.
        all_of = "return [...document.querySelectorAll(arguments[0])].map(one => one.innerText)"
        return self.script(all_of, selector)

    def until(self, fact, what):
        WebDriverWait(self.browser, DEADLINE, 0.05).until(lambda _: fact(), what)

    def shot(self, name, whole=True):
        if SHOTS:
            pathlib.Path(SHOTS).mkdir(parents=True, exist_ok=True)
            self.script("scrollTo(0, 0)")
            whole = self.browser.execute_cdp_cmd(
                "Page.captureScreenshot", {"captureBeyondViewport": whole}
            )
            (pathlib.Path(SHOTS) / f"{name}.png").write_bytes(base64.b64decode(whole["data"]))

    def has_no_barrier(self, where):
        self.browser.execute_cdp_cmd("Runtime.evaluate", {"expression": AXE.read_text()})
        found = self.browser.execute_async_script(
            "const done = arguments[arguments.length - 1]; axe.run().then(done)"
        )
        bad = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
        told = [(one["id"], one["help"], [node["html"] for node in one["nodes"]][:3]) for one in bad]
        assert not told, f"{where}: {told}"
        assert len(found["passes"]) > 10, f"{where}: axe has looked at nothing"

    def fits(self, where):
        overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert self.script(overflow) <= 0, f"{where}: the page is wider than the screen"
        narrow = (
            "return [...document.querySelectorAll('td')].filter(it => it.scrollWidth > it.clientWidth)"
            ".map(it => `${it.dataset.label}: ${it.innerText}`)"
        )
        cells = self.script(narrow)
        assert not cells, f"{where}: cells with more in them than they have room for: {cells}"


# Of a page that is not told anything before it may be.
UNTOLD = """
window.WebSocket = class extends WebSocket {
  set onmessage(tell) { super.onmessage = event => { if (window.mayBeTold) tell(event); }; }
};
"""


def claims_nothing_before_it_knows(page):
    added = page.browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": UNTOLD})
    page.browser.refresh()
    page.until(lambda: page.one("#connection-text").text == "live", "the socket")
    page.until(lambda: page.all("#tunnels tr"), "the tunnels, which are asked for")
    for part in ("#upstreams-title", "#ended-title", "#ended-empty", "#reloads-title"):
        assert not page.one(part).is_displayed(), f"{part}, of which nothing is known"
    page.script("window.mayBeTold = true")
    page.until(lambda: page.one("#upstreams-title").is_displayed(), "the upstreams")
    assert page.one("#ended-empty").text == "No tunnel has ended yet."
    assert page.one("#ended-empty").is_displayed()
    page.browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    page.browser.refresh()
    page.until(lambda: page.one("#connection-text").text == "live", "the socket again")


def draws_each_backend(page):
    """Two lines, and a strip of what its health was."""
    drawn = (
        "return [...document.querySelectorAll('#upstreams tbody tr')].map(row => ["
        "row.querySelector('.name').innerText,"
        "...[...row.querySelectorAll('path.line')].map(it => it.getAttribute('d') || ''),"
        "...['good', 'bad'].map(it => row.querySelector(`.health path.${it}`).getAttribute('d') || '')])"
    )

    def all_are():
        rows = page.script(drawn)
        lines = all("L" in line for row in rows for line in row[1:3])
        # Of the one that is down the last piece is bad, of the others all are good.
        down = {row[0]: row[4].endswith("H100.00") for row in rows}
        good = {row[0]: row[3].endswith("H100.00") and not row[4] for row in rows}
        others = [good[name] for name in good if name != "quotes-2"]
        return len(rows) == 5 and lines and down["quotes-2"] and not good["quotes-2"] and all(others)

    page.until(all_are, "lines and health of each backend")


def shows_what_is(page, tunnels):
    page.until(lambda: page.texts("#tiles .value")[:1] == [str(tunnels)], "the live tunnels")
    page.until(lambda: float(page.texts("#tiles .value")[1]) > 10, "messages from clients")
    assert page.texts("#upstreams h3") == ["chat", "quotes"]
    page.until(lambda: "down" in page.texts("#upstreams .chip"), "the backend that is down")
    page.until(lambda: len(page.all("#tunnels tr")) == tunnels, "a row for each tunnel")
    line = "return document.querySelector('#tiles path.line').getAttribute('d')"
    page.until(lambda: "L" in (page.script(line) or ""), "a line of what was")


def search(page, text):
    query = page.one("#query")
    query.send_keys(Keys.CONTROL, "a")
    query.send_keys(Keys.BACKSPACE, text, Keys.ENTER)


def finds_tunnels(page, tunnels):
    search(page, "room-1")
    rooms = {n for n in range(tunnels) if n % 4 and f"room-{n}".startswith("room-1")}
    page.until(lambda: len(page.all("#tunnels tr")) == len(rooms), f"{len(rooms)} rooms")
    search(page, "route:quotes")
    page.until(lambda: len(page.all("#tunnels tr")) == (tunnels + 3) // 4, "the quotes")
    search(page, "nothing has this name")
    page.until(lambda: page.one("#tunnels-empty").is_displayed(), "to be told so")
    search(page, "state:wrong")
    page.until(lambda: "half_closed" in page.one("#tunnels-note").text, "what is allowed")
    search(page, "")
    page.until(lambda: len(page.all("#tunnels tr")) == tunnels, "all of them again")


def asks_first(page, longhaul, tunnels):
    """By the keyboard alone: no is no, yes is yes."""
    close = page.one("#tunnels button")
    number = close.get_attribute("data-tunnel")
    for yes in (False, True):
        page.script("document.querySelector(`[data-tunnel='${arguments[0]}']`).focus()", number)
        page.browser.switch_to.active_element.send_keys(Keys.ENTER)
        page.until(lambda: page.one("#ask").is_displayed(), "the question")
        assert page.one("#ask-title").text == f"Close tunnel {number}?"
        assert page.browser.switch_to.active_element == page.one("#ask-no"), "no is what Enter means"
        if yes:
            page.browser.switch_to.active_element.send_keys(Keys.TAB)
            page.browser.switch_to.active_element.send_keys(Keys.ENTER)
        else:
            page.browser.switch_to.active_element.send_keys(Keys.ESCAPE)
        page.until(lambda: not page.one("#ask").is_displayed(), "no question any more")
    closed = longhaul.wait("tunnel closed", lambda event: str(event["id"]) == number)
    assert closed["cause"] == "operator", closed
    actions = longhaul.events("operator action")
    assert len(actions) == 1, actions
    assert (actions[0]["who"], actions[0]["outcome"]) == ("token_file:alice", "done"), actions
    page.until(lambda: len(page.all("#tunnels tr")) == tunnels - 1, "one tunnel less")
    page.until(lambda: "operator" in page.texts("#ended td:nth-child(2)"), "the close and its cause")


def finds_closes(page, longhaul):
    """Of somebody who was cut, by what they say of themselves."""
    closed = longhaul.wait("tunnel closed")
    search(page, closed["path"])
    cells = lambda: [text.strip() for text in page.texts("#ended td")]
    page.until(lambda: page.one("#ended-note").text == "1 found", "the one that is meant")
    assert {"operator", "127.0.0.1", closed["route"], closed["backend"]} <= set(cells()), cells()
    assert any(closed["path"] in text for text in cells()), cells()
    search(page, "client:198.51.100.0/24")
    page.until(lambda: page.one("#ended-empty").is_displayed(), "none")
    assert page.one("#ended-empty").text == "None of the last hundred closes fits."
    search(page, f"client:127.0.0.0/8 backend:{closed['backend']}")
    page.until(lambda: page.one("#ended-note").text == "1 found", "it again")
    search(page, "")
    page.until(lambda: page.one("#ended-note").text == "", "all again")
    page.until(lambda: len(page.all("#ended tr")) == 1, "the only one")


def closes_those_of_a_backend(page, longhaul):
    button = "//div[@id='upstreams']//button[@aria-label='Close tunnels of chat-1']"
    closes = lambda: [it for it in longhaul.events("operator action") if it["action"] == "close"]
    before = len(closes())
    live = longhaul.status()["tunnels"]
    for answer in ("#ask-no", "#ask-yes"):
        page.browser.find_element(By.XPATH, button).click()
        page.until(lambda: page.one("#ask").is_displayed(), "the question")
        assert page.one("#ask-title").text == "Close the tunnels of chat-1?"
        page.one(answer).click()
        page.until(lambda: not page.one("#ask").is_displayed(), "no question any more")
        if answer == "#ask-no":
            assert longhaul.status()["tunnels"] == live and len(closes()) == before
    page.until(lambda: len(closes()) == before + 1, "the order")
    assert '"backend":"chat-1"' in closes()[-1]["what"], closes()
    left = lambda: {
        one["name"]: one["tunnels"]
        for upstream in longhaul.status()["upstreams"]
        for one in upstream["backends"]
    }
    page.until(lambda: left()["chat-1"] == 0, "its tunnels to be gone")
    assert all(tunnels > 0 for name, tunnels in left().items() if name not in ("chat-1", "quotes-2"))
    own = "//div[@id='upstreams']//tr[.//span[text()='chat-1']]//td[@data-label='tunnels']"
    page.until(lambda: page.browser.find_element(By.XPATH, own).text == "0", "the page to say so")


def drains(page, longhaul):
    row = "//div[@id='upstreams']//tr[.//span[text()='chat-2']]"
    page.browser.find_element(By.XPATH, f"{row}//button[text()='Drain']").click()
    page.until(lambda: page.one("#ask").is_displayed(), "the question")
    page.one("#ask-yes").click()
    longhaul.wait("operator action", lambda event: event["action"] == "backend state")
    page.until(lambda: "draining" in page.texts("#upstreams .chip"), "its state")
    page.until(lambda: "drain" in page.texts("#ended td:nth-child(2)"), "the drained tunnels")
    page.browser.find_element(By.XPATH, f"{row}//button[text()='Take back']").click()
    page.until(lambda: page.one("#ask").is_displayed(), "the question")
    page.one("#ask-yes").click()
    page.until(lambda: "draining" not in page.texts("#upstreams .chip"), "its state")


def shows_reloads(page, longhaul):
    text = longhaul.config.read_text()
    # A name that would be an element if it were not taken for text.
    name = "<img src=x onerror=alert(1)>"
    more = f'\n[[routes]]\nname = "{name}"\nhost = "other.test"\nupstream = "chat"\n'
    told = lambda *words: any(all(word in it for word in words) for it in page.texts("#reloads li"))
    longhaul.config.write_text(text + more)
    page.until(lambda: told(f'route "{name}" added'), "the edit")
    assert not page.all("img")
    longhaul.config.write_text(text + "\n[nonsense]\n")
    page.until(lambda: told("rejected", "nonsense"), "the mistake")
    longhaul.config.write_text(text)
    page.until(lambda: len(page.texts("#reloads li")) == 4, "the way back")


def tells_of_a_proxy(page, longhaul):
    assert not page.one("#proxies").is_displayed()
    behind = {"X-Forwarded-For": "192.0.2.1"}
    asked = urllib.request.Request(f"http://127.0.0.1:{longhaul.port()}/limited", headers=behind)
    with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(asked, timeout=DEADLINE)
    page.until(lambda: page.one("#proxies").is_displayed(), "to be told of it")
    text = page.one("#proxies").text
    assert "on limited" in text and "trusted_proxies" in text, text


def is_quiet(page):
    """Nothing was refused by the page's own policy, nothing has failed."""
    wrong = [one for one in page.browser.get_log("browser") if one["level"] == "SEVERE"]
    wrong = [one for one in wrong if "401" not in one["message"] and "400" not in one["message"]]
    assert not wrong, wrong


def check(browser, longhaul):
    address = longhaul.status()["admin_listen"]
    page = Page(browser, f"http://{address}/")
    count = 13
    talk = Talk(longhaul.port(), count)
    try:
        page.looks("wide", "light")
        page.open()
        page.until(lambda: page.one("#token").is_displayed(), "the form for a token")
        page.has_no_barrier("the form")
        page.shot("login")
        page.one("#token").send_keys("not-the-token-at-all", Keys.ENTER)
        page.until(lambda: "not good" in page.one("#login-error").text, "to be told so")
        page.one("#token").send_keys(OPERATOR, Keys.ENTER)
        page.until(lambda: page.one("#connection-text").text == "live", "the socket")
        assert page.one("#role").text == "operator"
        claims_nothing_before_it_knows(page)
        shows_what_is(page, count)
        draws_each_backend(page)
        finds_tunnels(page, count)
        asks_first(page, longhaul, count)
        finds_closes(page, longhaul)
        closes_those_of_a_backend(page, longhaul)
        for_the_documents(page)
        drains(page, longhaul)
        shows_reloads(page, longhaul)
        tells_of_a_proxy(page, longhaul)
        every_look(page)
        reads_only(page, longhaul)
        is_quiet(page)
    finally:
        talk.end()


def for_the_documents(page):
    """Before anything odd is on the page, and once there are lines to be seen."""
    if not SHOTS:
        return
    lines = lambda _: page.script("return histories.get('tunnels').length") > 60
    WebDriverWait(page.browser, 90).until(lines, "a minute of lines")
    page.looks("phone", "dark")
    page.shot("dashboard-phone", whole=False)
    page.looks("document", "light")
    search(page, "room-1")
    page.until(lambda: page.one("#ended-note").text == "1 found", "who was cut")
    page.shot("dashboard")
    search(page, "")


def every_look(page):
    painted = "return [document.body, document.querySelector('.card')].map(it => getComputedStyle(it))"
    painted += ".flatMap(it => [it.backgroundColor, it.color])"
    for size in SIZES:
        colours = {}
        for scheme in ("light", "dark"):
            page.looks(size, scheme)
            colours[scheme] = page.script(painted)
            where = f"{size}-{scheme}"
            page.fits(where)
            page.has_no_barrier(where)
            page.shot(where)
            page.one("#tunnels button").click()
            page.until(lambda: page.one("#ask").is_displayed(), "the question")
            page.has_no_barrier(f"{where}, asking")
            page.shot(f"{where}-asking")
            page.one("#ask-no").click()
        pairs = list(zip(colours["light"], colours["dark"]))
        assert len(pairs) == 4 and all(light != dark for light, dark in pairs), pairs


def reads_only(page, longhaul):
    page.looks("wide", "light")
    page.one("#forget").click()
    page.until(lambda: page.one("#login").is_displayed(), "the form again")
    page.one("#token").send_keys(READER, Keys.ENTER)
    page.until(lambda: page.one("#role").text == "read only", "the role")
    page.until(lambda: page.all("#tunnels tr") and page.all("#upstreams tbody tr"), "what there is")
    buttons = page.texts("#upstreams button") + page.texts("#tunnels button")
    assert not buttons, buttons
    page.has_no_barrier("reading")
    # Its own doing, past the page.
    status = page.browser.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "const headers = { Authorization: `Bearer ${sessionStorage.getItem('longhaul-token')}` };"
        "fetch('/tunnels/close', { method: 'POST', headers, body: '{\"all\":true}' })"
        ".then(answer => done(answer.status))"
    )
    assert status == 403, status
    # Another token in the file: who watches with the old one is shown the form.
    token = pathlib.Path(page.token_file)
    token.write_text("quite-another-token\n")
    page.browser.refresh()
    page.until(lambda: page.one("#login").is_displayed(), "the form once more")
    page.browser.get_log("browser")


def main():
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        directory = pathlib.Path(temporary)
        ports = [stack.enter_context(echo()) for _ in range(3)]
        browser = chromium(directory)
        stack.callback(browser.quit)
        longhaul = stack.enter_context(Longhaul(config(directory, ports), own=admin(directory)))
        Page.token_file = directory / "reader.token"
        check(browser, longhaul)
        version = browser.capabilities["browserVersion"]
        print(f"chromium {version}: the dashboard at {len(SIZES)} sizes, light and dark, no barrier found")


main()
