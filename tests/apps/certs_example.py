"""What certs-example/make.sh makes works as its README says: servers, clients, and the CA."""

import pathlib
import socket
import ssl
import subprocess
import tempfile

from longhaul import ROOT, Longhaul, site

# The certificate that each name gets; the first pair serves those that match none.
NAMES = {
    "localhost": "localhost",
    "chat.example.com": "example",
    "www.example.com": "example",
}


def shown(port, name, directory, pair=None):
    """The certificate that the server shows, and its answer to a request."""
    context = ssl.create_default_context(cafile=directory / "ca.pem")
    if pair:
        context.load_cert_chain(directory / f"{pair}.pem", directory / f"{pair}.key")
    with socket.create_connection(("127.0.0.1", port), 20) as tcp:
        with context.wrap_socket(tcp, server_hostname=name) as tls:
            certificate = tls.getpeercert(binary_form=True)
            tls.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            return certificate, tls.recv(100)


with tempfile.TemporaryDirectory() as temporary:
    made = pathlib.Path(temporary)
    subprocess.run([ROOT / "certs-example" / "make.sh", made], check=True, stdout=subprocess.DEVNULL)
    listed = ", ".join(
        f'{{ chain = "{made}/{stem}.pem", key = "{made}/{stem}.key" }}'
        for stem in ("localhost", "example")
    )
    listener = (
        f'certificates = [{listed}]\nclient_certificates = {{ ca = "{made}/ca.pem" }}\n'
    )
    # Nobody is behind it: 502 is longhaul's own answer, after the handshake.
    with Longhaul(site({"nobody": 9}, listener=listener)) as longhaul:
        for name, stem in NAMES.items():
            certificate, answer = shown(longhaul.port(), name, made, "client")
            expected = ssl.PEM_cert_to_DER_cert((made / f"{stem}.pem").read_text().split("\n\n")[0])
            assert certificate == expected, f"{name} got another certificate than {stem}.pem"
            assert answer.startswith(b"HTTP/1.1 502"), answer
        try:
            certificate, answer = shown(longhaul.port(), "localhost", made)
        except (ssl.SSLError, ConnectionResetError):
            answer = b""
        assert answer == b"", f"served without a client certificate: {answer}"
    print(f"{len(NAMES)} names with a client certificate, none without")
