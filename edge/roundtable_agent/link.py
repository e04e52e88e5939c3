"""The connection to the broker: MQTT 5, one session over any number of connections, acknowledgements by hand."""

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

from .plan import MqttLogin

KEEPALIVE_SECONDS = 15
REFUSED_RETRY_SECONDS = 30
CREDENTIAL_REFUSED = (134, 135)  # bad user name or password, not authorized
SESSION_TAKEN_OVER = 142

log = logging.getLogger(__name__)


class Delivery:
    """A published message on its way.

    Attributes:
        refused: why the broker did not take it; empty while on its way and when it was taken.
    """

    def __init__(self) -> None:
        self.refused = ""
        self._settled = threading.Event()

    @property
    def settled(self) -> bool:
        """Whether the broker has answered."""
        return self._settled.is_set()

    @property
    def acknowledged(self) -> bool:
        """Whether the broker has taken the message."""
        return self._settled.is_set() and not self.refused

    def wait(self, seconds: float) -> bool:
        """Wait for the broker's answer; returns whether it took the message."""
        self._settled.wait(seconds)
        return self.acknowledged

    def settle(self, refused: str = "") -> None:
        """Note the broker's answer."""
        self.refused = refused
        self._settled.set()


@dataclass(frozen=True)
class Incoming:
    """A message from the broker, to be acknowledged with `Link.acknowledge` once it is dealt with."""

    topic: str
    payload: bytes
    mid: int
    qos: int


class Link:
    """One client of the broker, which connects again by itself for as long as it is open.

    What is published while the broker is away is kept in memory and sent when it is back, in order.

    Parameters:
        login: where and as whom.
        client_id: fixed, so that the session is found again.
        session_seconds: how long the broker keeps the session while the client is away.
        will: (topic, payload) that the broker publishes, retained, when the connection breaks.
        topics: what to subscribe to, at each connection.
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
        on_connected: Callable[[], None] = lambda: None,
        renewed_login: Callable[[], MqttLogin | None] = lambda: None,
    ) -> None:
        self.inbox: queue.Queue[Incoming] = queue.Queue()
        self.problem = "not connected yet"
        self._login = login
        self._session_seconds = session_seconds
        self._topics = topics
        self._on_connected = on_connected
        self._renewed_login = renewed_login
        self._connected = threading.Event()
        self._lock = threading.Lock()
        self._waiting: dict[int, Delivery] = {}
        self._early: dict[int, str] = {}
        self._client = self._make_client(client_id, will)

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the connection and it has not broken since."""
        return self._connected.is_set()

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

    def wait_connected(self, seconds: float) -> bool:
        """Wait for a connection."""
        return self._connected.wait(seconds)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> Delivery:
        """Send a message at least once (QoS 1).

        Returns:
            Its delivery, which is settled when the broker has answered, be it after any number of connections.
        """
        delivery = Delivery()
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        if info.rc == paho.MQTT_ERR_QUEUE_SIZE:
            delivery.settle("too many messages wait for the broker")
            return delivery
        with self._lock:  # never held around a call of the client, whose own locks the callbacks hold
            if info.mid in self._early:
                delivery.settle(self._early.pop(info.mid))
            else:
                self._waiting[info.mid] = delivery
        return delivery

    def acknowledge(self, incoming: Incoming) -> None:
        """Tell the broker that a message was dealt with and need not be sent again."""
        self._client.ack(incoming.mid, incoming.qos)

    def stop(self) -> None:
        """Leave in good order: the broker does not publish the will."""
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
        if self._topics:
            client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in self._topics])
        else:
            self._ready()

    def _subscribed(self, _: paho.Client, __: Any, ___: int, reasons: list[ReasonCode], ____: Any) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            self.problem = f"the broker refused the subscription of {self._login.username}: {refused[0]}"
            log.error("%s; the platform's access list for this device is wrong", self.problem)
        else:
            self._ready()

    def _ready(self) -> None:
        self.problem = ""
        self._connected.set()
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
        refused = str(reason) if reason.is_failure else ""
        with self._lock:
            delivery = self._waiting.pop(mid, None)
            if delivery is None:
                self._early[mid] = refused
        if delivery is not None:
            delivery.settle(refused)

    def _received(self, _: paho.Client, __: Any, message: paho.MQTTMessage) -> None:
        self.inbox.put(Incoming(message.topic, bytes(message.payload), message.mid, message.qos))


def wait_settled(deliveries: list[Delivery], seconds: float) -> bool:
    """Wait for several deliveries together; returns whether the broker took all of them."""
    deadline = time.monotonic() + seconds
    return all(delivery.wait(max(0.0, deadline - time.monotonic())) for delivery in deliveries)
