"""The list of devices, for its page and the Web API."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

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


def devices_listed(user: Any, whose: str = "") -> QuerySet[Device]:
    """Bound devices that ``user`` may see: all of them, the own (``mine``), or those of others (``team``)."""
    devices = Device.objects.visible_to(user).bound().select_related("owner")
    if whose == "mine":
        return devices.filter(owner=user)
    if whose == "team":
        return devices.exclude(owner=user)
    return devices
