"""The dashboard in a headless Chromium: wide and as narrow as a phone, light and dark.

What it shows comes from live tunnels; what its buttons do is seen in longhaul's log.
axe-core looks for barriers. Screenshots are kept in $LONGHAUL_SHOTS, for people to look at.
"""

import base64
import contextlib
import os
import pathlib
import shutil
import tempfile
import threading

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
SHOTS = os.environ.get("LONGHAUL_SHOTS")


def config(directory, ports):
    listed = ", ".join(
        f'{{ name = "chat-{n}", address = "127.0.0.1:{port}" }}' for n, port in enumerate(ports, 1)
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
        f'read_token_file = "{directory}/reader.token"\n[log]\nformat = "json"\n'
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
    options.add_argument(f"--user-data-dir={directory}/chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options, Service(shutil.which("chromedriver")))


class Page:
    def __init__(self, browser, address):
        self.browser, self.address = browser, address

    def looks(self, size, scheme):
        width, height = SIZES[size]
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

    def shot(self, name):
        if SHOTS:
            pathlib.Path(SHOTS).mkdir(parents=True, exist_ok=True)
            self.script("scrollTo(0, 0)")
            whole = self.browser.execute_cdp_cmd(
                "Page.captureScreenshot", {"captureBeyondViewport": True}
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
        shows_what_is(page, count)
        finds_tunnels(page, count)
        asks_first(page, longhaul, count)
        drains(page, longhaul)
        shows_reloads(page, longhaul)
        every_look(page)
        reads_only(page, longhaul)
        is_quiet(page)
    finally:
        talk.end()


def every_look(page):
    for size in SIZES:
        for scheme in ("light", "dark"):
            page.looks(size, scheme)
            where = f"{size}-{scheme}"
            page.fits(where)
            page.has_no_barrier(where)
            page.shot(where)
            page.one("#tunnels button").click()
            page.until(lambda: page.one("#ask").is_displayed(), "the question")
            page.has_no_barrier(f"{where}, asking")
            page.shot(f"{where}-asking")
            page.one("#ask-no").click()


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
