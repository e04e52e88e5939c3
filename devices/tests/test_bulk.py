"""Filters of the list, and what is done to several devices at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from devices.broker import device_credentials_create
from devices.models import Device
from groups.services import group_create
from runs.models import Project, Run
from tests.servers import MosquittoServer, free_port


@pytest.fixture
def fleet(
    device_make: Callable[..., Device], run_make: Callable[..., Run], mate: User, project: Project
) -> dict[str, Device]:
    names = ("idle", "busy", "offline", "mates")
    fleet = {
        name: device_make(name, online=name != "offline", **({"owner": mate} if name == "mates" else {}))
        for name in names
    }
    run_make(fleet["busy"])
    return fleet


def ids(*devices: Device) -> dict[str, list[int]]:
    return {"device": [device.pk for device in devices]}


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("?state=idle", {"idle", "mates"}),
        ("?state=busy", {"busy"}),
        ("?state=offline", {"offline"}),
        ("?state=nonsense", {"idle", "busy", "offline", "mates"}),
        ("?state=idle&whose=mine&q=idl", {"idle"}),
        ("?group=999999", set()),
    ],
)
def test_the_list_is_filtered_by_its_url(
    client: Client, owner: User, fleet: dict[str, Device], query: str, names: set[str]
) -> None:
    client.force_login(owner)
    response = client.get(f"/devices/{query}")
    assert {device.name for device, _ in response.context["rows"]} == names


def test_a_groups_devices_are_listed_for_its_members_alone(
    client: Client, owner: User, mate: User, stranger: User, fleet: dict[str, Device]
) -> None:
    group = group_create(user=mate, name="Hospitals", people=[stranger])
    for user, names in ((stranger, {"mates"}), (owner, set())):
        client.force_login(user)
        response = client.get(f"/devices/?group={group.pk}")
        assert {device.name for device, _ in response.context["rows"]} == names


def test_the_page_says_what_is_lost_and_leaves_others_devices_out(
    client: Client, owner: User, fleet: dict[str, Device]
) -> None:
    client.force_login(owner)
    page = client.get("/devices/unbind/", ids(*fleet.values()))
    assert [device.name for device in page.context["devices"]] == ["busy", "idle", "offline"]
    assert "It works for the run" in page.content.decode()
    assert Device.objects.bound().count() == 4


def test_without_a_choice_nothing_happens(client: Client, owner: User, fleet: dict[str, Device]) -> None:
    client.force_login(owner)
    for data in ({}, ids(fleet["mates"]), {"device": ["x", "9" * 40]}):
        assert client.post("/devices/unbind/", data)["Location"] == "/devices/"
    assert Device.objects.bound().count() == 4


def test_the_chosen_devices_are_unbound(
    broker: MosquittoServer, client: Client, owner: User, fleet: dict[str, Device]
) -> None:
    for name in ("idle", "offline"):
        device_credentials_create(fleet[name].pk)
    client.force_login(owner)
    response = client.post("/devices/unbind/", ids(fleet["idle"], fleet["offline"], fleet["mates"]), follow=True)
    assert "2 devices are unbound." in response.content.decode()
    assert set(Device.objects.bound().values_list("name", flat=True)) == {"busy", "mates"}


def test_without_a_broker_those_still_bound_are_named(
    client: Client, owner: User, fleet: dict[str, Device], settings: Settings
) -> None:
    settings.MQTT_PORT = free_port()
    client.force_login(owner)
    response = client.post("/devices/unbind/", ids(fleet["idle"], fleet["offline"]), follow=True)
    assert "Still bound: idle, offline." in response.content.decode()
    assert Device.objects.bound().count() == 4


def test_the_command_is_shown_as_a_qr_code_too(client: Client, owner: User) -> None:
    client.force_login(owner)
    assert "data:image/svg+xml" not in client.get("/devices/bind/").content.decode()
    assert client.post("/devices/bind/").context["qr_code"].startswith("data:image/svg+xml")
