"""The picture of a group: the server, the accounts that connect to it, and each one's devices."""

from __future__ import annotations

from dataclasses import dataclass

from devices.models import Device
from groups.models import Group, GroupMembership
from runs.device_choice import DeviceNow, devices_now


@dataclass(frozen=True)
class AccountBranch:
    """A member and what the member's devices do now."""

    membership: GroupMembership
    devices: list[DeviceNow]


def group_topology(group: Group) -> list[AccountBranch]:
    """Every member with the bound devices of theirs, in three queries; members without devices come last."""
    members = list(group.memberships.select_related("user").order_by("user__username"))
    found = Device.objects.bound().filter(owner__in=[member.user_id for member in members]).select_related("owner")
    by_owner: dict[int, list[DeviceNow]] = {}
    for now in devices_now(found.order_by("name", "pk")):
        by_owner.setdefault(now.device.owner_id, []).append(now)
    branches = [AccountBranch(member, by_owner.get(member.user_id, [])) for member in members]
    return sorted(branches, key=lambda branch: not branch.devices)
