"""The page of one device, and its renaming."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from devices.checks import QUESTIONS, Finding
from devices.models import Device
from runs.models import Project, Run

CHECK = {
    "ok": False,
    "time": 1.0,
    "items": [
        {"name": "python", "ok": True, "text": "3.11.2", "required": True},
        {"name": "disk", "ok": False, "text": "0.1 GiB free <b>", "required": True},
        {"name": "engine", "ok": False, "text": "no container engine", "required": False},
    ],
}


def test_it_shows_everything_that_is_known(
    client: Client, device_make: Callable[..., Device], run_make: Callable[..., Run]
) -> None:
    device = device_make(
        os="Debian 12",
        arch="x86_64",
        cpu="EPYC 7763",
        cpu_count=8,
        memory_bytes=16 * 2**30,
        gpu=[{"name": "A100", "memory_bytes": 80 * 2**30}],
        python="3.11.2",
        agent_version="0.1.0",
        runtime="process",
        check_result=CHECK,
    )
    run = run_make(device)
    client.force_login(device.owner)
    page = client.get(device.get_absolute_url()).content.decode()
    for text in (
        "Debian 12",
        "x86_64",
        "EPYC 7763",
        "8 cores",
        "16 GiB",
        "A100",
        "80 GiB",
        "3.11.2",
        "0.1.0",
        "process",
    ):
        assert text in page
    for text in ("Python", "no container engine", "0.1 GiB free &lt;b&gt;", run.name, "Training", "Busy"):
        assert text in page
    assert "Unbind" in page


def test_the_self_check_says_what_to_do(client: Client, device_make: Callable[..., Device]) -> None:
    device = device_make(check_result=CHECK)
    client.force_login(device.owner)
    response = client.get(device.get_absolute_url())
    shown = [(one.title, one.label, one.colour, bool(one.fix)) for one in response.context["check"].findings]
    assert shown == [
        ("Python", "Good", "green", False),
        ("Disk", "Failed", "red", True),
        ("Engine", "Not there", "grey", True),
    ]
    page = response.content.decode()
    assert "1 of 3 failed" in page
    assert '<time datetime="1970-01-01T00:00:01+00:00"' in page
    assert "start the agent with its folder on a larger disk: <code>run.sh --home DIR</code>." in page


def test_what_a_device_can_do_without_is_said_to_be_so() -> None:
    needed = Finding(name="docker", ok=False)
    assert needed.fix.startswith("Install an engine")
    assert Finding(name="docker", ok=False, required=False).fix == (
        f"Nothing has to be done: instances run as processes. To run them in containers: i{needed.fix[1:]}"
    )
    assert Finding(name="docker", ok=True).fix == ""


def test_every_question_of_the_agent_is_known() -> None:
    agent = settings.BASE_DIR / "edge" / "roundtable_agent"
    asked = {name for path in agent.glob("*.py") for name in re.findall(r'Finding\(\s*"(\w+)"', path.read_text())}
    assert asked == set(QUESTIONS)


def test_a_self_check_without_a_fault_says_so(client: Client, device_make: Callable[..., Device]) -> None:
    device = device_make(check_result={"items": CHECK["items"][::2]})  # type: ignore[index]
    client.force_login(device.owner)
    page = client.get(device.get_absolute_url()).content.decode()
    assert "This device is able to train" in page
    assert "checked" not in page


def test_a_mate_sees_it_and_changes_nothing(client: Client, device: Device, mate: User, project: Project) -> None:
    client.force_login(mate)
    page = client.get(device.get_absolute_url()).content.decode()
    assert "lab-east" in page
    assert "unbind/" not in page
    assert "rename/" not in page


def test_a_stranger_finds_nothing(client: Client, device: Device, stranger: User, project: Project) -> None:
    client.force_login(stranger)
    assert client.get(device.get_absolute_url()).status_code == 404


def test_runs_of_other_projects_are_not_shown_to_a_mate(
    client: Client, device: Device, mate: User, project: Project, run_make: Callable[..., Run]
) -> None:
    shared = run_make(device, name="shared run", held=False)
    other = run_make(device, name="other run", project=Project.objects.create(name="Secret project"))
    client.force_login(mate)
    page = client.get(device.get_absolute_url()).content.decode()
    assert shared.name in page
    assert other.name not in page
    assert "Secret project" not in page
    assert "Busy" in page


def test_an_unbound_device_keeps_its_page_without_actions(client: Client, device: Device) -> None:
    Device.objects.update(unbound_at=timezone.now(), online=False)
    client.force_login(device.owner)
    page = client.get(device.get_absolute_url()).content.decode()
    assert "This device is unbound." in page
    assert "unbind/" not in page


def test_a_device_that_was_never_heard_of_says_so(client: Client, device_make: Callable[..., Device]) -> None:
    device = device_make(online=False, last_seen_at=None)
    client.force_login(device.owner)
    assert "has not been heard of yet" in client.get(device.get_absolute_url()).content.decode()


@pytest.mark.parametrize(
    "check",
    [None, {}, {"items": 5}, {"items": [{"ok": True}]}, ["x"], {"items": []}, {"time": 1e300, "items": CHECK["items"]}],
)
def test_a_self_check_of_another_form_is_left_out(
    client: Client, device_make: Callable[..., Device], check: Any
) -> None:
    device = device_make(check_result=check)
    client.force_login(device.owner)
    response = client.get(device.get_absolute_url())
    assert response.status_code == 200
    assert response.context["check"] is None


def test_its_queries_do_not_grow_with_the_runs(
    client: Client, device: Device, run_make: Callable[..., Run], django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(5):
        run_make(device, held=False)
    client.force_login(device.owner)
    with django_assert_num_queries(5):  # session, user, device, what it does, its runs
        client.get(device.get_absolute_url())


def test_an_unknown_device_is_not_found(client: Client, owner: User) -> None:
    client.force_login(owner)
    assert client.get("/devices/4711/").status_code == 404


def test_another_method_is_refused(client: Client, device: Device) -> None:
    client.force_login(device.owner)
    assert client.post(device.get_absolute_url()).status_code == 405


def test_the_owner_renames_a_device(client: Client, device: Device) -> None:
    client.force_login(device.owner)
    assert 'value="lab-east"' in client.get(f"/devices/{device.pk}/rename/").content.decode()
    response = client.post(f"/devices/{device.pk}/rename/", {"name": "  lab\x07 west "}, follow=True)
    device.refresh_from_db()
    assert device.name == "lab west"
    assert "The device is now called lab west." in response.content.decode()


@pytest.mark.parametrize(
    ("name", "error"),
    [("", "This field is required."), ("\u0007", "at least one character"), ("x" * 121, "at most 120 characters")],
)
def test_a_name_that_is_none_is_refused(client: Client, device: Device, name: str, error: str) -> None:
    client.force_login(device.owner)
    response = client.post(f"/devices/{device.pk}/rename/", {"name": name})
    assert error in response.content.decode()
    device.refresh_from_db()
    assert device.name == "lab-east"


def test_only_the_owner_renames(client: Client, device: Device, mate: User, stranger: User, project: Project) -> None:
    for user, status in ((mate, 403), (stranger, 404)):
        client.force_login(user)
        assert client.post(f"/devices/{device.pk}/rename/", {"name": "taken"}).status_code == status
    device.refresh_from_db()
    assert device.name == "lab-east"
    client.force_login(device.owner)
    assert client.put(f"/devices/{device.pk}/rename/").status_code == 405
