"""TLS as an outsider sees it, by openssl: what is offered and what is not, sessions, stapling.

What testssl.sh asks of a server, as far as it must hold here. Nobody is behind longhaul: a 502
is its own answer, after the handshake.
"""

import pathlib
import re
import socket
import struct
import subprocess
import tempfile

from longhaul import Longhaul, site

REQUEST = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
DEADLINE = 20
# What is spoken in TLS 1.2, by the certificate's kind: forward secrecy and AEAD, no more.
SUITES_1_2 = {
    f"ECDHE-{kind}-{cipher}"
    for kind in ("ECDSA", "RSA")
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
}
SUITES_1_3 = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
# openssl itself offers the old only so.
ANYTHING = "ALL:eNULL:aNULL:@SECLEVEL=0"


def openssl(*words, text="", check=True):
    done = subprocess.run(
        ["openssl", *map(str, words)],
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=DEADLINE,
    )
    assert not check or done.returncode == 0, done.stdout
    return done.stdout


class Shop:
    """A CA with what it has issued, in files."""

    def __init__(self, path, name):
        self.path, self.name = path, name
        self.ca, self.key = path / f"{name}.pem", path / f"{name}.key"
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", self.key, "-out", self.ca, "-subj", f"/CN={name}", "-days", 2,
        )  # fmt: skip

    def issue(self, stem, subject, name=None, new=("-newkey", "rsa:2048")):
        """STEM.pem and STEM.key: a certificate for this subject and this DNS name."""
        pem, key = self.path / f"{stem}.pem", self.path / f"{stem}.key"
        csr, ext = self.path / "csr.pem", self.path / "ext"
        openssl("req", *new, "-nodes", "-keyout", key, "-out", csr, "-subj", subject)
        ext.write_text(f"subjectAltName=DNS:{name}\n" if name else "basicConstraints=CA:FALSE\n")
        made = self.path / "made.pem"
        openssl(
            "x509", "-req", "-in", csr, "-CA", self.ca, "-CAkey", self.key,
            "-CAcreateserial", "-days", 1, "-extfile", ext, "-out", made,
        )  # fmt: skip
        pem.write_text(made.read_text())
        return pem, key

    def respond(self, pem, out, revoked=False, days=1):
        """An OCSP response of this CA about the certificate."""
        serial = openssl("x509", "-in", pem, "-noout", "-serial").strip().partition("=")[2]
        index = self.path / "index.txt"
        state = "R\t401231000000Z\t200101000000Z" if revoked else "V\t401231000000Z\t"
        index.write_text(f"{state}\t{serial}\tunknown\t/CN=x\n")
        made = self.path / "made.ocsp"
        openssl(
            "ocsp", "-index", index, "-CA", self.ca, "-issuer", self.ca, "-rsigner", self.ca,
            "-rkey", self.key, "-cert", pem, "-ndays", days, "-respout", made,
        )  # fmt: skip
        out.write_bytes(made.read_bytes())


class Server:
    """A listener of longhaul, asked by `openssl s_client`."""

    def __init__(self, longhaul, listener="main"):
        self.longhaul, self.address = longhaul, f"127.0.0.1:{longhaul.port(listener)}"

    def ask(self, *words, text=REQUEST, name="site.test"):
        """All that openssl says; the connection ends with the answer."""
        named = ("-servername", name) if name else ("-noservername",)
        return openssl(
            "s_client", "-connect", self.address, "-ign_eof", *named, *words,
            text=text, check=False,
        )  # fmt: skip

    def renegotiate(self):
        """What becomes of a second handshake in TLS 1.2; openssl ends when it is refused."""
        words = ("openssl", "s_client", "-connect", self.address, "-tls1_2")
        with subprocess.Popen(
            ["timeout", str(DEADLINE), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            process.stdin.write("R\n")
            process.stdin.flush()
            return process.stdout.read()

    def served(self, *words, **how):
        said = self.ask(*words, **how)
        return "HTTP/1.1 502" in said, said


def suite(said):
    found = re.search(r"^New, (?:TLSv1\.\d), Cipher is (\S+)$", said, re.M)
    return found[1] if found else None


def subject(said):
    found = re.search(r"^subject=(.*)$", said, re.M)
    return found[1] if found else None


def spoken(server, version, words):
    """Every suite that the server takes, found as testssl.sh does: without those found so far."""
    left, found = set(words), set()
    flag = "-ciphersuites" if version == "-tls1_3" else "-cipher"
    level = [] if version == "-tls1_3" else ["@SECLEVEL=0"]
    while left:
        said = server.ask(version, flag, ":".join([*sorted(left), *level]))
        chosen = suite(said)
        if chosen is None or chosen == "(NONE)":
            return found
        assert chosen in left, f"{chosen} was not offered"
        found.add(chosen)
        left.remove(chosen)
    return found


def old_versions(server):
    for version in ("-tls1", "-tls1_1"):
        good, said = server.served(version, "-cipher", ANYTHING)
        # rustls misses the signature algorithms, which such a hello need not name, first.
        assert not good and re.search("alert (protocol version|handshake failure)", said), said
    for version in ("-tls1_2", "-tls1_3"):
        good, said = server.served(version)
        assert good, said
    # openssl speaks no SSL 3.0 any more: a ClientHello by hand, with one suite of its time.
    body = struct.pack("!H", 0x0300) + bytes(32) + b"\0" + struct.pack("!HH", 2, 0x000A) + b"\1\0"
    hello = b"\1" + len(body).to_bytes(3, "big") + body
    host, port = server.address.split(":")
    with socket.create_connection((host, int(port)), DEADLINE) as tcp:
        tcp.sendall(b"\x16\3\0" + struct.pack("!H", len(hello)) + hello)
        answer = b"".join(iter(lambda: tcp.recv(1000), b""))
    # One fatal alert: protocol_version, or handshake_failure for what SSL 3.0 lacks.
    assert len(answer) == 7 and answer[0] == 0x15 and answer[5] == 2, answer
    assert answer[6] in (40, 70), answer


def suites(server):
    offered = openssl("ciphers", "-tls1_2", "-s", ANYTHING).strip().split(":")
    offered = [name for name in offered if not name.startswith("TLS_")]
    assert len(offered) > 50, "openssl offers too little to judge by"
    found = spoken(server, "-tls1_2", offered)
    assert found == SUITES_1_2, found ^ SUITES_1_2
    all_1_3 = SUITES_1_3 | {"TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"}
    found = spoken(server, "-tls1_3", all_1_3)
    assert found == SUITES_1_3, found ^ SUITES_1_3
    said = server.ask("-tls1_3")
    assert re.search(r"Server Temp Key: X25519|Negotiated TLS1.3 group: X25519MLKEM768", said), said


def no_relics(server):
    # "R" asks s_client for a renegotiation: the one handshake is all that there is.
    said = server.renegotiate()
    assert "RENEGOTIATING" in said and "no renegotiation" in said, said
    # What RFC 5746 has a server say that does none.
    assert "Secure Renegotiation IS supported" in said, said
    said = server.ask("-tls1_2", "-comp")
    assert "Compression: NONE" in said and "Expansion: NONE" in said, said
    said = server.ask("-tls1_3", "-msg")
    assert "Max Early Data: 0" in said, said


def alpn(server):
    for offered, chosen in (("h2,http/1.1", "h2"), ("http/1.1,h2", "h2"), ("http/1.1", "http/1.1")):
        # Of HTTP/2 no more than the handshake: the text is none of its.
        said = server.ask("-alpn", offered)
        assert f"ALPN protocol: {chosen}\n" in said, said
    assert "No ALPN negotiated" in server.ask()
    good, said = server.served("-alpn", "h3,foo")
    assert not good and "no application protocol" in said, said


def names(server):
    """An unknown name and none get the first certificate, and clients judge."""
    for name, shown in (
        ("site.test", "CN = site"),
        ("SITE.test", "CN = site"),
        ("other.test", "CN = other"),
        ("unknown.test", "CN = site"),
        (None, "CN = site"),
    ):
        good, said = server.served("-sigalgs", "ECDSA+SHA256:RSA-PSS+SHA256", name=name)
        assert good and subject(said) == shown, (name, said)


def sessions(shop, server, site_files):
    longhaul = server.longhaul
    kept = {version: shop.path / f"session{version}" for version in ("-tls1_2", "-tls1_3")}
    for version, file in kept.items():
        good, said = server.served(version, "-sess_out", file)
        assert good and "New, TLSv1" in said and "TLS session ticket:" in said, said
        # Twice the life of a key: in between it is kept for those that it has sealed.
        assert "TLS session ticket lifetime hint: 43200 (seconds)" in said, said
    before = longhaul.status()["generation"]
    shop.issue("site", "/CN=site", "site.test", new=("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"))
    longhaul.wait("config reloaded", lambda event: event["generation"] > before)
    renewed = f"certificate {site_files[0]} loaded"
    longhaul.wait("config reloaded", lambda event: renewed in event["changes"])
    for version, file in kept.items():
        good, said = server.served(version, "-sess_in", file)
        assert good and "Reused, TLSv1" in said, said


def stapling(shop, server, pem, ocsp):
    longhaul = server.longhaul

    def shown():
        said = server.ask("-status", "-sigalgs", "ECDSA+SHA256")
        if "OCSP response: no response sent" in said:
            return None
        assert "OCSP Response Status: successful" in said, said
        assert "Cert Status: good" in said, said
        return re.search(r"Serial Number: (\w+)", said)[1]

    def serial():
        return openssl("x509", "-in", pem, "-noout", "-serial").strip().partition("=")[2]

    def warned(word):
        lines = [line for line in longhaul.lines if '"WARN"' in line and "OCSP" in line]
        return any(word in line for line in lines)

    # The certificate has just been renewed, and its response has not.
    longhaul.until(lambda: warned("for another certificate"), "a warning")
    assert shown() is None
    shop.respond(pem, ocsp)
    longhaul.until(lambda: shown() == serial(), "the new response")
    # Its signature is for clients to verify: here it is right.
    said = openssl(
        "ocsp", "-respin", ocsp, "-issuer", shop.ca, "-cert", pem, "-CAfile", shop.ca, "-no_nonce"
    )
    assert "Response verify OK" in said and ": good" in said, said
    # One that is broken changes nothing, one that says no is not shown any more.
    ocsp.write_bytes(ocsp.read_bytes()[:-9])
    longhaul.until(lambda: warned("keeps its earlier"), "a warning")
    assert shown() == serial()
    ocsp.unlink()
    longhaul.until(lambda: warned("cannot be read"), "a warning")
    shop.respond(pem, ocsp, revoked=True)
    longhaul.until(lambda: warned("is revoked"), "a warning")
    assert longhaul.metric("longhaul_certificate_failures_total") >= 4
    # Without being asked there is none.
    assert "OCSP" not in server.ask()


def client_certificates(shop, longhaul):
    strangers = Shop(shop.path, "strangers")
    ann = shop.issue("ann", "/C=DE/O=Example, Inc./CN=ann")
    eve = strangers.issue("eve", "/CN=eve")
    with_pair = lambda pair: ("-cert", pair[0], "-key", pair[1])  # noqa: E731
    for listener, bare in (("required", False), ("optional", True)):
        server = Server(longhaul, listener)
        for version in ("-tls1_2", "-tls1_3"):
            good, said = server.served(version, *with_pair(ann))
            assert good and "Acceptable client certificate CA names\nCN = ca\n" in said, said
            good, said = server.served(version)
            assert good == bare, said
            good, said = server.served(version, *with_pair(eve))
            assert not good and "alert" in said, said
    event = longhaul.wait("request", lambda event: event.get("client_subject"))
    assert event["client_subject"] == "CN=ann,O=Example\\, Inc.,C=DE", event


with tempfile.TemporaryDirectory() as temporary:
    shop = Shop(pathlib.Path(temporary), "ca")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    site_files = shop.issue("site", "/CN=site", "site.test", new=curve)
    rsa_files = shop.issue("rsa", "/CN=rsa", "site.test")
    other_files = shop.issue("other", "/CN=other", "other.test", new=curve)
    ocsp = shop.path / "site.ocsp"
    shop.respond(site_files[0], ocsp)

    def pair(files, more=""):
        return f'{{ chain = "{files[0]}", key = "{files[1]}"{more} }}'

    first = pair(site_files, f', ocsp = "{ocsp}"')
    certificates = f"certificates = [{first}, {pair(rsa_files)}, {pair(other_files)}]\n"
    config = site({"nobody": 9}, listener=certificates)
    for name in ("required", "optional"):
        required = str(name == "required").lower()
        config += (
            f'[listeners.{name}]\naddress = "127.0.0.1:0"\n{certificates}'
            f'client_certificates = {{ ca = "{shop.ca}", required = {required} }}\n'
        )
    with Longhaul(config) as longhaul:
        server = Server(longhaul)
        old_versions(server)
        suites(server)
        no_relics(server)
        alpn(server)
        names(server)
        client_certificates(shop, longhaul)
        sessions(shop, server, site_files)
        stapling(shop, server, site_files[0], ocsp)
    version = openssl("version").split()[1]
    print(f"by openssl {version}: {len(SUITES_1_2)} suites of TLS 1.2, {len(SUITES_1_3)} of 1.3")
