"""The page "Bind a device": one code, two commands, and the arrival."""

from __future__ import annotations

import re
from datetime import timedelta

from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from devices.models import Device, EnrolmentCode
from devices.payloads import HostPayload
from devices.services import device_enrol
from tests.servers import MosquittoServer


def test_it_explains_before_it_makes_a_code(client: Client, owner: User) -> None:
    client.force_login(owner)
    response = client.get("/devices/bind/")
    assert "Make a code" in response.content.decode()
    assert EnrolmentCode.objects.count() == 0


def test_it_shows_one_code_once_in_both_commands(client: Client, owner: User, settings: Settings) -> None:
    settings.PUBLIC_URL = "https://fl.example.org"
    client.force_login(owner)
    response = client.post("/devices/bind/")
    code = re.findall(r"RT(?:-[0-9A-Z]{4}){3}", response.content.decode())[0]
    assert response.context["command_clone"] == f"edge/run.sh {code} --server https://fl.example.org"
    assert response.context["command_download"] == (
        "curl -fsSL https://fl.example.org/edge/agent.tar.gz | tar xz"
        f" && roundtable-edge/run.sh {code} --server https://fl.example.org"
    )
    assert "no-store" in response["Cache-Control"]
    assert EnrolmentCode.objects.get().user == owner
    assert code not in client.get("/devices/bind/").content.decode()


def test_it_notices_the_device(client: Client, owner: User, broker: MosquittoServer) -> None:
    client.force_login(owner)
    page = client.post("/devices/bind/").content.decode()
    row = EnrolmentCode.objects.get()
    progress = f"/devices/bind/{row.pk}/"
    assert f'hx-get="{progress}"' in page
    waiting = client.get(progress)
    assert (waiting.status_code, "Waiting for the device" in waiting.content.decode()) == (200, True)

    device = device_enrol(re.findall(r"RT(?:-[0-9A-Z]{4}){3}", page)[0], "lab-east", HostPayload()).device
    bound = client.get(progress)
    assert bound.status_code == 200
    assert "Its agent is starting." in bound.content.decode()
    assert device.get_absolute_url() in bound.content.decode()

    Device.objects.update(online=True, last_seen_at=timezone.now())
    online = client.get(progress)
    assert online.status_code == 286  # htmx stops asking
    assert "Idle" in online.content.decode()


def test_it_says_that_a_code_has_expired(client: Client, owner: User) -> None:
    client.force_login(owner)
    client.post("/devices/bind/")
    EnrolmentCode.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    response = client.get(f"/devices/bind/{EnrolmentCode.objects.get().pk}/")
    assert (response.status_code, "has expired" in response.content.decode()) == (286, True)


def test_anothers_code_is_not_found(client: Client, owner: User, stranger: User) -> None:
    client.force_login(owner)
    client.post("/devices/bind/")
    client.force_login(stranger)
    assert client.get(f"/devices/bind/{EnrolmentCode.objects.get().pk}/").status_code == 404
    assert client.get("/devices/bind/4711/").status_code == 404


def test_it_is_for_the_signed_in(client: Client, db: None) -> None:
    assert client.post("/devices/bind/").status_code == 302
    assert EnrolmentCode.objects.count() == 0


def test_another_method_is_refused(client: Client, owner: User) -> None:
    client.force_login(owner)
    assert client.put("/devices/bind/").status_code == 405
    assert client.post("/devices/bind/1/").status_code == 405
