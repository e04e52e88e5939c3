"""The MQTT connection over which instances of a run talk: outbound only, reconnecting by itself."""

from __future__ import annotations

import logging
import queue
import time
from dataclasses import dataclass
from typing import Any

import roundtable
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from fedml.messages import PAYLOAD_LIMIT, DownMessage, UpMessage, encode

logger = logging.getLogger(__name__)

INBOX_LIMIT = 10_000
RETRY_SECONDS = 5.0  # after the broker refused to deliver
SESSION_SECONDS = 600  # how long the broker keeps what it could not deliver


@dataclass(frozen=True)
class Will:
    """What the broker says for us, `delay` seconds after our connection broke without coming back."""

    topic: str
    message: UpMessage
    delay: float


class ControlLink:
    """Sends and receives messages of the FL topics.

    Messages are not lost by a short absence of either side (QoS 1 and a session that outlives the connection), but by a
    restart of the broker: who needs an answer asks again. `connections` counts how often the link came up, so that
    the owner can tell when to ask again at once.
    """

    def __init__(self, environment: roundtable.Environment, subscription: str, will: Will | None = None) -> None:
        self.connections = 0
        self._subscription = subscription
        self._ready = False
        self._refused_at = 0.0
        self._inbox: queue.Queue[tuple[str, bytes]] = queue.Queue(INBOX_LIMIT)
        self._last_refusal = ""
        self._client = roundtable.new_mqtt_client(environment, "fl")
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        session_seconds = SESSION_SECONDS
        if will is not None:
            session_seconds = max(session_seconds, round(will.delay) + 1)
            delay = _properties(PacketTypes.WILLMESSAGE, WillDelayInterval=round(will.delay))
            self._client.will_set(will.topic, encode(will.message), qos=1, properties=delay)
        properties = _properties(PacketTypes.CONNECT, SessionExpiryInterval=session_seconds)
        self._client.connect_async(
            environment.broker_host, environment.broker_port, keepalive=15, properties=properties
        )
        self._client.loop_start()

    def send(self, topic: str, message: UpMessage | DownMessage) -> None:
        """Publishes now, or not at all while the broker is away: everything here is repeated by its sender."""
        if self._ready:
            roundtable.publish(self._client, topic, encode(message))

    def send_surely(self, topic: str, message: UpMessage | DownMessage, timeout: float) -> bool:
        """Publishes and waits for the broker's acknowledgement, for at most `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not self._ready:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        info = roundtable.publish(self._client, topic, encode(message))
        info.wait_for_publish(max(deadline - time.monotonic(), 0.1))
        return info.is_published()

    def receive(self, timeout: float) -> tuple[str, bytes] | None:
        """The next (topic, payload), or None after `timeout` seconds."""
        if self._refused_at and time.monotonic() - self._refused_at > RETRY_SECONDS and self._client.is_connected():
            self._refused_at = 0.0
            self._client.subscribe(self._subscription, qos=1)
        try:
            return self._inbox.get(timeout=max(timeout, 0.001))
        except queue.Empty:
            return None

    def close(self, *, speak_will: bool = False) -> None:
        """Ends the connection and the broker's session, or leaves it to the broker to speak the will in its time."""
        if speak_will:
            self._client.disconnect(ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message"))
        else:
            self._client.disconnect(properties=_properties(PacketTypes.DISCONNECT, SessionExpiryInterval=0))
        self._client.loop_stop()

    def _on_connect(self, client: Client, userdata: Any, flags: Any, reason_code: Any, properties: Any) -> None:
        if reason_code.is_failure:
            self._refused(f"the broker refused the connection: {reason_code}")
        else:
            client.subscribe(self._subscription, qos=1)

    def _on_subscribe(self, client: Client, userdata: Any, mid: int, reason_codes: Any, properties: Any) -> None:
        if reason_codes[0].is_failure:
            self._refused(f"the broker refused to deliver {self._subscription}: {reason_codes[0]}")
            self._refused_at = time.monotonic()
            return
        if self.connections:
            logger.info("connected to the broker again")
        self._last_refusal = ""
        self._ready = True
        self.connections += 1

    def _on_disconnect(self, client: Client, userdata: Any, flags: Any, reason_code: Any, properties: Any) -> None:
        if self._ready and reason_code.is_failure:
            logger.warning("lost the broker (%s); connecting again", reason_code)
        self._ready = False

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        if len(message.payload) > PAYLOAD_LIMIT:
            logger.warning("ignored a message of %d bytes on %s", len(message.payload), message.topic)
            return
        try:
            self._inbox.put_nowait((message.topic, bytes(message.payload)))
        except queue.Full:
            logger.warning("ignored a message on %s: too many wait", message.topic)

    def _refused(self, sentence: str) -> None:
        if sentence != self._last_refusal:
            logger.warning("%s", sentence)
        self._last_refusal = sentence


def _properties(packet_type: int, **values: int) -> Properties:
    properties = Properties(packet_type)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return properties
