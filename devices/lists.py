"""The list of devices, for its page and the Web API."""

from __future__ import annotations

from typing import Any

from django.db.models import Q, QuerySet

from devices.models import Device
from mlops_site.lists import ListSpec

DEVICES = ListSpec(
    search=("name", "os", "arch", "cpu", "owner__username"),
    sorts={
        "id": "pk",
        "name": "name",
        "state": "online",
        "system": "os",
        "cpu": "cpu_count",
        "memory": "memory_bytes",
        "owner": "owner__username",
    },
    default_sort="-state",
)


STATES = {"idle": "Idle", "busy": "Busy", "offline": "Offline"}


def devices_listed(user: Any, whose: str = "", *, state: str = "", group_id: int | None = None) -> QuerySet[Device]:
    """Bound devices that ``user`` may see.

    Args:
        whose: all of them, the own (``mine``), or those of others (``team``).
        state: a key of ``STATES``; empty or unknown for every state.
        group_id: only those of this group's members, where the user is one of them; None for all.
    """
    devices = Device.objects.visible_to(user).bound().select_related("owner")
    if group_id is not None:
        devices = devices.filter(
            owner__in=user.group_memberships.filter(group=group_id).values("group__memberships__user")
        )
    at_work = Q(run_devices__holds_device=True)
    if state == "offline":
        devices = devices.filter(online=False)
    elif state == "busy":
        devices = devices.filter(at_work, online=True)
    elif state == "idle":
        devices = devices.filter(online=True).exclude(at_work)
    if whose == "mine":
        return devices.filter(owner=user)
    if whose == "team":
        return devices.exclude(owner=user)
    return devices
