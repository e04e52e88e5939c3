"""Real servers for the tests of the agent: a mosquitto with passwords and access lists, a small HTTP platform."""

import hashlib
import http.server
import io
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

T = TypeVar("T")
EDGE_FOLDER = Path(__file__).resolve().parent.parent
PASSWORDS = {
    "platform": "platform-secret",
    "agent-3": "agent-secret",
    "instances-3": "instances-secret",
    "aggregator-7": "aggregator-secret",
}
ACCESS = """
user platform
topic readwrite #
user agent-3
topic write edges/3/presence
topic write edges/3/status
topic write runs/+/3/log
topic write runs/+/3/system
topic read edges/3/command
topic read runs/+/3/stored
user instances-3
topic write runs/+/3/metrics
user aggregator-7
topic write runs/7/0/#
topic read runs/7/0/stored
"""
NO_ENGINE = "unix:///nonexistent/docker.sock"  # whatever this machine runs
DEVICE_TOKEN = "rtd_3_device-secret"
ROTATED_TOKEN = "rtd_3_rotated-secret"
CODE = "AAAA-BBBB-CCCC"


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(look: Callable[[], T], seconds: float = 15.0, what: str = "") -> T:
    """Look until there is something; fails after the time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s in vain for {what or look}")


class Broker:
    """A mosquitto of our own on a free loopback port."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        for name in (folder / "passwords", folder / "access"):
            name.touch(mode=0o600)
        self.set_passwords(PASSWORDS)
        (folder / "access").write_text(ACCESS)
        (folder / "mosquitto.conf").write_text(
            f"user root\nlistener {self.port} 127.0.0.1\nallow_anonymous false\n"
            f"password_file {folder}/passwords\nacl_file {folder}/access\n"
            f"persistence true\npersistence_location {folder}/\nautosave_interval 1\nautosave_on_changes true\n"
            f"max_queued_messages 0\nset_tcp_nodelay true\nlog_dest file {folder}/mosquitto.log\n"
        )

    def set_passwords(self, passwords: dict[str, str]) -> None:
        """Write the password file; takes effect at the next start."""
        (self._folder / "passwords").write_text("".join(f"{user}:{word}\n" for user, word in passwords.items()))
        subprocess.run(["mosquitto_passwd", "-U", str(self._folder / "passwords")], check=True)

    def start(self) -> None:
        """Start, and wait until it answers."""
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        self._process = subprocess.Popen([program, "-c", str(self._folder / "mosquitto.conf")], stderr=subprocess.PIPE)
        wait_for(self._answers, what="mosquitto")

    def stop(self) -> None:
        """Stop, and wait until it has ended."""
        if self._process is not None:
            self._process.terminate()
            self._process.communicate(timeout=10)
            self._process = None

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Platform:
    """What the platform hears and says over MQTT."""

    def __init__(self, port: int) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="platform", protocol=paho.MQTTv5)
        self._client.username_pw_set("platform", PASSWORDS["platform"])
        self._client.on_message = self._received
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port, clean_start=False, properties=_long_session())
        self._client.loop_start()
        assert subscribed.wait(15), "the platform's subscription"

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()

    def send(self, topic: str, payload: Any, *, retain: bool = False) -> None:
        """Publish; bytes as they are, anything else as JSON."""
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        wait_for(self._client.is_connected, what="the platform's connection")
        self._client.publish(topic, raw, qos=1, retain=retain).wait_for_publish(10)

    def heard(self, topic: str) -> list[dict[str, Any]]:
        """The messages of a topic, in order, replays left out as the ingest does."""
        seen: set[tuple[str, int]] = set()
        kept = []
        for name, message in list(self.messages):
            key = (message.get("instance", ""), message.get("seq", 0))
            if name == topic and (key == ("", 0) or key not in seen):
                seen.add(key)
                kept.append(message)
        return kept

    def lines(self, topic: str, stream: str = "") -> list[dict[str, Any]]:
        """The log lines of a topic, of one stream or all."""
        return [line for message in self.heard(topic) for line in message["lines"] if stream in ("", line["stream"])]

    def statuses(self, topic: str, run_id: int) -> list[dict[str, Any]]:
        """The statuses of a run."""
        return [message for message in self.heard(topic) if message["run_id"] == run_id]

    def wait_status(self, topic: str, run_id: int, status: str, seconds: float = 20.0) -> dict[str, Any]:
        """Wait for a status of a run."""

        def look() -> dict[str, Any] | None:
            return next((found for found in self.statuses(topic, run_id) if found["status"] == status), None)

        try:
            found = wait_for(look, seconds)
        except AssertionError:
            raise AssertionError(f"no {status}; heard {self.statuses(topic, run_id)}") from None
        assert found is not None
        return found

    def _received(self, _: paho.Client, __: Any, message: paho.MQTTMessage) -> None:
        try:
            value = json.loads(message.payload)
        except (ValueError, RecursionError):
            return
        self.messages.append((message.topic, value if isinstance(value, dict) else {"value": value}))


def _long_session() -> Any:
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = 3600
    return properties


def make_zip(files: dict[str, str], top: str = "package") -> bytes:
    """A package.zip of these files below a top folder."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(f"{top}/{name}" if top else name, text)
    return buffer.getvalue()


def package_files(entry: str, **more: str) -> dict[str, str]:
    """A package whose entry file `fedml/entry.py` holds this code."""
    return {"conf/fedml.yaml": "entry_config: {entry_file: fedml/entry.py}\n", "fedml/entry.py": entry, **more}


class PlatformServer:
    """The few HTTP calls of the platform that agents use."""

    def __init__(self, mqtt_port: int) -> None:
        self.codes = {CODE}
        self.token = DEVICE_TOKEN
        self.packages: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.enrolled: list[dict[str, Any]] = []
        self.mqtt_port = mqtt_port
        self.agent_password = PASSWORDS["agent-3"]
        self.registry: dict[str, str] | None = None
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(("GET", self.path))
                if self.path == "/healthz":
                    self.answer(200, {"status": "ok"})
                elif self.headers.get("Authorization") != f"Bearer {outer.token}":
                    self.answer(401, {"error": "this device token is not valid"})
                else:
                    body = outer.packages.get(self.path.rpartition("/")[2])
                    if body is None:
                        self.answer(404, {"error": "there is no such package"})
                    else:
                        self.send_response(200)
                        self.send_header("Content-Length", str(len(body)))
                        self.end_headers()
                        self.wfile.write(body)

            def do_POST(self) -> None:
                outer.requests.append(("POST", self.path))
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
                if self.path == "/api/edge/rotate":
                    if self.headers.get("Authorization") != f"Bearer {outer.token}":
                        return self.answer(401, {"error": "this device token is not valid"})
                    outer.token = ROTATED_TOKEN
                    return self.answer(200, outer.credentials())
                if body.get("code") not in outer.codes:
                    return self.answer(403, {"error": "this code was used already or has expired; make a new one"})
                outer.codes.remove(body["code"])
                outer.enrolled.append(body)
                return self.answer(200, outer.credentials())

            def answer(self, status: int, value: dict[str, Any]) -> None:
                raw = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def credentials(self) -> dict[str, Any]:
        """The answer to enrol and rotate."""
        return {
            "edge_id": 3,
            "device_token": self.token,
            "mqtt": {"host": "127.0.0.1", "port": self.mqtt_port, "tls": False},
            "agent_mqtt": {"username": "agent-3", "password": self.agent_password},
            "instance_mqtt": {"username": "instances-3", "password": PASSWORDS["instances-3"]},
            "registry": self.registry,
        }

    def add(self, body: bytes) -> dict[str, Any]:
        """Store a package; returns what a command says of it."""
        digest = hashlib.sha256(body).hexdigest()
        self.packages[digest] = body
        return {"url": f"/api/edge/packages/{digest}", "sha256": digest, "size": len(body)}

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def program(
    *arguments: str, stdin: int = subprocess.DEVNULL, environment: dict[str, str] | None = None
) -> "subprocess.Popen[str]":
    """Start `python -m ...` with the agent's folder on its path."""
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(EDGE_FOLDER), "DOCKER_HOST": NO_ENGINE, **(environment or {})},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
