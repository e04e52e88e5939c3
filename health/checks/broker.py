"""The MQTT broker: does a message come back with the platform's credential, and is everybody else kept out?"""

from __future__ import annotations

import queue
import secrets
import time
from typing import Any

from django.conf import settings
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from devices.broker import client_new
from health.checks.interface import Check, Level, Outcome, milliseconds

STEP_SECONDS = 4.0


class _Problem(Exception):
    """The broker does not do what it should: an outcome without facts."""

    def __init__(self, text: str, fix: str, error: str = "") -> None:
        super().__init__(text)
        self.fix = fix
        self.error = error


def ask() -> Outcome:
    """Publish a message and receive it, then see that nobody is let in without a credential."""
    try:
        latency = _round_trip()
        if _lets_strangers_in():
            raise _Problem(
                "The broker lets in whoever connects, without a credential.",
                "Start it with the configuration that `manage.py broker_config` writes (`allow_anonymous false`).",
            )
    except _Problem as problem:
        error = (("error", problem.error),) if problem.error else ()
        return Outcome(Level.FAILED, str(problem), fix=problem.fix, facts=(*_where(), *error))
    facts = (*_where(), ("round trip", milliseconds(latency)))
    return Outcome(Level.OK, f"A message came back in {milliseconds(latency)}.", facts=facts)


def _round_trip() -> float:
    """Publish a message (QoS 1) and return how many seconds later it was received."""
    topic = f"health/{secrets.token_hex(8)}"
    with _Connection(client_new(f"platform-health-{secrets.token_hex(8)}", reconnect=False)) as connection:
        if refusal := connection.connect():
            raise _Problem(
                "The broker refuses the platform's credential.",
                "Stop the broker, run `manage.py broker_config` with the broker's folder, and start it again; see that "
                "ROUNDTABLE_MQTT_USER and ROUNDTABLE_MQTT_PASSWORD are the same for every process.",
                refusal,
            )
        connection.client.subscribe(topic, qos=1)
        connection.wait("subscribed")
        began = time.perf_counter()
        connection.client.publish(topic, b"health", qos=1)
        connection.wait("message")
        return time.perf_counter() - began


def _lets_strangers_in() -> bool:
    client = client_new(f"stranger-{secrets.token_hex(8)}", reconnect=False)
    client.username = client.password = None
    with _Connection(client) as connection:
        return not connection.connect()


class _Connection:
    """A short connection. What happens is told to the caller by name, through a queue."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._events: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.connect_timeout = STEP_SECONDS

    def __enter__(self) -> _Connection:
        return self

    def __exit__(self, *_: Any) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def connect(self) -> str:
        """Connect and return why the broker refuses that; empty where it does not."""
        try:
            self.client.connect(settings.MQTT_HOST, settings.MQTT_PORT, keepalive=30)
        except OSError as error:
            raise _Problem(
                "The broker cannot be reached.",
                "Start it (`mosquitto -c` with the configuration that `manage.py broker_config` writes), and see that "
                "ROUNDTABLE_MQTT_HOST, ROUNDTABLE_MQTT_PORT and ROUNDTABLE_MQTT_TLS say how it is reached.",
                error.strerror or str(error),
            ) from error
        self.client.loop_start()
        return self.wait("connected")

    def wait(self, name: str) -> str:
        """Wait until this has happened, and return what was wrong with it."""
        deadline = time.monotonic() + STEP_SECONDS
        while True:
            try:
                event, wrong = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                event = "silence"
            if event == name:
                return wrong
            if event in ("silence", "disconnected"):
                raise _Problem(
                    "The broker does not pass a message on."
                    if event == "silence"
                    else "The broker closes the connection.",
                    "Look at the broker's log, and start it with the files that `manage.py broker_config` writes.",
                    f"{event}, waiting for: {name}",
                )

    def _on_connect(
        self, client: Client, userdata: Any, flags: ConnectFlags, code: ReasonCode, properties: Properties | None
    ) -> None:
        self._events.put(("connected", str(code) if code.is_failure else ""))

    def _on_disconnect(
        self, client: Client, userdata: Any, flags: DisconnectFlags, code: ReasonCode, properties: Properties | None
    ) -> None:
        self._events.put(("disconnected", str(code)))

    def _on_subscribe(
        self, client: Client, userdata: Any, mid: int, codes: list[ReasonCode], properties: Properties | None
    ) -> None:
        self._events.put(("subscribed", ""))

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        self._events.put(("message", ""))


def _where() -> tuple[tuple[str, str], ...]:
    tls = {True: ", TLS", False: ""}
    own = f"{settings.MQTT_HOST}:{settings.MQTT_PORT}{tls[settings.MQTT_TLS]}"
    told = f"{settings.MQTT_PUBLIC_HOST}:{settings.MQTT_PUBLIC_PORT}{tls[settings.MQTT_PUBLIC_TLS]}"
    return (("broker", own), ("devices are told", told), ("user", settings.MQTT_USER))


CHECK = Check(
    name="broker",
    title="MQTT broker",
    question="Does a message come back, and is everybody without a credential kept out?",
    ask=ask,
    seconds=10.0,
)
