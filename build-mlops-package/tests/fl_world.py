"""A small world for runs of the library: a real broker, a model store over HTTP, and instances as processes."""

from __future__ import annotations

import collections
import getpass
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

MOSQUITTO = "/usr/sbin/mosquitto"
RUN_ID = 7


def free_port() -> int:
    """A loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], Any], seconds: float = 10.0, what: str = "the condition") -> None:
    """Waits until the condition holds, or fails the test."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds} s"
        time.sleep(0.02)


class Broker:
    """A mosquitto of its own on a loopback port that stays the same over a restart."""

    def __init__(self, folder: Path, *more_lines: str) -> None:
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        self._log = folder / "mosquitto.log"
        lines = [f"listener {self.port} 127.0.0.1", f"user {getpass.getuser()}", "allow_anonymous true"]
        lines += ["persistence false", "set_tcp_nodelay true"]
        lines += more_lines
        self._config.write_text("\n".join(lines) + "\n")
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([MOSQUITTO, "-c", str(self._config)], stdout=log, stderr=log)
        try:
            wait_until(self._answers, what="mosquitto")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def log(self) -> str:
        """What the broker wrote: connections by their client ids among it."""
        return self._log.read_text()

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def mqtt_client(port: int, *subscriptions: str) -> Iterator[tuple[mqtt.Client, list[tuple[str, dict[str, Any]]]]]:
    """A connected client, and the growing list of (topic, payload) that it hears."""
    heard: list[tuple[str, dict[str, Any]]] = []
    ready = threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)

    def on_message(client: mqtt.Client, userdata: Any, message: mqtt.MQTTMessage) -> None:
        heard.append((message.topic, json.loads(message.payload)))

    def on_connect(client: mqtt.Client, *rest: Any) -> None:
        for subscription in subscriptions:
            client.subscribe(subscription, qos=1)
        if not subscriptions:
            ready.set()

    client.on_message = on_message
    client.on_connect = on_connect
    client.on_subscribe = lambda *arguments: ready.set()
    client.reconnect_delay_set(1, 1)
    client.connect("127.0.0.1", port)
    client.loop_start()
    assert ready.wait(10)
    try:
        yield client, heard
    finally:
        client.disconnect()
        client.loop_stop()


@dataclass
class Upload:
    """A model that was posted to the store."""

    edge_id: int
    kind: str
    round: int
    key: str
    content: bytes


class ModelStoreServer:
    """The platform's HTTP interface for instances, as docs/protocol.md has it, in memory."""

    def __init__(self) -> None:
        self.uploads: list[Upload] = []
        self.away = False
        self.refused: collections.Counter[str] = collections.Counter()
        self.data = b""
        self.initial: Upload | None = None  # the model that the run starts from
        store = self

        class Handler(BaseHTTPRequestHandler):
            wbufsize = -1  # an answer in one packet

            def log_message(self, *arguments: Any) -> None:
                pass

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def refuse(self, status: int, sentence: str) -> None:
                store.refused[sentence] += 1
                self.answer(status, json.dumps({"error": sentence}).encode())

            def reporter(self) -> int | None:
                """The edge id of the run token, or None after a refusal."""
                scheme, _, token = self.headers.get("Authorization", "").partition(" ")
                parts = token.split("_")
                if scheme != "Bearer" or parts[:2] != ["rtr", str(RUN_ID)] or parts[3:] != ["secret"]:
                    self.refuse(401, "give the run token")
                    return None
                return int(parts[2])

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                if store.away:
                    return self.refuse(503, "the platform is away")
                edge_id = self.reporter()
                if edge_id is None:
                    return None
                query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
                if hashlib.sha256(content).hexdigest() != query["sha256"]:
                    return self.refuse(400, "the bytes are not those of sha256")
                if (query["kind"] == "aggregated") != (edge_id == 0):
                    return self.refuse(403, "aggregated models are the aggregator's")
                key = f"{query['kind']}-{edge_id}-{query['round']}-{query['sha256'][:16]}"
                if all(upload.key != key for upload in store.uploads):
                    store.uploads.append(Upload(edge_id, query["kind"], int(query["round"]), key, content))
                body = {"key": key, "sha256": query["sha256"], "size": len(content)}
                return self.answer(201, json.dumps(body).encode())

            def do_GET(self) -> None:
                if store.away:
                    return self.refuse(503, "the platform is away")
                edge_id = self.reporter()
                if edge_id is None:
                    return None
                if self.path == f"/api/runs/{RUN_ID}/data":
                    return self.answer(200, store.data)
                if self.path == f"/api/runs/{RUN_ID}/initial-model":
                    return self.answer(200, json.dumps({"model": store.initial_reference()}).encode())
                key = self.path.rpartition("/")[2]
                for upload in [*store.uploads, *filter(None, [store.initial])]:
                    if upload.key == key and (edge_id == 0 or upload.kind == "aggregated" or upload.edge_id == edge_id):
                        return self.answer(200, upload.content)
                return self.refuse(404, "no such model")

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def initial_reference(self) -> dict[str, Any] | None:
        """What the platform says of the model to start from."""
        if self.initial is None:
            return None
        content = self.initial.content
        return {"key": self.initial.key, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}

    def aggregated(self) -> list[Upload]:
        """The aggregated models by round, the initial one (-1) first."""
        return sorted((upload for upload in self.uploads if upload.kind == "aggregated"), key=lambda each: each.round)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def write_home(home: Path, port: int) -> None:
    """Writes conf/mqtt_config.yaml of an instance."""
    (home / "conf").mkdir(parents=True, exist_ok=True)
    lines = {"BROKER_HOST": "127.0.0.1", "BROKER_PORT": port, "MQTT_USER": "", "MQTT_PWD": ""}
    text = "".join(f"{key}: {json.dumps(value)}\n" for key, value in lines.items())
    (home / "conf" / "mqtt_config.yaml").write_text(text)


def instance_environment(home: Path, url: str, edge_id: int) -> dict[str, str]:
    """The variables that an instance is given."""
    return {
        "ROUNDTABLE_URL": url,
        "ROUNDTABLE_RUN_ID": str(RUN_ID),
        "ROUNDTABLE_EDGE_ID": str(edge_id),
        "ROUNDTABLE_TOKEN": f"rtr_{RUN_ID}_{edge_id}_secret",
        "ROUNDTABLE_HOME": str(home),
    }


@dataclass
class Instance:
    """A running server or client; `log` is what it has written."""

    process: subprocess.Popen[bytes]
    path: Path

    @property
    def log(self) -> str:
        return self.path.read_text()

    def wait(self, seconds: float = 40.0) -> int:
        """The exit code."""
        return self.process.wait(seconds)

    def kill(self) -> None:
        """Kills the whole process group, as a crash of the device would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass
class World:
    """Opens the instances of one run; `arguments` go to all of them."""

    package: Path
    folder: Path
    broker: Broker
    store: ModelStoreServer
    edge_ids: tuple[int, ...]
    arguments: dict[str, Any]
    instances: list[Instance] = field(default_factory=list)

    def open(self, edge_id: int, **arguments: Any) -> Instance:
        """Opens the aggregator (edge 0) or a client."""
        home = self.folder / f"edge-{edge_id}"
        write_home(home, self.broker.port)
        index = self.edge_ids.index(edge_id) + 1 if edge_id else 0
        given: Mapping[str, Any] = {
            "client_num": len(self.edge_ids),
            "client_id_list": json.dumps(self.edge_ids if edge_id == 0 else [edge_id]),
            "client_index": index,
            **self.arguments,
            **arguments,
        }
        command = [sys.executable, "main.py", "--package_name", "test", "--package_url", "/nowhere"]
        command += ["--config", str(self.package / "conf" / "fedml.yaml"), "--"]
        for name, value in given.items():
            command += [f"--{name}", str(value)]
        path = self.folder / f"edge-{edge_id}-{len(self.instances)}.log"
        with path.open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=self.package,
                env={**os.environ, **instance_environment(home, self.store.url, edge_id)},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        instance = Instance(process, path)
        self.instances.append(instance)
        return instance

    def open_all(self) -> tuple[Instance, list[Instance]]:
        """Opens the aggregator and every client."""
        return self.open(0), [self.open(edge_id) for edge_id in self.edge_ids]

    def logs(self) -> str:
        """What all instances wrote last, for the message of a failed test."""
        return "\n".join(
            "\n".join([f"--- {instance.path.name}", *instance.log.splitlines()[-15:]]) for instance in self.instances
        )

    def close(self) -> None:
        """Ends what is still running."""
        for instance in self.instances:
            if instance.process.poll() is None:
                instance.kill()
