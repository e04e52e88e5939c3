"""The ingest worker as a process of its own, for tests: with what to send it, and whether all of it arrived."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import paho.mqtt.client as mqtt
from django.conf import settings
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from runs.models import LogLine, Point, Run, Series
from runs.telemetry.topics import Kind
from runs.tests.rows import metrics, topic
from tests.servers import MosquittoServer

WAIT_SECONDS = 90.0
NO_MATCHING_SUBSCRIBERS = 16  # MQTT 5, section 3.4.2.1


class Ingest:
    """The ingest worker as a process of its own."""

    def __init__(self, broker: MosquittoServer, slot: int = 0, database: str = "") -> None:
        self.slot = slot
        self._environment = {
            **os.environ,
            **broker.environment(),
            "ROUNDTABLE_REDIS_URL": settings.REDIS_URL,
            "ROUNDTABLE_DATABASE_URL": database or f"sqlite:///{settings.DATABASES['default']['NAME']}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "manage.py", "ingest", "--slot", str(self.slot), *arguments],
            cwd=settings.BASE_DIR,
            env=self._environment,
            stderr=subprocess.PIPE,
        )

    def end(self, number: int = signal.SIGTERM) -> str:
        """Signal the process, wait for its end, and return what it logged."""
        assert self._process is not None
        self._process.send_signal(number)
        said = self.wait()
        assert number == signal.SIGKILL or said.startswith("0\n"), said
        return said

    def wait(self) -> str:
        """Wait until the process ends, and return its code and what it logged."""
        assert self._process is not None
        _, errors = self._process.communicate(timeout=60)
        code, self._process = self._process.returncode, None
        return f"{code}\n{errors.decode()}"

    def kill_if_running(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


@contextmanager
def ingest_process(broker: MosquittoServer, slot: int = 0, database: str = "") -> Iterator[Ingest]:
    worker = Ingest(broker, slot, database)
    try:
        yield worker
    finally:
        worker.kill_if_running()


class Publisher:
    """Publishes with QoS 1, and again where nobody was there to hear it, as every sender has to."""

    def __init__(self) -> None:
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.username_pw_set(settings.MQTT_USER, settings.MQTT_PASSWORD)
        self._client.reconnect_delay_set(1, 1)
        self._client.max_inflight_messages_set(500)
        self._client.on_publish = self._on_publish
        self._sent: dict[int, tuple[str, bytes]] = {}
        self._client.connect("127.0.0.1", settings.MQTT_PORT)
        self._client.loop_start()

    def send(self, name: str, message: dict[str, Any]) -> mqtt.MQTTMessageInfo:
        body = orjson.dumps(message)
        info = self._client.publish(name, body, qos=1)
        self._sent[info.mid] = (name, body)
        return info

    def _on_publish(self, client: mqtt.Client, _: Any, mid: int, reason: ReasonCode, __: Any) -> None:
        if reason.value == NO_MATCHING_SUBSCRIBERS and mid in self._sent:
            again = client.publish(*self._sent[mid], qos=1)
            self._sent[again.mid] = self._sent.pop(mid)
            time.sleep(0.02)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        del self._client  # paho closes its own sockets when it goes, which a cycle of references would put off


def until(condition: Callable[[], bool]) -> None:
    """Wait for what has to come true."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_subscribed(publisher: Publisher, run: Run) -> bool:
    """Whether a worker hears: a message of its own reporter arrives (nothing is kept for who never subscribed)."""
    line = {"time": 1.0, "stream": "stdout", "line": "probe"}
    publisher.send(topic(run, 0, Kind.LOG), {"instance": "probe", "seq": time.monotonic_ns(), "lines": [line]})
    time.sleep(0.15)
    return LogLine.objects.filter(run=run, line="probe").exists()


def numbered(seq: int, points: int) -> dict[str, Any]:
    """Make a metrics message with one point of each of the series m0, m1, ... at the step ``seq``."""
    return metrics(seq, *[(f"m{n}", seq, seq + n / 100, seq) for n in range(points)])


def stored_points(run: Run, edge: int, most: int) -> int:
    """Count the points of a reporter. Fails at once where there are more than can be."""
    stored = Point.objects.filter(series__run=run, series__edge_id=edge).count()
    assert stored <= most
    return stored


def assert_numbered(run: Run, edge: int, count: int, points: int) -> None:
    """Every point of the messages 1 to ``count`` is stored exactly once, with its own value."""
    for n in range(points):
        series = Series.objects.get(run=run, edge_id=edge, name=f"m{n}")
        rows = Point.objects.filter(series=series).order_by("step").values_list("step", "value")
        assert list(rows) == [(float(seq), seq + n / 100) for seq in range(1, count + 1)]
        assert (series.count, series.last_step) == (count, float(count))
