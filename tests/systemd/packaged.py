"""What becomes of a machine by the Debian package: one life of it, from the
install to the purge, by the real dpkg and under the real systemd.

Run by `run` in namespaces of its own (`world.py`). Each function goes on where
the one before has stopped.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import world
from cases import LOG_DROP_IN, Case, play, route
from wire import Tunnel, get
from world import CONFIG, SCRATCH, until

# As the installed config says.
PORT = 8080
NEXT = SCRATCH / "next.deb"
DRAIN = '\n[drain]\nwindow = "100ms"\ndeadline = "5s"\nclose_timeout = "1s"\n'


class Chapter(Case):
    def prepare(self):
        # The package brings none; it is for what the tests print of failures.
        self.drop_in("log", LOG_DROP_IN)
        self.manager.ctl("daemon-reload")


def dpkg(case, *arguments):
    done = subprocess.run(
        # Without its syncs, which nothing of this survives anyway.
        ["dpkg", "--force-unsafe-io", "--force-confold", *map(str, arguments)],
        env=case.manager.environment | {"DEBIAN_FRONTEND": "noninteractive"},
        capture_output=True, text=True, timeout=world.CALL_LIMIT,
    )
    assert done.returncode == 0, f"dpkg {arguments}: {done.stdout}{done.stderr}"
    assert not re.search(r"warning: .*(missing|overriding)", done.stderr), done.stderr
    return done.stdout + done.stderr


def later_version():
    """The same package with a higher version, as an upgrade."""
    tree = SCRATCH / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", SCRATCH / "longhaul.deb", tree], check=True)
    control = tree / "DEBIAN/control"
    text, found = re.subn(r"(?m)^Version: .*$", "Version: 99.0-1", control.read_text())
    assert found == 1
    control.write_text(text)
    subprocess.run(["dpkg-deb", "-Znone", "--build", tree, NEXT], check=True,
                   stdout=subprocess.DEVNULL)
    shutil.rmtree(tree)


def an_install_starts_and_enables_it(case):
    dpkg(case, "--install", SCRATCH / "longhaul.deb")
    manager = case.manager
    assert manager.show("ActiveState") == "active"
    assert manager.show("UnitFileState") == "enabled"
    assert os.readlink(f"/proc/{manager.main_pid()}/exe") == "/usr/bin/longhaul"
    # Nobody is behind its route yet: its own answer.
    assert get(PORT) == 502
    status = subprocess.run(["longhaul", "status", "--admin", "/run/longhaul/admin.sock"],
                            capture_output=True, text=True)
    assert status.returncode == 0, status.stderr
    for socket_unit in ("longhaul-public.socket", "longhaul-plain.socket"):
        assert manager.show("UnitFileState", socket_unit) == "disabled", socket_unit
        assert manager.show("ActiveState", socket_unit) == "inactive", socket_unit


def everything_is_in_its_place(case):
    listed = set(subprocess.run(["dpkg", "--listfiles", "longhaul"], capture_output=True,
                                text=True, check=True).stdout.split())
    for path in (
        "/etc/longhaul/longhaul.toml",
        "/usr/bin/longhaul",
        "/usr/lib/systemd/system/longhaul.service",
        "/usr/share/bash-completion/completions/longhaul",
        "/usr/share/doc/longhaul/copyright",
        "/usr/share/doc/longhaul/docs/configuration.md",
        "/usr/share/doc/longhaul/examples/longhaul.toml",
        "/usr/share/fish/vendor_completions.d/longhaul.fish",
        "/usr/share/man/man1/longhaul.1.gz",
        "/usr/share/zsh/vendor-completions/_longhaul",
    ):
        assert path in listed, path
        assert Path(path).stat().st_size > 0 or "/doc/" in path, path
    unit = Path("/usr/lib/systemd/system/longhaul.service").read_text()
    assert "/usr/local" not in unit
    checked = subprocess.run(["longhaul", "check", "/etc/longhaul/longhaul.toml"],
                             capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def a_route_of_the_operators_takes_effect(case):
    with open(CONFIG / "longhaul.toml", "a", encoding="ascii") as config:
        config.write(DRAIN)
    (CONFIG / "routes.d/a.toml").write_text(route("/app/*", case.backend.port))
    until(lambda: get(PORT, "/app/") == 200, "the new route")
    Tunnel(PORT, "/app/ws").echo("through the package")


def an_upgrade_cuts_no_tunnel(case):
    later_version()
    manager = case.manager
    tunnel, pid = Tunnel(PORT, "/app/ws"), manager.main_pid()
    tunnel.echo("before")
    said = dpkg(case, "--install", NEXT)
    assert "systemctl restart longhaul" in said, said
    tunnel.echo("after")
    assert manager.main_pid() == pid
    assert manager.show("NeedDaemonReload") == "no"
    assert DRAIN in (CONFIG / "longhaul.toml").read_text(), "the operator's edit is kept"
    # The moment is the operator's, and then it is as polite as ever.
    closed = closes(tunnel, lambda: manager.ctl("restart", "longhaul.service"))
    assert closed == 1012, closed
    assert manager.main_pid() != pid
    assert get(PORT, "/app/") == 200
    # Nothing to say any more.
    again = dpkg(case, "--install", NEXT)
    assert "systemctl restart" in again, "the file is another one again"


def closes(tunnel, action):
    """The code of the Close frame that comes while `action` lasts."""
    codes = []
    reader = threading.Thread(target=lambda: codes.append(tunnel.closed_with()))
    reader.start()
    action()
    reader.join()
    return codes[0]


def what_is_disabled_stays_stopped(case):
    manager = case.manager
    manager.ctl("disable", "--now", "longhaul.service")
    said = dpkg(case, "--install", NEXT)
    assert "systemctl restart" not in said, said
    assert manager.show("ActiveState") == "inactive"
    assert manager.show("UnitFileState") == "disabled"
    manager.ctl("enable", "--now", "longhaul.service")
    assert get(PORT, "/app/") == 200


def a_removal_closes_politely_and_keeps_the_config(case):
    manager = case.manager
    # A socket cannot be started beside its service, only before.
    manager.ctl("stop", "longhaul.service")
    manager.ctl("start", "longhaul-plain.socket", "longhaul.service")
    tunnel = Tunnel(PORT, "/app/ws")
    tunnel.echo("until the end")
    closed = closes(tunnel, lambda: dpkg(case, "--remove", "longhaul"))
    assert closed == 1012, closed
    assert manager.show("ActiveState") == "inactive"
    assert manager.show("Result") == "success"
    assert manager.show("ActiveState", "longhaul-plain.socket") == "inactive"
    for port in (PORT, 80):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            raise AssertionError(f"something listens on port {port}")
        except ConnectionRefusedError:
            pass
    assert not Path("/usr/bin/longhaul").exists()
    assert DRAIN in (CONFIG / "longhaul.toml").read_text()


def it_comes_back_with_its_config(case):
    dpkg(case, "--install", NEXT)
    assert case.manager.show("ActiveState") == "active"
    assert get(PORT, "/app/") == 200


def a_purge_leaves_what_people_have_put_there(case):
    log = Path("/var/log/longhaul")
    assert log.exists(), "made by the service"
    dpkg(case, "--purge", "longhaul")
    assert not (CONFIG / "longhaul.toml").exists()
    assert not Path("/etc/needrestart/conf.d/longhaul.conf").exists()
    for directory in ("/var/log", "/var/lib"):
        for path in (f"{directory}/longhaul", f"{directory}/private/longhaul"):
            assert not os.path.lexists(path), path
    # A route of the operator's, as a key would.
    assert sorted(path.name for path in CONFIG.rglob("*")) == ["a.toml", "routes.d"]
    links = [path for path in Path("/etc/systemd/system").rglob("longhaul*") if path.is_symlink()]
    assert not links, links
    known = subprocess.run(["dpkg-query", "--show", "longhaul"], capture_output=True, text=True)
    assert known.returncode != 0, known.stdout


LIFE = [
    an_install_starts_and_enables_it,
    everything_is_in_its_place,
    a_route_of_the_operators_takes_effect,
    an_upgrade_cuts_no_tunnel,
    what_is_disabled_stays_stopped,
    a_removal_closes_politely_and_keeps_the_config,
    it_comes_back_with_its_config,
    a_purge_leaves_what_people_have_put_there,
]


if __name__ == "__main__":
    try:
        world.build_for_package(sys.argv[1])
        code = world.enter("system", lambda manager: play(manager, Chapter, LIFE))
    except world.NotAllowed as reason:
        print(f"not allowed: {reason}", flush=True)
        code = 0
    sys.exit(code)
