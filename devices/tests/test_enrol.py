"""``POST /api/edge/enrol``: a one-time code against a device's secrets."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from devices import services
from devices.broker import device_credentials_create
from devices.models import Device, EnrolmentCode
from devices.services import device_from_token, enrolment_code_create
from devices.tests.mqtt import Mqtt, Refused
from devices.throttle import FAILURES_ALLOWED
from tests.servers import MosquittoServer, free_port

HOST = {"os": "Debian 12", "arch": "x86_64", "python": "3.11.2", "cpu": "EPYC", "cpu_count": 8, "memory_bytes": 2**34}


@pytest.fixture(autouse=True)
def no_failures_yet(redis_url: str) -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


def post(body: Any, client: Client | None = None, **extra: Any) -> tuple[int, dict[str, Any]]:
    data = body if isinstance(body, (str, bytes)) else json.dumps(body)
    response = (client or Client()).post("/api/edge/enrol", data, content_type="application/json", **extra)
    return response.status_code, response.json()


def test_a_code_is_easy_to_type_and_kept_as_a_digest(owner: User, settings: Settings) -> None:
    code = enrolment_code_create(owner)
    assert re.fullmatch(r"RT(-[0-9A-HJKMNP-TV-Z]{4}){3}", code)
    row = EnrolmentCode.objects.get()
    assert code.replace("-", "")[2:] not in json.dumps(str(vars(row)))
    lifetime = (row.expires_at - timezone.now()).total_seconds()
    assert settings.ENROLMENT_CODE_SECONDS - 5 < lifetime <= settings.ENROLMENT_CODE_SECONDS


def test_a_device_gets_its_secrets_and_they_work(broker: MosquittoServer, owner: User, settings: Settings) -> None:
    code = enrolment_code_create(owner)
    status, answer = post({"code": code, "name": "lab-east", "host": HOST})
    assert status == 200
    device = Device.objects.get()
    assert (device.owner, device.name, device.os, device.cpu_count, device.online, device.unbound_at) == (
        owner,
        "lab-east",
        "Debian 12",
        8,
        False,
        None,
    )
    assert answer["edge_id"] == device.pk
    assert answer["mqtt"] == {"host": "127.0.0.1", "port": broker.port, "tls": False}
    assert answer["registry"] is None
    assert device_from_token(answer["device_token"]) == device
    for login, user in ((answer["agent_mqtt"], "agent"), (answer["instance_mqtt"], "instances")):
        assert login["username"] == f"{user}-{device.pk}"
        with Mqtt(login["username"], login["password"]):
            pass
    secret = answer["device_token"].split("_", 2)[2]
    assert secret not in str(vars(device))
    row = EnrolmentCode.objects.get()
    assert row.device == device
    assert row.used_at is not None


def test_a_device_gets_the_login_that_may_pull_images(broker: MosquittoServer, owner: User, settings: Settings) -> None:
    settings.REGISTRY = "registry.example:5000/team"
    settings.REGISTRY_USER, settings.REGISTRY_PASSWORD = "pusher", "may push"
    settings.REGISTRY_PULL_USER, settings.REGISTRY_PULL_PASSWORD = "puller", "may pull"
    status, answer = post({"code": enrolment_code_create(owner), "name": "lab-east", "host": HOST})
    assert status == 200
    assert answer["registry"] == {"address": "registry.example:5000", "username": "puller", "password": "may pull"}
    assert "may push" not in json.dumps(answer)


def test_a_device_without_a_name_is_called_something(broker: MosquittoServer, owner: User) -> None:
    assert post({"code": enrolment_code_create(owner), "name": " \u0000 "})[0] == 200
    assert Device.objects.get().name == "device"


def test_a_code_may_be_typed_in_another_way(broker: MosquittoServer, owner: User) -> None:
    code = enrolment_code_create(owner)
    typed = code.lower().replace("-", " ").replace("0", "o").replace("1", "l")
    assert post({"code": f" {typed} "})[0] == 200


def test_a_code_binds_once(broker: MosquittoServer, owner: User) -> None:
    code = enrolment_code_create(owner)
    assert post({"code": code})[0] == 200
    status, answer = post({"code": code})
    assert (status, answer) == (
        409,
        {"error": 'This enrolment code has been used already; make a new one on the page "Bind a device".'},
    )
    assert Device.objects.count() == 1


@pytest.mark.parametrize("code", ["RT-0000-0000-0000", "", "RT", "no code", "RT-0000-0000-000U", "x" * 100])
def test_a_wrong_code_binds_nothing(owner: User, code: str) -> None:
    enrolment_code_create(owner)
    status, answer = post({"code": code})
    assert (status, answer) == (
        401,
        {"error": 'This enrolment code is not known; copy it again from the page "Bind a device".'},
    )
    assert Device.objects.count() == 0


def test_an_expired_code_binds_nothing(owner: User, settings: Settings) -> None:
    with time_machine.travel(timezone.now() - timedelta(seconds=settings.ENROLMENT_CODE_SECONDS + 1)):
        code = enrolment_code_create(owner)
    status, answer = post({"code": code})
    assert (status, answer["error"]) == (
        401,
        'This enrolment code has expired; make a new one on the page "Bind a device".',
    )
    assert Device.objects.count() == 0


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("", "Invalid JSON"),
        ("[]", "Input should be an object"),
        ("{}", "at code: Field required"),
        ({"code": 5}, "at code: Input should be a valid string"),
        ({"code": "x" * 101}, "at code: String should have at most 100 characters"),
        ({"code": "x", "host": {"cpu_count": -1}}, "at host.cpu_count: Input should be greater than or equal to 0"),
        (b"\xff\xfe", "Invalid JSON"),
    ],
)
def test_a_body_of_another_form_is_named(db: None, body: Any, error: str) -> None:
    status, answer = post(body)
    assert status == 400
    assert error in answer["error"]
    assert answer["error"].startswith("The body is not as docs/protocol.md has it")


def test_a_huge_body_is_refused(db: None) -> None:
    assert post(b'{"code": "' + b"x" * 70_000 + b'"}') == (413, {"error": "The body is larger than 64 KiB."})


def test_other_methods_are_refused(db: None) -> None:
    assert Client().get("/api/edge/enrol").status_code == 405


def test_no_session_or_csrf_token_is_needed(broker: MosquittoServer, owner: User) -> None:
    assert post({"code": enrolment_code_create(owner)}, Client(enforce_csrf_checks=True))[0] == 200


def test_an_address_that_fails_often_has_to_wait(broker: MosquittoServer, owner: User) -> None:
    code = enrolment_code_create(owner)
    for _ in range(FAILURES_ALLOWED):
        assert post({"code": "RT-0000-0000-0000"}, REMOTE_ADDR="192.0.2.1")[0] == 401
    status, answer = post({"code": code}, REMOTE_ADDR="192.0.2.1")
    assert (status, answer["error"]) == (
        429,
        "Too many enrolment attempts from this address have failed. Wait 10 minutes.",
    )
    assert post({"code": code}, REMOTE_ADDR="192.0.2.2")[0] == 200


def test_binding_goes_on_without_redis(broker: MosquittoServer, owner: User, settings: Settings) -> None:
    backend = settings.CACHES["default"]["BACKEND"]
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": f"redis://127.0.0.1:{free_port()}/0"}}
    assert post({"code": "RT-0000-0000-0000"})[0] == 401
    assert post({"code": enrolment_code_create(owner)})[0] == 200


def test_without_a_broker_the_code_stays_good(owner: User, settings: Settings, broker: MosquittoServer) -> None:
    code = enrolment_code_create(owner)
    port, settings.MQTT_PORT = settings.MQTT_PORT, free_port()
    status, answer = post({"code": code})
    assert (status, answer["error"]) == (
        503,
        "The platform's MQTT broker does not answer. The code is still good: try again.",
    )
    assert not Device.objects.bound().exists()
    settings.MQTT_PORT = port
    assert post({"code": code})[0] == 200
    assert Device.objects.bound().count() == 1


def test_what_was_made_is_taken_back_when_the_code_was_taken_meanwhile(broker: MosquittoServer, owner: User) -> None:
    code = enrolment_code_create(owner)
    made = []
    create = device_credentials_create

    def taken_meanwhile(edge_id: int) -> Any:
        EnrolmentCode.objects.update(used_at=timezone.now())
        made.append(create(edge_id))
        return made[0]

    with mock.patch.object(services, "device_credentials_create", taken_meanwhile):
        assert post({"code": code})[0] == 409
    assert Device.objects.count() == 0
    with pytest.raises(Refused):
        Mqtt(made[0].agent_user, made[0].agent_password).__enter__()


def test_what_a_killed_process_left_is_swept_up(broker: MosquittoServer, owner: User, settings: Settings) -> None:
    code = enrolment_code_create(owner)
    with (
        time_machine.travel(timezone.now() - timedelta(hours=2)),
        mock.patch.object(services, "device_credentials_create", side_effect=SystemExit),
        mock.patch.object(services, "_binding_take_back"),  # a killed process does not get there
        pytest.raises(SystemExit),
    ):
        post({"code": code})
    assert Device.objects.count() == 1
    kept = Device.objects.create(owner=owner, name="once bound", last_seen_at=timezone.now(), unbound_at=timezone.now())
    enrolment_code_create(owner)
    assert list(Device.objects.all()) == [kept]
    assert post({"code": code})[0] == 200


def test_the_owner_is_told(
    broker: MosquittoServer,
    owner: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[tuple[list[int], dict[str, Any]]] = []
    monkeypatch.setattr(services, "notice_send", lambda users, notice: told.append((list(users), notice)))
    code = enrolment_code_create(owner)
    _, answer = post({"code": code})
    assert told == [
        ([owner.pk], {"kind": "enrolment", "id": EnrolmentCode.objects.get().pk, "device": answer["edge_id"]})
    ]


@pytest.mark.django_db(transaction=True)
def test_of_two_devices_with_one_code_one_wins(broker: MosquittoServer) -> None:
    owner = User.objects.create_user("owner")
    code = enrolment_code_create(owner)
    answers: list[tuple[int, dict[str, Any]]] = []
    barrier = threading.Barrier(4)

    def enrol() -> None:
        barrier.wait()
        answers.append(post({"code": code}))
        connection.close()

    threads = [threading.Thread(target=enrol) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(status for status, _ in answers) == [200, 409, 409, 409]
    winner = next(answer for status, answer in answers if status == 200)
    assert list(Device.objects.values_list("pk", flat=True)) == [winner["edge_id"]]
    with Mqtt(winner["agent_mqtt"]["username"], winner["agent_mqtt"]["password"]):
        pass
