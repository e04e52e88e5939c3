"""Who may see and change a device: its owner changes it, members of the owner's projects see it, others do not."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.shortcuts import get_object_or_404

from devices.models import Device


def device_for_user(user: Any, device_id: int) -> Device:
    """Return a device that ``user`` may see.

    Raises:
        Http404: there is no such device, or the user may not see it.
    """
    return get_object_or_404(Device.objects.visible_to(user).select_related("owner"), pk=device_id)


def device_for_change(user: Any, device_id: int) -> Device:
    """Return a bound device that ``user`` may change.

    Raises:
        Http404: the user may not see it, or it was unbound.
        PermissionDenied: it is a project mate's.
    """
    device = device_for_user(user, device_id)
    if device.owner_id != user.pk:
        raise PermissionDenied(f"Only {device.owner.get_username()}, who bound this device, may change it.")
    return get_object_or_404(Device.objects.bound(), pk=device.pk)
