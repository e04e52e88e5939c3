"""The platform's side of the MQTT broker: credentials of devices and aggregators, and the commands sent to agents.

Credentials live in mosquitto's dynamic-security plugin and are changed over its control topic
(https://mosquitto.org/documentation/dynamic-security/). Who may use which topic is written in ``docs/protocol.md``,
section 1. Passwords are random, are returned once, and are neither stored nor logged here.

Every function opens a short-lived connection of its own and blocks until the broker has answered.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import queue
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson
from django.conf import settings
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

logger = logging.getLogger(__name__)

CONTROL_TOPIC = "$CONTROL/dynamic-security/v1"
ANSWER_TOPIC = f"{CONTROL_TOPIC}/response"
ANSWER_SECONDS = 15.0

T = TypeVar("T")


class BrokerError(Exception):
    """The broker did not do what was asked. The message is a sentence for people."""


class BrokerUnavailable(BrokerError):
    """The broker cannot be reached, or did not answer in time. Trying again later may help."""


class BrokerRefused(BrokerError):
    """The broker refused what was asked. Trying again changes nothing."""


@dataclass(frozen=True)
class DeviceCredentials:
    """The two MQTT credentials of a device. The passwords exist here and on the device alone."""

    agent_user: str
    agent_password: str = field(repr=False)
    instance_user: str
    instance_password: str = field(repr=False)


@dataclass(frozen=True)
class _Credential:
    """A user of the broker with a role of its own: the topics that it may publish to and read."""

    name: str
    publish: tuple[str, ...]
    read: tuple[str, ...]

    @property
    def acls(self) -> list[dict[str, Any]]:
        rules = [("publishClientSend", topic) for topic in self.publish]
        rules += [(kind, topic) for topic in self.read for kind in ("subscribePattern", "publishClientReceive")]
        return [{"acltype": kind, "topic": topic, "priority": 0, "allow": True} for kind, topic in rules]


def _agent(edge_id: int) -> _Credential:
    return _Credential(
        f"agent-{edge_id}",
        publish=(
            f"edges/{edge_id}/presence",
            f"edges/{edge_id}/status",
            f"runs/+/{edge_id}/log",
            f"runs/+/{edge_id}/system",
        ),
        read=(f"edges/{edge_id}/command", f"runs/+/{edge_id}/stored"),
    )


def _instances(edge_id: int) -> _Credential:
    return _Credential(
        f"instances-{edge_id}",
        publish=tuple(f"runs/+/{edge_id}/{kind}" for kind in ("metrics", "event", "model", "fl/up")),
        read=(f"runs/+/{edge_id}/fl/down", f"runs/+/{edge_id}/stored"),
    )


def _aggregator(run_id: int) -> _Credential:
    return _Credential(
        f"aggregator-{run_id}",
        publish=(f"runs/{run_id}/0/#", f"runs/{run_id}/+/fl/down"),
        read=(f"runs/{run_id}/+/fl/up", f"runs/{run_id}/0/stored"),
    )


def device_credentials_create(edge_id: int) -> DeviceCredentials:
    """Make the credentials of a device, or give it new passwords where it has them already.

    Connections that were opened with the old passwords are cut at once.

    Raises:
        BrokerUnavailable: the broker is away.
        BrokerRefused: the broker refused.
    """
    agent, instances = _agent(edge_id), _instances(edge_id)
    agent_password, instance_password = _password(), _password()
    _credentials_set([(agent, agent_password), (instances, instance_password)])
    return DeviceCredentials(agent.name, agent_password, instances.name, instance_password)


def device_credentials_revoke(edge_id: int) -> None:
    """End the credentials of a device, cut its connections, and clear its retained presence.

    A device that has none is fine.

    Raises:
        BrokerUnavailable: the broker is away.
        BrokerRefused: the broker refused.
    """
    with _connection() as connection:
        connection.control(_removal(_agent(edge_id)) + _removal(_instances(edge_id)), forgive="not found")
        connection.publish([(f"edges/{edge_id}/presence", b"")], retain=True)


def aggregator_credential_create(run_id: int) -> tuple[str, str]:
    """Make the credential of a run's aggregator, or give it a new password; return user and password.

    Raises:
        BrokerUnavailable: the broker is away.
        BrokerRefused: the broker refused.
    """
    aggregator, password = _aggregator(run_id), _password()
    _credentials_set([(aggregator, password)])
    return aggregator.name, password


def aggregator_credential_revoke(run_id: int) -> None:
    """End the credential of a run's aggregator and cut its connections. One that does not exist is fine.

    Raises:
        BrokerUnavailable: the broker is away.
        BrokerRefused: the broker refused.
    """
    with _connection() as connection:
        connection.control(_removal(_aggregator(run_id)), forgive="not found")


def commands_publish(commands: Iterable[tuple[int, dict[str, Any]]]) -> None:
    """Send commands to the agents of devices (QoS 1) and wait until the broker has them all.

    A device that is away for less than its session's expiry (a day) gets its command when it is back.

    Args:
        commands: pairs of edge id and payload (``docs/protocol.md``, section 3).

    Raises:
        BrokerUnavailable: the broker is away; none, some or all of the commands were taken.
        BrokerRefused: the broker refused one.
    """
    messages = [(f"edges/{edge_id}/command", orjson.dumps(payload)) for edge_id, payload in commands]
    if messages:
        with _connection() as connection:
            connection.publish(messages)


def platform_client_id(name: str) -> str:
    """Return the MQTT client id of a platform process that keeps a session, such as an ingest worker's slot.

    The broker lets any credential take over a session by its client id, which loses what is queued in it. So the id is
    made unguessable by the platform's own secret, and is the same at every start.
    """
    secret = hmac.new(settings.MQTT_PASSWORD.encode(), name.encode(), hashlib.sha256).hexdigest()[:20]
    return f"{name}-{secret}"


def client_new(client_id: str, *, reconnect: bool = True, manual_ack: bool = False) -> Client:
    """Return an MQTT 5 client with the platform's credential and the TLS settings, not connected yet.

    Args:
        client_id: see ``platform_client_id`` for clients that keep a session.
        reconnect: connect again whenever the connection is lost.
        manual_ack: the caller acknowledges what it receives.
    """
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        protocol=MQTTProtocolVersion.MQTTv5,
        reconnect_on_failure=reconnect,
        manual_ack=manual_ack,
    )
    client.username_pw_set(settings.MQTT_USER, settings.MQTT_PASSWORD)
    if settings.MQTT_TLS:
        client.tls_set(ca_certs=settings.MQTT_CA or None)
    return client


def _password() -> str:
    return secrets.token_urlsafe(32)


def _credentials_set(credentials: Sequence[tuple[_Credential, str]]) -> None:
    """Create the credentials; those that exist get the password and exactly the topics of theirs."""
    creation: list[dict[str, Any]] = []
    change: list[dict[str, Any]] = []
    for credential, password in credentials:
        role = {"rolename": credential.name, "acls": credential.acls}
        client = {"username": credential.name, "password": password, "roles": [{"rolename": credential.name}]}
        creation += [{"command": "createRole"} | role, {"command": "createClient"} | client]
        change += [{"command": "modifyRole"} | role, {"command": "modifyClient"} | client]
    with _connection() as connection:
        existing = connection.control(creation, forgive="already exists")
        if existing:
            connection.control([change[index] for index in existing])


def _removal(credential: _Credential) -> list[dict[str, Any]]:
    return [
        {"command": "deleteClient", "username": credential.name},
        {"command": "deleteRole", "rolename": credential.name},
    ]


@contextmanager
def _connection() -> Iterator[_Connection]:
    connection = _Connection()
    try:
        connection.open()
        yield connection
    finally:
        connection.close()


class _Connection:
    """One short connection to the broker. paho's network thread hands what arrives to the caller over queues."""

    def __init__(self) -> None:
        self._client = client_new(f"platform-{secrets.token_hex(10)}", reconnect=False)
        # None in any of them: the connection was lost.
        self._connected: queue.SimpleQueue[ReasonCode | None] = queue.SimpleQueue()
        self._subscribed: queue.SimpleQueue[ReasonCode | None] = queue.SimpleQueue()
        self._published: queue.SimpleQueue[ReasonCode | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_publish = self._on_publish
        self._client.on_message = self._on_message

    def open(self) -> None:
        try:
            self._client.connect(settings.MQTT_HOST, settings.MQTT_PORT, keepalive=30)
        except OSError as error:
            raise BrokerUnavailable(
                f"The MQTT broker at {settings.MQTT_HOST}:{settings.MQTT_PORT} cannot be reached "
                f"({error.strerror or type(error).__name__}); start it, then try again."
            ) from error
        self._client.loop_start()
        code = self._wait(self._connected, "to the connection")
        if code.is_failure:
            raise BrokerRefused(
                f"The MQTT broker refused the platform's credential ({code}); stop the broker, run "
                "`manage.py broker_config` to bring its files up to date, and start it again."
            )

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def control(self, commands: list[dict[str, Any]], forgive: str | None = None) -> list[int]:
        """Send commands to the security plugin in one message and wait for the answer to each.

        Returns:
            The positions of the commands that failed with an error that contains ``forgive``.
        """
        self._client.subscribe(ANSWER_TOPIC, qos=1)
        self._wait(self._subscribed, "to the subscription")
        # Every platform process that waits for an answer hears those to the others too.
        mark = secrets.token_hex(8)
        marked = [command | {"correlationData": mark} for command in commands]
        self._client.publish(CONTROL_TOPIC, orjson.dumps({"commands": marked}), qos=1)
        self._check_published()
        answers = self._answers_marked(mark)
        forgiven = []
        for position, (command, answer) in enumerate(zip(commands, answers, strict=True)):
            error = answer.get("error")
            if error is None:
                continue
            if forgive is None or forgive not in error:
                raise BrokerRefused(f"The MQTT broker refused {command['command']}: {error}.")
            forgiven.append(position)
        return forgiven

    def _answers_marked(self, mark: str) -> list[dict[str, Any]]:
        while True:
            answers: list[dict[str, Any]] = orjson.loads(self._wait(self._answers, "to a change of credentials"))[
                "responses"
            ]
            if answers and answers[0].get("correlationData") == mark:
                return answers

    def publish(self, messages: Sequence[tuple[str, bytes]], retain: bool = False) -> None:
        """Publish (topic, payload) pairs and wait until the broker has acknowledged each."""
        for topic, payload in messages:
            self._client.publish(topic, payload, qos=1, retain=retain)
        for _ in messages:
            self._check_published()

    def _check_published(self) -> None:
        code = self._wait(self._published, "to a message")
        if code.is_failure:
            raise BrokerRefused(f"The MQTT broker refused a message of the platform: {code}.")

    def _wait(self, answers: queue.SimpleQueue[T | None], what: str) -> T:
        broker = f"The MQTT broker at {settings.MQTT_HOST}:{settings.MQTT_PORT}"
        try:
            answer = answers.get(timeout=ANSWER_SECONDS)
        except queue.Empty:
            raise BrokerUnavailable(
                f"{broker} did not answer {what} within {ANSWER_SECONDS:.0f} seconds; look at its log, then try again."
            ) from None
        if answer is None:
            raise BrokerUnavailable(f"{broker} closed the connection before it answered {what}; try again.")
        return answer

    def _on_connect(
        self, client: Client, userdata: Any, flags: ConnectFlags, code: ReasonCode, properties: Properties | None
    ) -> None:
        self._connected.put(code)

    def _on_disconnect(
        self, client: Client, userdata: Any, flags: DisconnectFlags, code: ReasonCode, properties: Properties | None
    ) -> None:
        for answers in (self._connected, self._subscribed, self._published, self._answers):
            answers.put(None)

    def _on_subscribe(
        self, client: Client, userdata: Any, mid: int, codes: list[ReasonCode], properties: Properties | None
    ) -> None:
        self._subscribed.put(codes[0])

    def _on_publish(
        self, client: Client, userdata: Any, mid: int, code: ReasonCode, properties: Properties | None
    ) -> None:
        self._published.put(code)

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        self._answers.put(bytes(message.payload))
