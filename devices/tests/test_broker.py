"""Credentials and commands on a real broker. Who may do what is tested by delivery: some refusals are silent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from django.test import override_settings
from pytest_django import Settings

from devices.broker import (
    BrokerRefused,
    BrokerUnavailable,
    DeviceCredentials,
    aggregator_credential_create,
    aggregator_credential_revoke,
    commands_publish,
    device_credentials_create,
    device_credentials_revoke,
    platform_client_id,
)
from devices.tests.mqtt import Mqtt, Refused, platform
from tests.servers import MosquittoServer, free_port

# Every kind of topic for two devices and two runs, and some that nobody but the platform has.
TOPICS = [
    *(f"edges/{edge}/{kind}" for edge in (11, 12) for kind in ("presence", "status", "command")),
    *(
        f"runs/{run}/{edge}/{kind}"
        for run in (7, 8)
        for edge in (0, 11, 12)
        for kind in ("metrics", "round", "event", "system", "model", "log", "status", "fl/up", "fl/down")
    ),
    "edges/11",
    "runs/7",
    "elsewhere",
]
WIDE_FILTERS = [
    "#",
    "+/#",
    "edges/#",
    "edges/+/command",
    "runs/#",
    "runs/+/+/fl/+",
    "runs/7/#",
    "runs/+/11/#",
    "$SYS/#",
]


@dataclass(frozen=True)
class Login:
    user: str
    password: str

    def connect(self) -> Mqtt:
        return Mqtt(self.user, self.password)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MosquittoServer]:
    """A broker of these tests alone: what other tests leave retained in the session's would be heard here."""
    with MosquittoServer(tmp_path_factory.mktemp("broker")) as server, override_settings(MQTT_PORT=server.port):
        yield server


@pytest.fixture(scope="module")
def logins(broker: MosquittoServer) -> Iterator[dict[str, Login]]:
    """Credentials of two devices and of the aggregator of run 7."""
    logins = {}
    for edge_id in (11, 12):
        made = device_credentials_create(edge_id)
        logins[made.agent_user] = Login(made.agent_user, made.agent_password)
        logins[made.instance_user] = Login(made.instance_user, made.instance_password)
    user, password = aggregator_credential_create(7)
    logins[user] = Login(user, password)
    yield logins
    for edge_id in (11, 12):
        device_credentials_revoke(edge_id)
    aggregator_credential_revoke(7)


MAY_PUBLISH = {
    "agent-11": {
        *("edges/11/presence", "edges/11/status"),
        *("runs/7/11/log", "runs/7/11/system", "runs/8/11/log", "runs/8/11/system"),
    },
    "instances-11": {
        f"runs/{run}/11/{kind}" for run in (7, 8) for kind in ("metrics", "event", "model", "fl/up")
    },
    "aggregator-7": {topic for topic in TOPICS if topic.startswith("runs/7/0/")}
    | {f"runs/7/{edge}/fl/down" for edge in (0, 11, 12)},
}  # fmt: skip
MAY_READ = {
    "agent-11": {"edges/11/command"},
    "instances-11": {"runs/7/11/fl/down", "runs/8/11/fl/down"},
    "aggregator-7": {f"runs/7/{edge}/fl/up" for edge in (0, 11, 12)},
}


@pytest.mark.parametrize("user", sorted(MAY_PUBLISH))
def test_a_credential_publishes_to_its_own_topics_alone(logins: dict[str, Login], user: str) -> None:
    refused = []
    with platform() as listener, platform() as sender:
        listener.subscribe("#")
        for topic in TOPICS:
            with logins[user].connect() as client:  # a connection each: the broker ends it after a refusal
                if client.publish(topic) == "Not authorized":
                    refused.append(topic)
        sender.publish("end")
        arrived = listener.topics_until("end")
    assert sorted(arrived) == sorted(MAY_PUBLISH[user])
    assert sorted(refused) == sorted(set(TOPICS) - MAY_PUBLISH[user])


@pytest.mark.parametrize("user", sorted(MAY_READ))
@pytest.mark.parametrize("wide", [True, False], ids=["wide filters", "exact topics"])
def test_a_credential_reads_its_own_topics_alone(logins: dict[str, Login], user: str, wide: bool) -> None:
    with platform() as sender, logins[user].connect() as client:
        client.subscribe(*(WIDE_FILTERS if wide else []), *(MAY_READ[user] if wide else TOPICS))
        own = sorted(MAY_READ[user])
        for topic in [*(topic for topic in TOPICS if topic not in own[-1:]), own[-1]]:
            sender.publish(topic)
        arrived = set(client.topics_until(own[-1])) | {own[-1]}
    assert arrived == MAY_READ[user]


@pytest.mark.parametrize("user", sorted(MAY_READ))
def test_a_credential_gets_nothing_of_others_by_shared_subscriptions(logins: dict[str, Login], user: str) -> None:
    own = sorted(MAY_READ[user])
    with platform() as sender, logins[user].connect() as client:
        client.subscribe(*(f"$share/group/{topic}" for topic in [*WIDE_FILTERS[:-1], *TOPICS]))
        client.subscribe(*own)
        for topic in [*TOPICS, own[-1]]:
            sender.publish(topic, b"end" if topic == own[-1] else b"{}")
        arrived = set(client.topics_until(own[-1]))
    assert arrived <= MAY_READ[user]


@pytest.mark.parametrize("user", sorted(MAY_READ))
def test_a_credential_gets_no_retained_message_of_others(logins: dict[str, Login], user: str) -> None:
    own = sorted(MAY_READ[user])
    retained = [topic for topic in TOPICS if topic not in own]
    with platform() as sender:
        for topic in retained:
            sender.publish(topic, b"kept", retain=True)
        try:
            with logins[user].connect() as client:
                client.subscribe(*WIDE_FILTERS, *TOPICS)
                sender.publish(own[0])
                assert client.topics_until(own[0]) == []
        finally:
            for topic in retained:
                sender.publish(topic, b"", retain=True)


@pytest.mark.parametrize("user", sorted(MAY_READ))
def test_only_the_platform_changes_credentials(logins: dict[str, Login], user: str) -> None:
    command = {"command": "setClientPassword", "username": "agent-12", "password": "taken"}
    with logins[user].connect() as client:
        client.publish_unheard("$CONTROL/dynamic-security/v1", json.dumps({"commands": [command]}).encode())
        assert client.cut.get(timeout=2).is_failure
    with pytest.raises(Refused, match="Not authorized"):
        Login("agent-12", "taken").connect().__enter__()
    with logins["agent-12"].connect():
        pass


def test_a_will_on_anothers_topic_is_not_published(logins: dict[str, Login]) -> None:
    login = logins["agent-11"]
    with platform() as listener, platform() as sender:
        listener.subscribe("edges/#", "end")
        with Mqtt(login.user, login.password, will="edges/12/presence") as agent:
            agent.break_off()
            agent.cut.get(timeout=2)
        with Mqtt(login.user, login.password, will="edges/11/presence") as agent:
            agent.break_off()
        assert listener.received.get(timeout=2)[0] == "edges/11/presence"
        sender.publish("end")
        assert listener.topics_until("end") == []


def test_the_will_is_published_when_an_agent_breaks_off(logins: dict[str, Login]) -> None:
    login = logins["agent-11"]
    with platform() as listener, Mqtt(login.user, login.password, will="edges/11/presence") as agent:
        listener.subscribe("edges/+/presence")
        agent.break_off()
        assert listener.received.get(timeout=2) == ("edges/11/presence", b'{"state": "OFFLINE"}')


def test_new_passwords_end_the_old_ones_and_cut_who_is_connected(broker: MosquittoServer) -> None:
    old = device_credentials_create(21)
    with Mqtt(old.agent_user, old.agent_password) as agent, Mqtt(old.instance_user, old.instance_password) as instance:
        new = device_credentials_create(21)
        assert str(agent.cut.get(timeout=2)) == "Administrative action"
        assert str(instance.cut.get(timeout=2)) == "Administrative action"
    with pytest.raises(Refused, match="Not authorized"):
        Mqtt(old.agent_user, old.agent_password).__enter__()
    assert (new.agent_user, new.instance_user) == (old.agent_user, old.instance_user)
    with Mqtt(new.agent_user, new.agent_password) as agent:
        agent.subscribe("edges/21/command")
        commands_publish([(21, {"type": "stop_train", "run_id": 1})])
        assert agent.received.get(timeout=2) == ("edges/21/command", b'{"type":"stop_train","run_id":1}')
    device_credentials_revoke(21)


def test_making_credentials_again_restores_their_topics(broker: MosquittoServer) -> None:
    made = device_credentials_create(22)
    with platform() as admin:
        command = {
            "command": "addRoleACL",
            "rolename": "agent-22",
            "acltype": "publishClientSend",
            "topic": "elsewhere",
        }
        admin.publish(
            "$CONTROL/dynamic-security/v1",
            json.dumps({"commands": [command | {"allow": True, "priority": 0}]}).encode(),
        )
    made = device_credentials_create(22)
    with Mqtt(made.agent_user, made.agent_password) as agent:
        assert agent.publish("elsewhere") == "Not authorized"
    device_credentials_revoke(22)


def test_revoking_cuts_the_device_off_and_clears_its_presence(broker: MosquittoServer) -> None:
    made = device_credentials_create(23)
    with Mqtt(made.agent_user, made.agent_password) as agent, platform() as listener:
        agent.publish("edges/23/presence", b'{"state": "ONLINE"}', retain=True)
        device_credentials_revoke(23)
        assert str(agent.cut.get(timeout=2)) == "Administrative action"
        listener.subscribe("edges/23/presence")
        listener.publish("edges/23/presence", b"end")
        assert listener.received.get(timeout=2) == ("edges/23/presence", b"end")
    for user, password in ((made.agent_user, made.agent_password), (made.instance_user, made.instance_password)):
        with pytest.raises(Refused, match="Not authorized"):
            Mqtt(user, password).__enter__()


def test_revoking_what_does_not_exist_is_fine(broker: MosquittoServer) -> None:
    device_credentials_revoke(999)
    aggregator_credential_revoke(999)


def test_an_aggregators_credential_ends_with_its_revocation(broker: MosquittoServer) -> None:
    user, password = aggregator_credential_create(31)
    with Mqtt(user, password) as aggregator:
        aggregator_credential_revoke(31)
        assert str(aggregator.cut.get(timeout=2)) == "Administrative action"
    with pytest.raises(Refused, match="Not authorized"):
        Mqtt(user, password).__enter__()


def test_nobody_connects_without_a_credential(broker: MosquittoServer) -> None:
    with pytest.raises(Refused, match="Not authorized"):
        Mqtt("", "").__enter__()


def test_a_command_waits_for_an_agent_that_is_away(broker: MosquittoServer) -> None:
    made = device_credentials_create(24)
    login = (made.agent_user, made.agent_password, "agent-24")
    with Mqtt(*login, session_seconds=3600) as agent:
        agent.subscribe("edges/24/command")
    commands_publish([(24, {"run_id": 1}), (25, {"run_id": 2}), (24, {"run_id": 3})])
    with Mqtt(*login, session_seconds=3600, clean_start=False) as agent:
        assert [agent.received.get(timeout=2)[1] for _ in range(2)] == [b'{"run_id":1}', b'{"run_id":3}']
    device_credentials_revoke(24)


def test_credentials_survive_a_restart_of_the_broker(tmp_path: Path, settings: Settings) -> None:
    with MosquittoServer(tmp_path) as server:
        settings.MQTT_PORT = server.port
        made = device_credentials_create(1)
        server.stop()
        server.start()
        with Mqtt(made.agent_user, made.agent_password) as agent:
            assert agent.publish("edges/1/presence") != "Not authorized"


def test_a_broker_that_is_away_is_named_in_the_error(settings: Settings) -> None:
    settings.MQTT_PORT = free_port()
    for call in (
        lambda: device_credentials_create(1),
        lambda: device_credentials_revoke(1),
        lambda: aggregator_credential_create(1),
        lambda: commands_publish([(1, {})]),
    ):
        with pytest.raises(BrokerUnavailable, match=f"The MQTT broker at 127.0.0.1:{settings.MQTT_PORT} cannot be"):
            call()


def test_a_wrong_platform_password_is_an_error_with_a_way_out(broker: MosquittoServer, settings: Settings) -> None:
    settings.MQTT_PASSWORD = "wrong"
    with pytest.raises(BrokerRefused, match=r"run `manage.py broker_config`"):
        device_credentials_create(1)


def test_no_commands_need_no_broker(settings: Settings) -> None:
    settings.MQTT_PORT = free_port()
    commands_publish([])


def test_passwords_are_not_in_the_repr() -> None:
    made = DeviceCredentials("agent-1", "secret-a", "instances-1", "secret-b")
    assert "secret" not in repr(made)


def test_a_platform_client_id_is_stable_and_cannot_be_guessed(settings: Settings) -> None:
    settings.MQTT_PASSWORD = "one"
    first = platform_client_id("ingest-0")
    assert first == platform_client_id("ingest-0")
    assert first != platform_client_id("ingest-1")
    assert first.startswith("ingest-0-")
    settings.MQTT_PASSWORD = "two"
    assert first != platform_client_id("ingest-0")


def test_the_platform_shares_subscriptions_among_its_workers(logins: dict[str, Login]) -> None:
    with platform("worker-a") as one, platform("worker-b") as other, logins["instances-11"].connect() as sender:
        for worker in (one, other):
            worker.subscribe("$share/ingest/runs/+/+/metrics")
        for number in range(10):
            sender.publish("runs/7/11/metrics", b"%d" % number)
        for worker in (one, other):
            worker.subscribe("end")
        one.publish("end")
        heard = [worker.topics_until("end") for worker in (one, other)]
    assert sum(len(topics) for topics in heard) == 10


def test_changes_at_the_same_time_do_not_mix_up_their_answers(broker: MosquittoServer) -> None:
    edge_ids = range(40, 48)
    for edge_id in edge_ids[::2]:
        device_credentials_create(edge_id)  # half of them are new, half are renewed: the answers differ
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(device_credentials_create, edge_ids))
    for credentials in made:
        with Mqtt(credentials.agent_user, credentials.agent_password):
            pass
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(device_credentials_revoke, edge_ids))
