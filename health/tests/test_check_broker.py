"""The check of the broker, with a real one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import override_settings

from health.checks import broker as check
from health.checks.interface import Level
from tests.servers import MosquittoServer


class OpenBroker(MosquittoServer):
    """A broker that somebody set up without credentials."""

    def command(self) -> list[str]:
        program, *_ = super().command()
        configuration = self.directory / "open.conf"
        configuration.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        return [program, "-c", str(configuration)]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Something that takes connections and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_message_comes_back(broker: MosquittoServer) -> None:
    outcome = check.ask()
    assert outcome.level is Level.OK
    assert outcome.text.startswith("A message came back in ")
    facts = dict(outcome.facts)
    assert facts["broker"] == f"127.0.0.1:{broker.port}"
    assert facts["user"] == "platform"


def test_the_broker_is_away() -> None:
    with override_settings(MQTT_PORT=1):
        outcome = check.ask()
    assert (outcome.level, outcome.text) == (Level.FAILED, "The broker cannot be reached.")
    assert dict(outcome.facts)["error"] == "Connection refused"
    assert "ROUNDTABLE_MQTT_HOST" in outcome.fix


def test_a_wrong_password_is_named_and_not_shown(broker: MosquittoServer) -> None:
    with override_settings(MQTT_PASSWORD="wrong-secret"):
        outcome = check.ask()
    assert (outcome.level, outcome.text) == (Level.FAILED, "The broker refuses the platform's credential.")
    assert "`manage.py broker_config`" in outcome.fix
    assert "wrong-secret" not in repr(outcome)


def test_one_that_lets_everybody_in_fails(tmp_path: Path) -> None:
    with OpenBroker(tmp_path) as server, override_settings(MQTT_PORT=server.port):
        outcome = check.ask()
    assert (outcome.level, outcome.text) == (
        Level.FAILED,
        "The broker lets in whoever connects, without a credential.",
    )


def test_one_that_says_nothing_is_given_up(silent_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "STEP_SECONDS", 0.3)
    with override_settings(MQTT_PORT=silent_port):
        outcome = check.ask()
    assert (outcome.level, outcome.text) == (Level.FAILED, "The broker does not pass a message on.")


def test_no_name_is_found_for_the_host() -> None:
    with override_settings(MQTT_HOST="broker.invalid"):
        assert check.ask().level is Level.FAILED
