"""Unbinding: the end of a device's credentials, and what of it stays."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from devices.broker import device_credentials_create
from devices.models import Device
from devices.services import device_from_token, device_unbind
from devices.tests.mqtt import Mqtt, Refused
from runs.models import Project, Run
from tests.servers import MosquittoServer, free_port


def url(device: Device) -> str:
    return f"/devices/{device.pk}/unbind/"


def test_it_ends_every_credential_at_once(
    broker: MosquittoServer, client: Client, device: Device, token: str, run_make: Callable[..., Run]
) -> None:
    made = device_credentials_create(device.pk)
    run = run_make(device)
    client.force_login(device.owner)
    with Mqtt(made.agent_user, made.agent_password) as agent, Mqtt(made.instance_user, made.instance_password) as other:
        agent.subscribe(f"edges/{device.pk}/command")
        response = client.post(url(device))
        assert (response.status_code, response["Location"]) == (302, "/devices/")
        command = json.loads(agent.received.get(timeout=2)[1])
        assert str(agent.cut.get(timeout=2)) == "Administrative action"
        assert str(other.cut.get(timeout=2)) == "Administrative action"
    assert (command["type"], command["run_id"]) == ("stop_train", run.pk)
    assert command["reason"] == "The device was unbound from the platform."
    with pytest.raises(Refused):
        Mqtt(made.agent_user, made.agent_password).__enter__()
    assert device_from_token(token) is None
    device.refresh_from_db()
    assert (device.online, device.token_hash, device.boot) == (False, "", "")
    assert device.unbound_at is not None
    assert run.run_devices.get().device == device


def test_a_second_time_changes_nothing(broker: MosquittoServer, device: Device) -> None:
    device_credentials_create(device.pk)
    device_unbind(device)
    first = device.unbound_at
    device_unbind(device)
    assert device.unbound_at == first


def test_without_a_broker_the_device_stays_bound(
    client: Client, device: Device, token: str, settings: Settings
) -> None:
    settings.MQTT_PORT = free_port()
    client.force_login(device.owner)
    response = client.post(url(device), follow=True)
    assert response.redirect_chain == [(device.get_absolute_url(), 302)]
    assert "The device is still bound. The MQTT broker at" in response.content.decode()
    assert device_from_token(token) == device


def test_the_page_says_what_is_lost(client: Client, device: Device, run_make: Callable[..., Run]) -> None:
    run = run_make(device)
    client.force_login(device.owner)
    page = client.get(url(device)).content.decode()
    assert run.name in page
    assert "is lost" in page
    device.refresh_from_db()
    assert device.unbound_at is None


def test_only_the_owner_unbinds(
    client: Client, device: Device, token: str, project: Project, mate: User, stranger: User
) -> None:
    for user, status in ((mate, 403), (stranger, 404)):
        client.force_login(user)
        assert client.post(url(device)).status_code == status
        assert client.get(url(device)).status_code == status
    assert device_from_token(token) == device


def test_nobody_unbinds_without_signing_in(client: Client, device: Device, token: str) -> None:
    assert client.post(url(device)).status_code == 302
    assert device_from_token(token) == device


def test_what_is_unbound_or_does_not_exist_is_not_found(client: Client, device: Device) -> None:
    client.force_login(device.owner)
    assert client.post("/devices/4711/unbind/").status_code == 404
    Device.objects.update(unbound_at=timezone.now())
    assert client.post(url(device)).status_code == 404


def test_another_method_is_refused(client: Client, device: Device) -> None:
    client.force_login(device.owner)
    assert client.put(url(device)).status_code == 405
