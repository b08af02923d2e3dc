"""The demo's page in two browsers (jsdom): backend, chat, and the edits that it shows."""

import pathlib
import re
import signal
import subprocess
import tempfile

from longhaul import APPS, DEADLINE, binary

with tempfile.TemporaryDirectory(prefix="longhaul-demo-") as temporary:
    directory = pathlib.Path(temporary) / "demo"
    demo = subprocess.Popen(
        [binary(), "demo", "--port", "0", "--tls-port", "0", "--dir", directory],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        greeting = ""
        while "Ctrl-C" not in greeting:
            line = demo.stdout.readline()
            assert line, f"the demo ended: {greeting}"
            greeting += line
        url = re.search(r"http://[0-9.:]+", greeting).group()
        browsers = subprocess.run(
            ["node", APPS / "demo_page.mjs", url], stdout=subprocess.PIPE, text=True, timeout=120
        )
        assert browsers.returncode == 0, browsers.stdout
        print(browsers.stdout.strip())
        demo.send_signal(signal.SIGINT)
        assert demo.wait(DEADLINE) == 0
    finally:
        demo.kill()
        demo.wait()
