"""The devices from which those of a run are chosen."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib.auth.models import User
from django.utils import timezone

from devices.models import Device
from devices.services import devices_for_choice
from runs.models import Project, Run


def test_bound_devices_of_members_are_offered_and_those_that_cannot_be_taken_say_why(
    project: Project,
    mate: User,
    stranger: User,
    device_make: Callable[..., Device],
    run_make: Callable[..., Run],
) -> None:
    device_make("a offline", online=False)
    busy = device_make("b busy")
    device_make("c idle")
    device_make("d of a mate", owner=mate)
    device_make("e of a stranger", owner=stranger)
    device_make("f unbound", unbound_at=timezone.now())
    run_make(busy)
    assert [
        (choice.device.name, choice.state, choice.selectable, choice.why_not) for choice in devices_for_choice(project)
    ] == [
        ("c idle", "IDLE", True, ""),
        ("d of a mate", "IDLE", True, ""),
        ("a offline", "OFFLINE", False, "This device is offline: start its agent, or wait until it is back."),
        ("b busy", "BUSY", False, "This device works for another run: wait until that has ended, or stop it."),
    ]
