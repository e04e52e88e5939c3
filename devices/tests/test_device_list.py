"""The list of devices."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from devices.models import Device
from runs.models import Project, Run


def listed(client: Client, query: str = "") -> list[str]:
    response = client.get(f"/devices/{query}")
    assert response.status_code == 200
    return [device.name for device, _ in response.context["rows"]]


@pytest.fixture
def fleet(device_make: Callable[..., Device], mate: User, project: Project) -> list[Device]:
    return [
        device_make("north", os="Debian 12", memory_bytes=4 * 2**30, online=False),
        device_make("south", os="Ubuntu 24.04", memory_bytes=16 * 2**30),
        device_make("west", os="Debian 13", memory_bytes=8 * 2**30, owner=mate),
        device_make("gone", unbound_at=timezone.now(), online=False),
    ]


def test_it_shows_the_own_devices_and_the_teams(client: Client, owner: User, mate: User, fleet: list[Device]) -> None:
    for user in (owner, mate):
        client.force_login(user)
        assert sorted(listed(client)) == ["north", "south", "west"]
    assert listed(client, "?whose=mine") == ["west"]
    assert sorted(listed(client, "?whose=team")) == ["north", "south"]


def test_it_shows_a_stranger_nothing(client: Client, stranger: User, fleet: list[Device]) -> None:
    client.force_login(stranger)
    response = client.get("/devices/")
    assert response.context["rows"] == []
    assert "No devices yet" in response.content.decode()
    assert "north" not in response.content.decode()


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("?q=debian&sort=name", ["north", "west"]),
        ("?q=debian+13", ["west"]),
        ("?q=mate", ["west"]),
        ("?q=nothing", []),
        ("?sort=name", ["north", "south", "west"]),
        ("?sort=-name", ["west", "south", "north"]),
        ("?sort=-memory", ["south", "west", "north"]),
        ("?sort=no_such_column&q=debian", ["west", "north"]),
        ("?whose=nonsense&sort=name", ["north", "south", "west"]),
        ("?page=99&sort=name", ["north", "south", "west"]),
    ],
)
def test_it_searches_and_sorts(client: Client, owner: User, fleet: list[Device], query: str, names: list[str]) -> None:
    client.force_login(owner)
    assert listed(client, query) == names


def test_it_shows_states_that_follow_live(
    client: Client, owner: User, device: Device, run_make: Callable[..., Run]
) -> None:
    client.force_login(owner)
    run_make(device)
    page = client.get("/devices/").content.decode()
    assert f'data-live="device:{device.pk}:state"' in page
    assert f'data-live="device:{device.pk}:since"' in page
    assert f'data-live="device:{device.pk}:name"' in page
    assert 'data-refresh-on="device"' in page
    assert "Busy" in page


def test_a_hostile_name_is_text(client: Client, owner: User, device_make: Callable[..., Device]) -> None:
    device_make("<script>alert(1)</script>", os="<b>", gpu=[{"name": "<i>GPU</i>", "memory_bytes": 0}])
    client.force_login(owner)
    page = client.get("/devices/").content.decode()
    assert "<script>alert" not in page
    assert "<b>" not in page
    assert "<i>GPU" not in page


def test_its_queries_do_not_grow_with_the_fleet(
    client: Client,
    owner: User,
    device_make: Callable[..., Device],
    run_make: Callable[..., Run],
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    client.force_login(owner)
    devices = [device_make(f"device {number}") for number in range(30)]
    run_make(*devices[:10])
    with django_assert_num_queries(6):  # session, user, count, devices, what they do, the own groups
        names = listed(client, "?sort=id")
    assert len(names) == 25
    assert len(listed(client, "?sort=id&page=2")) == 5


def test_it_is_for_the_signed_in(client: Client, db: None) -> None:
    response = client.get("/devices/")
    assert (response.status_code, response["Location"]) == (302, "/login/?next=/devices/")


def test_another_method_is_refused(client: Client, owner: User) -> None:
    client.force_login(owner)
    assert client.post("/devices/").status_code == 405
