"""MQTT over WebSocket: Mosquitto behind longhaul, paho in front, subprotocol `mqtt`."""

import pathlib
import queue
import shutil
import socket
import subprocess
import tempfile

import paho.mqtt.client as mqtt

from longhaul import DEADLINE, Longhaul, site

MESSAGES = 500
# Debian's build writes about 4 KiB in each tenth of a second.
BIG = 32 * 1024


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def broker(directory, port):
    """Mosquitto; ready when it says so."""
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    assert program, "mosquitto is missing (Debian package mosquitto)"
    config = pathlib.Path(directory) / "mosquitto.conf"
    # With a WebSocket listener alone Debian's build refuses to start (mosquitto#2284).
    config.write_text(
        f"listener 0 {directory}/mqtt.sock\nlistener {port}\nprotocol websockets\n"
        "allow_anonymous true\npersistence false\nmax_inflight_messages 0\nlog_dest stderr\nuser root\n"
    )
    process = subprocess.Popen([program, "-c", config], stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.rstrip().endswith("running"):
            return process
    raise AssertionError("mosquitto ended before it was running")


class Client:
    def __init__(self, name, port, version):
        self.inbox, self.ready = queue.Queue(), queue.Queue()
        self.mqtt = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, name, transport="websockets", protocol=version
        )
        self.mqtt.ws_set_options(path="/mqtt")
        self.mqtt.on_connect = lambda client, data, flags, code, props: self.ready.put(str(code))
        self.mqtt.on_subscribe = lambda client, data, mid, codes, props: self.ready.put("sub")
        self.mqtt.on_message = lambda client, data, message: self.inbox.put(message)
        self.mqtt.max_inflight_messages_set(MESSAGES + 1)
        self.mqtt.connect("127.0.0.1", port)
        self.mqtt.loop_start()
        assert self.ready.get(timeout=DEADLINE) == "Success"

    def subscribe(self, topic):
        self.mqtt.subscribe(topic, qos=1)
        assert self.ready.get(timeout=DEADLINE) == "sub"

    def close(self):
        self.mqtt.disconnect()
        self.mqtt.loop_stop()


def run(port, version):
    reader, writer = Client("reader", port, version), Client("writer", port, version)
    reader.subscribe("room/#")
    for number in range(MESSAGES):
        writer.mqtt.publish(f"room/{number % 7}", f"message {number}", qos=1)
    big = bytes(range(256)) * (BIG // 256)
    writer.mqtt.publish("room/big", big, qos=1)
    for number in range(MESSAGES):
        message = reader.inbox.get(timeout=DEADLINE)
        assert message.payload == f"message {number}".encode(), "in order, none lost"
    assert reader.inbox.get(timeout=DEADLINE).payload == big
    reader.close()
    writer.close()


with tempfile.TemporaryDirectory() as directory:
    port = free_port()
    process = broker(directory, port)
    try:
        with Longhaul(site({"mosquitto": port})) as longhaul:
            for version in (mqtt.MQTTv311, mqtt.MQTTv5):
                run(longhaul.port(), version)
            opened = longhaul.events("tunnel opened")
            assert len(opened) == 4, opened
    finally:
        process.kill()
        process.wait()
print(f"{2 * MESSAGES} messages and 2 of {BIG} bytes, MQTT 3.1.1 and 5")
