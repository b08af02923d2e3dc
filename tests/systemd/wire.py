"""Just enough HTTP and WebSocket for the systemd tests, on plain sockets.

A client that reads answers and frames (RFC 6455 section 5), and a backend that
echoes messages and says hello to plain requests. No library, so that the tests
need nothing but Python.
"""

import base64
import hashlib
import os
import socket
import ssl
import struct
import threading

WAIT = 10.0
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CLOSE, TEXT = 8, 1


class Ended(Exception):
    """The peer ended the connection where more was expected."""


class Stream:
    """A socket with a read buffer and a deadline on every wait."""

    def __init__(self, sock):
        sock.settimeout(WAIT)
        self.sock = sock
        self.buffer = b""

    def more(self):
        data = self.sock.recv(65536)
        if not data:
            raise Ended("end of stream")
        self.buffer += data

    def exactly(self, count):
        while len(self.buffer) < count:
            self.more()
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def head(self):
        while b"\r\n\r\n" not in self.buffer:
            self.more()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        return head.decode("latin-1")

    def frame(self):
        """The next frame as (opcode, payload)."""
        first, second = self.exactly(2)
        length = second & 127
        if length == 126:
            (length,) = struct.unpack("!H", self.exactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.exactly(8))
        mask = self.exactly(4) if second & 128 else b"\0\0\0\0"
        payload = self.exactly(length)
        return first & 15, bytes(b ^ mask[i % 4] for i, b in enumerate(payload))

    def send_frame(self, opcode, payload, masked):
        head = bytes([128 | opcode])
        bit = 128 if masked else 0
        if len(payload) < 126:
            head += bytes([bit | len(payload)])
        else:
            head += bytes([bit | 126]) + struct.pack("!H", len(payload))
        mask = os.urandom(4) if masked else b""
        if masked:
            payload = bytes(b ^ mask[i % 4] for i, b in enumerate(payload))
        self.sock.sendall(head + mask + payload)


def connect(port, tls=False):
    sock = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
    if tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        sock = context.wrap_socket(sock, server_hostname="localhost")
    return Stream(sock)


def get(port, path="/", tls=False):
    """The status of one plain request on a connection of its own."""
    stream = connect(port, tls)
    with stream.sock:
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        stream.sock.sendall(request.encode())
        return int(stream.head().split()[1])


class Tunnel:
    """A WebSocket client."""

    def __init__(self, port, path="/ws", tls=False):
        self.stream = connect(port, tls)
        key = base64.b64encode(os.urandom(16)).decode()
        self.stream.sock.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        status = self.stream.head().split("\r\n")[0]
        if " 101 " not in status:
            raise Ended(f"no upgrade: {status}")

    def echo(self, text):
        self.stream.send_frame(TEXT, text.encode(), masked=True)
        opcode, payload = self.stream.frame()
        assert (opcode, payload) == (TEXT, text.encode()), (opcode, payload)

    def closed_with(self):
        """Waits for the Close frame, answers it, and returns its code."""
        opcode, payload = self.stream.frame()
        assert opcode == CLOSE, f"opcode {opcode} instead of a Close frame"
        self.stream.send_frame(CLOSE, payload[:2], masked=True)
        return struct.unpack("!H", payload[:2])[0]


class Backend:
    """Echoes WebSocket messages; answers anything else with 200."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            sock, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        stream = Stream(sock)
        # How long a tunnel lives is for the tests to say.
        sock.settimeout(None)
        with sock:
            try:
                while True:
                    self.answer(stream, stream.head())
            except (Ended, OSError):
                pass

    def answer(self, stream, head):
        fields = dict(
            (name.strip().lower(), value.strip())
            for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:])
        )
        if "sec-websocket-key" not in fields:
            stream.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n")
            return
        key = fields["sec-websocket-key"].encode()
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
        stream.sock.sendall(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        while True:
            opcode, payload = stream.frame()
            stream.send_frame(opcode, payload, masked=False)
            if opcode == CLOSE:
                raise Ended("closed")
