"""What Prometheus' own tool says of the metrics page, the alerts and the dashboard."""

import json
import pathlib
import shutil
import socket
import subprocess
import tempfile

from longhaul import DEADLINE, ROOT, Longhaul, site

DOCS = ROOT / "docs"
# What Grafana puts in the place of its variables.
VARIABLES = {"$__rate_interval": "1m", "$instance": ".*", "$route": ".*"}


def promtool(*arguments, text=None):
    program = shutil.which("promtool")
    assert program, "promtool is missing (Debian package prometheus)"
    done = subprocess.run(
        [program, *map(str, arguments)],
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, f"promtool {' '.join(map(str, arguments))}:\n{done.stdout}"
    return done.stdout


def scrape(longhaul):
    with socket.socket(socket.AF_UNIX) as admin:
        admin.settimeout(DEADLINE)
        admin.connect(str(longhaul.path / "admin.sock"))
        admin.sendall(b"GET /metrics HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: admin.recv(65536), b""))
    head, _, page = answer.partition(b"\r\n\r\n")
    assert b"text/plain" in head, head
    return page.decode()


def expressions(value):
    """Every `expr` of the dashboard."""
    if isinstance(value, dict):
        if isinstance(value.get("expr"), str):
            yield value["expr"]
        for part in value.values():
            yield from expressions(part)
    elif isinstance(value, list):
        for part in value:
            yield from expressions(part)


def the_page():
    with Longhaul(site({"a": 1})) as longhaul:
        page = scrape(longhaul)
    assert page.count("# TYPE") > 40, page
    # It lints too: names, units, descriptions.
    output = promtool("check", "metrics", text=page)
    assert not output.strip(), output


def the_alerts():
    output = promtool("check", "rules", DOCS / "alerts.yml")
    written = (DOCS / "alerts.yml").read_text().count("- alert: ")
    assert written and f"{written} rules found" in output, output
    output = promtool("test", "rules", DOCS / "alerts.test.yml")
    assert "SUCCESS" in output, output


def the_dashboard():
    dashboard = json.loads((DOCS / "grafana.json").read_text())
    found = list(expressions(dashboard))
    assert len(found) > 30, len(found)
    rules = []
    for number, expression in enumerate(found):
        for variable, value in VARIABLES.items():
            expression = expression.replace(variable, value)
        assert "$" not in expression, expression
        rules.append({"record": f"dashboard:{number}", "expr": expression})
    # JSON is YAML.
    text = json.dumps({"groups": [{"name": "dashboard", "rules": rules}]})
    with tempfile.TemporaryDirectory() as directory:
        file = pathlib.Path(directory) / "rules.yml"
        file.write_text(text)
        output = promtool("check", "rules", file)
    assert f"{len(found)} rules found" in output, output


def main():
    the_page()
    the_alerts()
    the_dashboard()


if __name__ == "__main__":
    main()
