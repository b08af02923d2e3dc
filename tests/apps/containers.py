"""The Dockerfile and the Kubernetes manifest: linted, held against each other, and
the manifest's config against the real `longhaul check`. No container is run."""

import copy
import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib

import kubernetes_validate
import yaml

from longhaul import DEADLINE, ROOT, binary

DOCKERFILE = ROOT / "Dockerfile"
MANIFEST = ROOT / "packaging/kubernetes/longhaul.yaml"
TLS = "/etc/longhaul-tls"


def hadolint(text):
    """What it says of a Dockerfile; empty if nothing."""
    done = subprocess.run(
        [pathlib.Path(sys.executable).parent / "hadolint", "--no-color", "-"],
        input=text, capture_output=True, text=True, timeout=DEADLINE,
    )
    assert (done.returncode == 0) == (not done.stdout), done
    return done.stdout + done.stderr


def the_dockerfile():
    text = DOCKERFILE.read_text()
    assert hadolint(text) == "", hadolint(text)
    # It is looked at at all.
    assert "DL3002" in hadolint(text.replace("USER 65532:65532", "USER root"))
    # Its steps are those of the README, and its context has what they need.
    readme = (ROOT / "README.md").read_text()
    build, program = "cargo build --release", "target/release/longhaul"
    assert build in readme and program in readme
    assert build.replace(" --release", " --locked --release") in text and program in text
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for needed in ("Cargo.toml", "Cargo.lock", "src", "benches"):
        assert f"!{needed}" in ignored and (ROOT / needed).exists(), needed
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]
    assert f"longhaul:{manifest['version']} ." in text
    compiler = re.search(r"^FROM rust:(\d+)\.(\d+)-", text, re.M)
    oldest = tuple(map(int, manifest["rust-version"].split(".")))
    assert tuple(map(int, compiler.groups())) >= oldest


def kinds():
    found = {}
    for part in yaml.safe_load_all(MANIFEST.read_text()):
        found.setdefault(part["kind"], []).append(part)
    return found


def the_manifest(found):
    latest = kubernetes_validate.latest_version()
    for part in (part for parts in found.values() for part in parts):
        for version in ("1.30", latest):
            kubernetes_validate.validate(part, version, strict=True)
    # A slip would be found.
    wrong = copy.deepcopy(found["Deployment"][0])
    wrong["spec"]["template"]["spec"]["terminationGracePeriod"] = 1
    try:
        kubernetes_validate.validate(wrong, latest, strict=True)
    except kubernetes_validate.ValidationError:
        return
    raise AssertionError("an unknown key is not found")


def the_parts_fit(found):
    deployment, (budget,) = found["Deployment"][0], found["PodDisruptionBudget"]
    pod = deployment["spec"]["template"]
    labels = pod["metadata"]["labels"]
    backends, public = found["Service"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert budget["spec"]["selector"]["matchLabels"] == labels
    assert public["spec"]["selector"] == labels
    (container,) = pod["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {port["targetPort"] for port in public["spec"]["ports"]} == set(ports)
    config = tomllib.loads(found["ConfigMap"][0]["data"]["longhaul.toml"])
    heard = {int(one["address"].rsplit(":", 1)[1]) for one in config["listeners"].values()}
    assert heard == set(ports.values())
    text = DOCKERFILE.read_text()
    assert {str(port) for port in heard} == set(re.search(r"EXPOSE (.*)", text)[1].split())
    # Longer than all that happens in it.
    grace = pod["spec"]["terminationGracePeriodSeconds"]
    before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert grace > before + int(config["drain"]["deadline"].removesuffix("s"))
    assert container["startupProbe"]["exec"]["command"][-1] == config["admin"]["socket"]
    # The service whose pods are asked for.
    name = config["upstreams"]["chat"]["discovery"]["dns"]
    port = backends["spec"]["ports"][0]["name"]
    assert name == f"_{port}._tcp.{backends['metadata']['name']}.default.svc.cluster.local."
    assert backends["spec"]["clusterIP"] == "None"
    user = pod["spec"]["securityContext"]["runAsUser"]
    assert f"USER {user}:{user}" in text


def the_config_is_good(found):
    (config,) = found["ConfigMap"]
    with tempfile.TemporaryDirectory(prefix="longhaul-app-") as directory:
        directory = pathlib.Path(directory)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "2", "-subj", "/CN=localhost",
             "-keyout", directory / "tls.key", "-out", directory / "tls.crt"],
            check=True, capture_output=True,
        )
        text = config["data"]["longhaul.toml"]
        assert TLS in text and "/run/longhaul/" in text
        text = text.replace(TLS, str(directory)).replace("/run/longhaul/", f"{directory}/")
        # Whatever this machine listens on.
        text = re.sub(r'"\[::\]:\d+"', '"127.0.0.1:0"', text)
        # Not asked for beyond this machine.
        text = text.replace('min_ttl = "5s"', 'min_ttl = "5s", servers = ["127.0.0.1:9"]')
        file = directory / "longhaul.toml"
        file.write_text(text)
        done = subprocess.run(
            [binary(), "check", file], capture_output=True, text=True, timeout=DEADLINE,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def main():
    the_dockerfile()
    found = kinds()
    the_manifest(found)
    the_parts_fit(found)
    the_config_is_good(found)


if __name__ == "__main__":
    main()
