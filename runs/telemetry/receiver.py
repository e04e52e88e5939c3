"""The ingest worker's side of the broker: receives into a buffer, and acknowledges what was stored.

The broker sends at most ``RECEIVE_MAXIMUM`` messages ahead of their acknowledgement and keeps the rest. So the buffer
is bounded, and a worker that cannot store for a while (the database is away) simply stops being sent more.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
from django.conf import settings
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from devices.broker import client_new, platform_client_id
from runs.telemetry.topics import subscriptions

logger = logging.getLogger(__name__)

RECEIVE_MAXIMUM = 500
BATCH_SECONDS = 0.05  # how long a message may wait for others to be stored with
BATCH_MESSAGES = 250
BATCH_BYTES = 4 * 1024 * 1024
SESSION_SECONDS = 7 * 24 * 3600  # how long the broker keeps messages for a worker that is away
KEEPALIVE_SECONDS = 30
_SHORT_SECONDS = 5.0
_SHORT_CONNECTIONS = 4  # so many short connections in a row: two processes take the slot from each other


class Received(NamedTuple):
    """A message as it came in. ``connection`` counts connections: a message is acknowledged on its own only."""

    topic: str
    data: bytes
    retained: bool
    mid: int
    qos: int
    connection: int
    at: float  # monotonic seconds


class Receiver:
    """Receives for one slot. Messages that are not acknowledged come again, to the same slot, also after a crash."""

    def __init__(self, slot: int) -> None:
        self._slot = slot
        self._filters = subscriptions(slot)
        self._buffer: deque[Received] = deque()
        self._changed = threading.Condition()
        self._connection = 0
        self._stopping = False
        self.connected = False
        self._connected_at = 0.0
        self._short_connections = 0
        self.received = 0
        self._client = client_new(platform_client_id(f"ingest-{slot}"), manual_ack=True)
        self._client.suppress_exceptions = True  # an error in a callback is logged, and does not end the thread
        self._client.enable_logger(logging.getLogger("runs.telemetry.mqtt"))
        logging.getLogger("runs.telemetry.mqtt").setLevel(logging.WARNING)
        self._client.reconnect_delay_set(min_delay=1, max_delay=10)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    def start(self) -> None:
        """Connect in the background, now or when the broker is there, and stay connected."""
        properties = _properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = SESSION_SECONDS
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        self._client.connect_async(
            settings.MQTT_HOST,
            settings.MQTT_PORT,
            KEEPALIVE_SECONDS,
            clean_start=False,
            properties=properties,
        )
        self._client.loop_start()

    def take(self, wait: float) -> list[Received]:
        """Return the next batch: what came in within 50 ms, or 250 messages, or 4 MiB.

        Args:
            wait: seconds to wait for a first message. Without one, and when stopping, the batch may be empty.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._buffer or self._stopping, wait)
            if self._buffer:
                rest = self._buffer[0].at + BATCH_SECONDS - time.monotonic()
                self._changed.wait_for(lambda: len(self._buffer) >= BATCH_MESSAGES or self._stopping, max(0.0, rest))
            batch: list[Received] = []
            size = 0
            while self._buffer and len(batch) < BATCH_MESSAGES and size < BATCH_BYTES:
                batch.append(self._buffer.popleft())
                size += len(batch[-1].data)
            return batch

    def acknowledge(self, messages: Iterable[Received]) -> None:
        """Tell the broker that the messages are stored, or never will be."""
        for message in messages:
            if message.qos and message.connection == self._connection:
                self._client.ack(message.mid, message.qos)

    def publish(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """Send (topic, payload) pairs, at most once: without a connection they are dropped."""
        for topic, payload in messages:
            self._client.publish(topic, payload)

    @property
    def waiting(self) -> int:
        """How many messages wait in the buffer."""
        return len(self._buffer)

    def stop(self) -> None:
        """Let ``take`` return what is there without waiting for more. May be called from a signal handler."""
        self._stopping = True

    def unsubscribe(self) -> None:
        """Receive nothing new: what the broker holds for this slot already still comes."""
        self._filters, filters = [], self._filters
        if filters:
            self._client.unsubscribe(filters)

    def close(self, *, end_session: bool = False) -> None:
        """Disconnect once the acknowledgements are sent.

        Args:
            end_session: the broker forgets this slot, and shares its messages among the others.
        """
        self._stopping = True
        self._client.disable_logger()
        properties = _properties(PacketTypes.DISCONNECT)
        properties.SessionExpiryInterval = 0 if end_session else SESSION_SECONDS
        self._client.disconnect(properties=properties)
        self._client.loop_stop()

    # --- on the network thread ---------------------------------------------------------------------------------------

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if reason.is_failure:
            logger.error(
                "The broker refused the platform's credential (%s): check ROUNDTABLE_MQTT_USER and _PASSWORD", reason
            )
            return
        self._connection += 1
        self._connected_at = time.monotonic()
        self.connected = True
        logger.info("Connected to the broker")
        if self._filters:
            client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in self._filters])

    def _on_disconnect(
        self, _client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any
    ) -> None:
        was_connected, self.connected = self.connected, False
        if self._stopping:
            return
        logger.warning("Lost the broker (%s); connecting again", reason)
        if was_connected and time.monotonic() - self._connected_at < _SHORT_SECONDS:
            self._short_connections += 1
        else:
            self._short_connections = 0
        if self._short_connections == _SHORT_CONNECTIONS:
            # Nothing is lost or stored twice by it, but neither gets anything done.
            logger.error("Another ingest process seems to use slot %d: give each its own by --slot", self._slot)

    def _on_subscribe(
        self, _client: mqtt.Client, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            logger.error("The broker refused a subscription: the platform's MQTT user lacks a right (%s)", reasons)

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        self.received += 1
        received = Received(
            topic, bytes(message.payload), message.retain, message.mid, message.qos, self._connection, time.monotonic()
        )
        with self._changed:
            self._buffer.append(received)
            if len(self._buffer) in (1, BATCH_MESSAGES):
                self._changed.notify()


def _properties(packet: int) -> Any:
    make: Any = Properties  # paho has no types for it
    return make(packet)
