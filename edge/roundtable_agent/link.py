"""The connection to the broker: MQTT 5, one session over any number of connections, acknowledgements by hand."""

import json
import logging
import queue
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from .deliveries import Delivery, Outbox, Report
from .plan import MqttLogin

KEEPALIVE_SECONDS = 15
REFUSED_RETRY_SECONDS = 30
CREDENTIAL_REFUSED = (134, 135)  # bad user name or password, not authorized
SESSION_TAKEN_OVER = 142
STORED = "/stored"  # how the topic ends on which the platform says what it has stored

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Incoming:
    """A message from the broker, to be acknowledged with `Link.acknowledge` once it is dealt with."""

    topic: str
    payload: bytes
    mid: int
    qos: int


class Link:
    """One client of the broker, which connects again by itself for as long as it is open.

    What is published while the broker is away is kept in memory and sent when it is back, in order. What it lost, and
    what nobody was there to hear, is sent again; whoever hears it recognises what comes twice.

    Parameters:
        login: where and as whom.
        client_id: fixed, so that the session is found again.
        session_seconds: how long the broker keeps the session while the client is away.
        will: (topic, payload) that the broker publishes, retained, when the connection breaks.
        topics: what to subscribe to, at each connection.
        stored: the filter of the topics on which the platform says what it has stored; empty for none.
        on_connected: called, on the network thread, after each connection; must be quick.
        renewed_login: asked when the credential is refused, for one that replaced it; None where there is none.
    """

    def __init__(
        self,
        login: MqttLogin,
        *,
        client_id: str,
        session_seconds: int,
        will: tuple[str, bytes] | None = None,
        topics: tuple[str, ...] = (),
        stored: str = "",
        on_connected: Callable[[], None] = lambda: None,
        renewed_login: Callable[[], MqttLogin | None] = lambda: None,
    ) -> None:
        self.inbox: queue.Queue[Incoming] = queue.Queue()
        self.problem = "not connected yet"
        self._login = login
        self._session_seconds = session_seconds
        self._topics = topics
        self._stored = stored
        self._on_connected = on_connected
        self._renewed_login = renewed_login
        self._connected = threading.Event()
        self._outbox = Outbox()
        self._stopped = False
        self._due = threading.Event()
        self._again = threading.Thread(target=self._send_again, name="messages sent again", daemon=True)
        self._client = self._make_client(client_id, will)

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the connection and it has not broken since."""
        return self._connected.is_set()

    @property
    def nobody_listens(self) -> bool:
        """Whether the broker has taken messages and nobody was there for any of them, ever."""
        return not self._outbox.heard and self._outbox.unheard > 0

    @property
    def unheard(self) -> int:
        """How many messages wait for somebody to hear them; they are sent again and again until the link is stopped."""
        return self._outbox.unheard

    def wait_stored(self, seconds: float) -> int:
        """Wait until the platform has stored what the broker took; returns how many messages it has not."""
        deadline = time.monotonic() + seconds
        while (left := self._outbox.unconfirmed) and time.monotonic() < deadline:
            time.sleep(0.02)
        return left

    def start(self) -> None:
        """Connect in the background, and again whenever the connection breaks."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._session_seconds
        self._client.connect_async(
            self._login.host,
            self._login.port,
            keepalive=KEEPALIVE_SECONDS,
            clean_start=False,
            properties=properties,
        )
        self._client.loop_start()
        self._again.start()

    def wait_connected(self, seconds: float) -> bool:
        """Wait for a connection."""
        return self._connected.wait(seconds)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, report: Report | None = None) -> Delivery:
        """Send a message at least once (QoS 1).

        Parameters:
            topic: where to.
            payload: what.
            retain: the broker keeps it for whoever subscribes later.
            report: `instance` and `seq` of a message that the platform stores: it is kept, and sent again after each
                new connection, until the platform says that it has stored it.

        Returns:
            Its delivery, which is settled when the broker has answered and somebody was there to hear it, be it after
            any number of connections.
        """
        delivery = Delivery(topic, payload, retain=retain, report=report)
        self._outbox.add(delivery)
        self._send(delivery)
        return delivery

    def _send(self, delivery: Delivery) -> None:
        info = self._client.publish(delivery.topic, delivery.payload, qos=1, retain=delivery.retain)
        if info.rc == paho.MQTT_ERR_QUEUE_SIZE:
            self._outbox.drop(delivery, "too many messages wait for the broker")
        else:
            self._outbox.published(delivery, info.mid)

    def _send_again(self) -> None:
        """Until stopped, send again what is due."""
        while not self._stopped:
            self._due.wait(self._outbox.due_in() if self.connected else None)
            self._due.clear()
            if self.connected and not self._stopped:
                for delivery in self._outbox.take_due():
                    self._send(delivery)

    def acknowledge(self, incoming: Incoming) -> None:
        """Tell the broker that a message was dealt with and need not be sent again."""
        self._client.ack(incoming.mid, incoming.qos)

    def stop(self) -> None:
        """Leave in good order: the broker does not publish the will."""
        self._stopped = True
        self._due.set()
        self._client.disconnect()
        self._client.loop_stop()
        self._connected.clear()

    def _make_client(self, client_id: str, will: tuple[str, bytes] | None) -> paho.Client:
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv5, manual_ack=True)
        client.suppress_exceptions = True  # a callback that fails must not end the network thread
        client.enable_logger(logging.getLogger(f"{__name__}.client"))
        client.username_pw_set(self._login.username, self._login.password)
        client.max_queued_messages_set(0)
        client.reconnect_delay_set(1, random.randint(15, 30))  # noqa: S311 - spreads devices, not a secret
        if self._login.tls:
            client.tls_set()
        if will is not None:
            client.will_set(will[0], will[1], qos=1, retain=True)
        client.on_connect = self._connection_answered
        client.on_connect_fail = self._connection_failed
        client.on_disconnect = self._disconnected
        client.on_subscribe = self._subscribed
        client.on_publish = self._published
        client.on_message = self._received
        return client

    def _connection_answered(self, client: paho.Client, _: Any, __: Any, reason: ReasonCode, ___: Any) -> None:
        if reason.is_failure:
            self._refused(client, reason)
            return
        client.reconnect_delay_set(1, random.randint(15, 30))  # noqa: S311
        self._outbox.connected()
        subscriptions = [(topic, SubscribeOptions(qos=1)) for topic in self._topics]
        if self._stored:
            subscriptions.append((self._stored, SubscribeOptions(qos=0)))
        if subscriptions:
            client.subscribe(subscriptions)
        else:
            self._ready()

    def _subscribed(self, _: paho.Client, __: Any, ___: int, reasons: list[ReasonCode], ____: Any) -> None:
        if self._stored:  # a device that was bound before the platform said what it has stored may not hear it
            *reasons, stored = reasons
            self._outbox.trusting = stored.is_failure
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            self.problem = f"the broker refused the subscription of {self._login.username}: {refused[0]}"
            log.error("%s; the platform's access list for this device is wrong", self.problem)
        else:
            self._ready()

    def _ready(self) -> None:
        self.problem = ""
        self._connected.set()
        self._due.set()
        log.info("connected to the broker at %s:%d", self._login.host, self._login.port)
        self._on_connected()

    def _refused(self, client: paho.Client, reason: ReasonCode) -> None:
        self._connected.clear()
        self.problem = f"the broker refused the connection: {reason}"
        if reason.value not in CREDENTIAL_REFUSED:
            log.warning("%s; trying again", self.problem)
            return
        renewed = self._renewed_login()
        if renewed is not None and renewed.password != self._login.password:
            log.info("the credential was renewed; connecting with the new one")
            self._login = renewed
            client.username_pw_set(renewed.username, renewed.password)
            return
        self.problem = f"the broker refused the credential of {self._login.username}: {reason}"
        log.error(
            "%s. It was revoked or rotated on the platform: bind the device again there, or wait until it is allowed "
            "again. Trying again every %d s.", self.problem, REFUSED_RETRY_SECONDS,
        )  # fmt: skip
        client.reconnect_delay_set(REFUSED_RETRY_SECONDS, REFUSED_RETRY_SECONDS)

    def _connection_failed(self, _: paho.Client, __: Any) -> None:
        problem = f"cannot reach the broker at {self._login.host}:{self._login.port}"
        if self.problem != problem:
            log.warning("%s; trying again until it answers", problem)
        self.problem = problem

    def _disconnected(self, client: paho.Client, _: Any, __: Any, reason: ReasonCode, ___: Any) -> None:
        was_connected = self._connected.is_set()
        self._connected.clear()
        if not was_connected:
            return
        self.problem = f"the connection to the broker was lost: {reason}"
        if reason.value == SESSION_TAKEN_OVER:
            log.error(
                "another agent has connected with this device's identity. Two agents must not share one: give the "
                "second its own --home and its own enrolment code."
            )
            client.reconnect_delay_set(REFUSED_RETRY_SECONDS, REFUSED_RETRY_SECONDS)
        elif reason.is_failure:
            log.warning("%s; connecting again", self.problem)

    def _published(self, _: paho.Client, __: Any, mid: int, reason: ReasonCode, ___: Any) -> None:
        self._outbox.answered(mid, reason.value, str(reason))
        self._due.set()

    def _received(self, _: paho.Client, __: Any, message: paho.MQTTMessage) -> None:
        if self._stored and message.topic.endswith(STORED):
            self._hear_stored(bytes(message.payload))
        else:
            self.inbox.put(Incoming(message.topic, bytes(message.payload), message.mid, message.qos))

    def _hear_stored(self, payload: bytes) -> None:
        try:
            said = json.loads(payload)
            self._outbox.stored(str(said["instance"]), [int(seq) for seq in said["seqs"]])
            for refused in said.get("refused", ()):
                log.warning("the platform refused a message: %.300s", refused["reason"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            log.warning("cannot read what the platform says that it has stored")
