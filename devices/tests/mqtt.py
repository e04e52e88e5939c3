"""An MQTT client for tests: connects, publishes and collects, and tells what the broker answered."""

from __future__ import annotations

import queue
import socket
import time
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as paho
from django.conf import settings
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

ANSWER_SECONDS = 5.0


class Refused(Exception):
    """The broker did not let the client in."""


class Mqtt:
    """One connection as ``user``. Use as a context manager."""

    def __init__(
        self,
        user: str,
        password: str,
        client_id: str = "",
        *,
        session_seconds: int = 0,
        clean_start: bool = True,
        will: str = "",
    ) -> None:
        self.received: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self.cut: queue.SimpleQueue[ReasonCode] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        self._properties.SessionExpiryInterval = session_seconds
        self._clean_start = clean_start
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        self._client.username_pw_set(user, password)
        if will:
            self._client.will_set(will, b'{"state": "OFFLINE"}', qos=1)
        self._client.on_connect = lambda client, userdata, flags, code, properties: self._answers.put(code)
        self._client.on_subscribe = lambda client, userdata, mid, codes, properties: self._answers.put(codes)
        self._client.on_publish = lambda client, userdata, mid, code, properties: self._answers.put(code)
        self._client.on_disconnect = lambda client, userdata, flags, code, properties: self.cut.put(code)
        self._client.on_message = lambda client, userdata, message: self.received.put(
            (message.topic, bytes(message.payload))
        )

    def __enter__(self) -> Self:
        self._client.connect(
            settings.MQTT_HOST, settings.MQTT_PORT, clean_start=self._clean_start, properties=self._properties
        )
        self._client.loop_start()
        code = self._answers.get(timeout=ANSWER_SECONDS)
        if code.is_failure:
            self.close()
            raise Refused(str(code))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def break_off(self) -> None:
        """Lose the connection without a farewell, as a machine does that loses its power."""
        connection = self._client.socket()
        assert isinstance(connection, socket.socket)
        connection.shutdown(socket.SHUT_RDWR)

    def subscribe(self, *topics: str) -> list[ReasonCode]:
        """Subscribe with QoS 1 and return the broker's answer to each topic."""
        options = SubscribeOptions(qos=1)
        self._client.subscribe([(topic, options) for topic in topics])
        codes: list[ReasonCode] = self._answers.get(timeout=ANSWER_SECONDS)
        return codes

    def publish(self, topic: str, payload: bytes = b"{}", retain: bool = False) -> str:
        """Publish with QoS 1 and return the broker's answer."""
        self._client.publish(topic, payload, qos=1, retain=retain)
        return str(self._answers.get(timeout=ANSWER_SECONDS))

    def publish_unheard(self, topic: str, payload: bytes) -> None:
        """Publish with QoS 0: whether it was let through shows at the other side alone."""
        self._client.publish(topic, payload, qos=0)

    def topics_until(self, last: str, seconds: float = ANSWER_SECONDS) -> list[str]:
        """Return the topics that arrive before a message on ``last`` does."""
        topics: list[str] = []
        deadline = time.monotonic() + seconds
        while True:
            topic, _ = self.received.get(timeout=max(0.01, deadline - time.monotonic()))
            if topic == last:
                return topics
            topics.append(topic)


def platform(client_id: str = "") -> Mqtt:
    """Return a connection with the platform's own credential."""
    return Mqtt(settings.MQTT_USER, settings.MQTT_PASSWORD, client_id)
