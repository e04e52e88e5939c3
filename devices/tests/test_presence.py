"""Presence: what agents and their wills say, and who is told."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from pydantic import ValidationError
from pytest_django import DjangoAssertNumQueries

from devices import presence
from devices.models import Device
from devices.payloads import PresencePayload
from devices.presence import device_activities, device_audience, device_state, devices_mark_silent, presence_apply
from runs.models import Project, Run
from runs.states import DeviceState, RunState

Notices = list[tuple[set[int], dict[str, Any]]]


@pytest.fixture
def notices(monkeypatch: pytest.MonkeyPatch) -> Notices:
    """What is sent to open pages."""
    sent: Notices = []
    monkeypatch.setattr(presence, "notice_send", lambda users, notice: sent.append((set(users), notice)))
    return sent


def online(boot: str = "boot-1", **values: Any) -> PresencePayload:
    return PresencePayload(state="ONLINE", boot=boot, time=time.time(), **values)


def offline(boot: str = "boot-1") -> PresencePayload:
    return PresencePayload(state="OFFLINE", boot=boot)


def test_an_agent_that_comes_is_shown_with_its_machine(
    device_make: Callable[..., Device], owner: User, mate: User, project: Project, notices: Notices
) -> None:
    device = device_make(online=False, boot="", last_seen_at=None)
    payload = online(
        os="Debian 12",
        arch="x86_64",
        python="3.11.2",
        cpu="EPYC",
        cpu_count=8,
        memory_bytes=2**34,
        gpu=[{"name": "A100", "memory_bytes": 2**36}],
        agent_version="0.1.0",
        runtime="process",
        check={"ok": True, "items": []},
    )
    assert presence_apply(device.pk, payload, retained=False) is True
    device.refresh_from_db()
    assert (device.online, device.boot, device.os, device.arch) == (True, "boot-1", "Debian 12", "x86_64")
    assert (device.cpu_count, device.memory_bytes) == (8, 2**34)
    assert device.gpu == [{"name": "A100", "memory_bytes": 2**36}]
    assert device.check_result == {"ok": True, "items": []}
    assert device.last_seen_at == device.online_since
    assert notices == [
        (
            {owner.pk, mate.pk},
            {
                "kind": "device",
                "id": device.pk,
                "state": "IDLE",
                "label": "Idle",
                "colour": "green",
                "since": device.online_since.timestamp(),
                "name": "lab-east",
            },
        )
    ]


def test_a_repetition_keeps_the_since_and_tells_nobody(device: Device, notices: Notices) -> None:
    since = device.online_since
    assert presence_apply(device.pk, online(), retained=False) is False
    device.refresh_from_db()
    assert device.online_since == since
    assert device.last_seen_at is not None
    assert device.last_seen_at > since
    assert notices == []


def test_the_will_takes_a_device_offline_once(device: Device, notices: Notices) -> None:
    assert presence_apply(device.pk, offline(), retained=False) is True
    assert presence_apply(device.pk, offline(), retained=True) is False
    device.refresh_from_db()
    assert device.online is False
    assert [notice["state"] for _, notice in notices] == ["OFFLINE"]


def test_the_will_of_an_earlier_start_changes_nothing(device: Device, notices: Notices) -> None:
    presence_apply(device.pk, online("boot-2"), retained=False)
    assert presence_apply(device.pk, offline("boot-1"), retained=False) is False
    device.refresh_from_db()
    assert (device.online, device.boot) == (True, "boot-2")
    assert notices == []


def test_an_old_retained_message_does_not_bring_a_device_online(
    device_make: Callable[..., Device], notices: Notices
) -> None:
    device = device_make(online=False)
    seen = device.last_seen_at
    payload = online("boot-9").model_copy(update={"time": time.time() - 3600})
    assert presence_apply(device.pk, payload, retained=True) is False
    device.refresh_from_db()
    assert (device.online, device.last_seen_at, device.boot) == (False, seen, "boot-1")
    assert presence_apply(device.pk, payload, retained=False) is True  # live, whatever the device's clock says


def test_a_recent_retained_message_brings_a_device_online(device_make: Callable[..., Device], notices: Notices) -> None:
    device = device_make(online=False)
    assert presence_apply(device.pk, online(), retained=True) is True


def test_an_unbound_device_stays_so(device_make: Callable[..., Device], notices: Notices) -> None:
    device = device_make(online=False, unbound_at=timezone.now())
    assert presence_apply(device.pk, online(), retained=False) is False
    device.refresh_from_db()
    assert device.online is False
    assert notices == []


def test_an_unknown_device_is_ignored(db: None, notices: Notices) -> None:
    assert presence_apply(4711, online(), retained=False) is False
    assert notices == []


def test_silent_devices_go_offline_and_their_pages_are_told(
    device_make: Callable[..., Device], notices: Notices
) -> None:
    silent = device_make("silent", last_seen_at=timezone.now() - timedelta(seconds=91))
    heard = device_make("heard", last_seen_at=timezone.now() - timedelta(seconds=80))
    assert devices_mark_silent() == [silent.pk]
    assert devices_mark_silent() == []
    silent.refresh_from_db()
    heard.refresh_from_db()
    assert (silent.online, heard.online) == (False, True)
    assert timezone.now() - silent.online_since < timedelta(seconds=5)
    assert [(notice["id"], notice["state"]) for _, notice in notices] == [(silent.pk, "OFFLINE")]


def test_a_device_is_busy_while_a_run_holds_it(device: Device, run_make: Callable[..., Run]) -> None:
    assert device_state(device) == DeviceState.IDLE
    run = run_make(device)
    assert device_activities([device])[device.pk].state == DeviceState.BUSY
    assert device_activities([device])[device.pk].since == run.started_at
    run.run_devices.update(holds_device=False, status="FINISHED", since=timezone.now())
    assert device_activities([device])[device.pk].state == DeviceState.IDLE
    assert device_activities([device])[device.pk].since == run.run_devices.get().since


def test_a_device_that_is_gone_is_offline_though_a_run_holds_it(
    device_make: Callable[..., Device], run_make: Callable[..., Run]
) -> None:
    device = device_make(online=False)
    run_make(device)
    assert device_state(device) == DeviceState.OFFLINE


def test_a_run_that_has_not_begun_holds_nobody(device: Device, run_make: Callable[..., Run]) -> None:
    run_make(device, state=RunState.CREATED, held=False)
    assert device_state(device) == DeviceState.IDLE


def test_many_devices_states_cost_one_query(
    device_make: Callable[..., Device],
    run_make: Callable[..., Run],
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    devices = [device_make(f"device {number}") for number in range(5)]
    run_make(*devices[:2])
    with django_assert_num_queries(1):
        states = [activity.state for activity in device_activities(devices).values()]
    assert states == ["BUSY", "BUSY", "IDLE", "IDLE", "IDLE"]


def test_strangers_are_not_told(device: Device, owner: User, mate: User, stranger: User, project: Project) -> None:
    assert device_audience(device) == {owner.pk, mate.pk}


def test_words_of_a_machine_are_cut_and_cleaned() -> None:
    payload = online(
        cpu="A" * 500, os="De\x00bian\n12\x1b", check={"text\x00": ["a\x00b", 1, None, True, 2.5, float("inf")]}
    )
    assert payload.cpu == "A" * 200
    assert payload.os == "Debian 12"
    assert payload.check == {"text": ["ab", 1, None, True, 2.5, None]}


@pytest.mark.parametrize(
    "values",
    [
        {"boot": ""},
        {"boot": "x" * 65},
        {"boot": "a b"},
        {"time": float("nan")},
        {"cpu_count": -1},
        {"memory_bytes": 2**63},
        {"gpu": [{}] * 65},
        {"state": "MAYBE"},
        {"check": {str(number): 1 for number in range(501)}},
        {"os": 5},
    ],
)
def test_a_presence_of_another_form_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PresencePayload.model_validate({"state": "ONLINE", "boot": "b", "time": 1.0} | values)


def test_the_devices_clock_is_compared_with_ours_and_the_last_samples_count(device: Device, notices: Notices) -> None:
    for ahead in (9.0, 1.0, 2.0, 3.0, 2.5, 2.25):
        payload = PresencePayload(state="ONLINE", boot="boot-1", time=time.time() + ahead)
        presence_apply(device.pk, payload, retained=False)
    presence_apply(device.pk, PresencePayload(state="ONLINE", boot="boot-1", time=time.time() + 8), retained=True)
    device.refresh_from_db()
    assert len(device.clock_samples) == 5
    assert device.clock_offset == pytest.approx(3.0, abs=0.9)
    assert Device(clock_samples=[]).clock_offset is None
