"""``POST /api/edge/rotate`` and the page that says how: new secrets, and the end of the old ones."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from unittest import mock

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from devices import services
from devices.broker import device_credentials_create, device_credentials_revoke
from devices.models import Device
from devices.services import device_from_token
from devices.tests.conftest import SECRET
from devices.tests.mqtt import Mqtt, Refused
from devices.tokens import secret_digest
from runs.models import Project
from tests.servers import MosquittoServer, free_port


def rotate(token: str) -> tuple[int, dict[str, object]]:
    response = Client(enforce_csrf_checks=True).post("/api/edge/rotate", headers={"Authorization": f"Bearer {token}"})
    return response.status_code, response.json()


def test_new_secrets_work_and_old_ones_end_at_once(broker: MosquittoServer, device: Device, token: str) -> None:
    Device.objects.update(credentials_rotated_at=timezone.now() - timedelta(days=1))
    old = device_credentials_create(device.pk)
    with Mqtt(old.agent_user, old.agent_password) as agent, Mqtt(old.instance_user, old.instance_password) as instance:
        response = Client().post("/api/edge/rotate", headers={"Authorization": f"Bearer {token}"})
        assert str(agent.cut.get(timeout=2)) == "Administrative action"
        assert str(instance.cut.get(timeout=2)) == "Administrative action"
    new = response.json()
    assert (response.status_code, new["edge_id"]) == (200, device.pk)
    assert response["Cache-Control"] == "no-store"
    assert rotate(token)[0] == 401
    assert device_from_token(new["device_token"]) == device
    with pytest.raises(Refused):
        Mqtt(old.agent_user, old.agent_password).__enter__()
    for login in (new["agent_mqtt"], new["instance_mqtt"]):
        with Mqtt(login["username"], login["password"]):
            pass
    device.refresh_from_db()
    assert timezone.now() - device.credentials_rotated_at < timedelta(seconds=10)
    device_credentials_revoke(device.pk)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "rtd_1",
        "rtd_1_",
        "rtd_1_wrong",
        "rtd_0_x",
        "rtd_99999999999999999999_x",
        "rtr_1_2_x",
        "x" * 300,
        "rtd_\u0661_x",
    ],
)
def test_a_wrong_token_changes_nothing(device: Device, token: str) -> None:
    status, answer = rotate(token.encode().decode("latin-1"))
    assert status == 401
    assert str(answer["error"]).startswith("This ")
    device.refresh_from_db()
    assert device.token_hash == secret_digest(SECRET)


def test_without_a_token_the_answer_says_how(db: None) -> None:
    response = Client().post("/api/edge/rotate")
    assert (response.status_code, response["WWW-Authenticate"]) == (401, "Bearer")
    assert response.json() == {"error": "This needs a token: send it as `Authorization: Bearer TOKEN`."}


def test_another_method_is_refused(db: None) -> None:
    assert Client().get("/api/edge/rotate").status_code == 405


def test_an_unbound_device_does_not_rotate(device: Device, token: str) -> None:
    Device.objects.update(unbound_at=timezone.now())
    assert rotate(token) == (
        401,
        {"error": "This device token is not valid: it was rotated, or the device was unbound. Bind it again."},
    )


def test_without_a_broker_the_token_stays_good(device: Device, token: str, settings: Settings) -> None:
    settings.MQTT_PORT = free_port()
    assert rotate(token) == (
        503,
        {"error": "The platform's MQTT broker does not answer. The device token is still good: try again."},
    )
    assert device_from_token(token) == device


def test_of_two_rotations_at_once_one_wins(broker: MosquittoServer, device: Device, token: str) -> None:
    create = device_credentials_create

    def rotated_meanwhile(edge_id: int) -> object:
        Device.objects.update(token_hash=secret_digest("the other's"))
        return create(edge_id)

    with mock.patch.object(services, "device_credentials_create", rotated_meanwhile):
        status, answer = rotate(token)
    assert (status, answer) == (
        409,
        {"error": "The credentials were rotated by another call at this moment; use what that one got."},
    )
    device.refresh_from_db()
    assert device.token_hash == secret_digest("the other's")
    device_credentials_revoke(device.pk)


def test_a_device_unbound_during_its_rotation_gets_nothing(broker: MosquittoServer, device: Device, token: str) -> None:
    made = []
    create = device_credentials_create

    def unbound_meanwhile(edge_id: int) -> object:
        Device.objects.update(unbound_at=timezone.now(), token_hash="")
        made.append(create(edge_id))
        return made[0]

    with mock.patch.object(services, "device_credentials_create", unbound_meanwhile):
        status, answer = rotate(token)
    assert (status, answer) == (409, {"error": "This device was unbound; bind it again with a new code."})
    with pytest.raises(Refused):
        Mqtt(made[0].agent_user, made[0].agent_password).__enter__()


def test_the_page_shows_the_owner_the_command(client: Client, owner: User, device: Device) -> None:
    client.force_login(owner)
    response = client.get(f"/devices/{device.pk}/rotate/")
    assert response.status_code == 200
    assert "edge/run.sh --rotate" in response.content.decode()


def test_the_page_is_for_the_owner(
    client: Client, mate: User, stranger: User, project: Project, device_make: Callable[..., Device]
) -> None:
    device = device_make()
    for user, status in ((mate, 403), (stranger, 404)):
        client.force_login(user)
        assert client.get(f"/devices/{device.pk}/rotate/").status_code == status
    client.force_login(device.owner)
    assert client.post(f"/devices/{device.pk}/rotate/").status_code == 405
    assert client.get("/devices/4711/rotate/").status_code == 404
