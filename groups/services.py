"""What is done to groups and their members. Invitations are in ``groups.invitations``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from devices.models import Device
from devices.services import devices_notify
from groups.models import Group, GroupMembership
from mlops_site.notices import notice_send
from runs.group_access import group_access_end, group_access_write, group_lock
from runs.models import Role, RunDevice


class GroupRefused(Exception):
    """The request cannot be done; ``str(error)`` is a sentence that says why and what to do, fit for a page."""


def collaborators_of(user: Any) -> QuerySet[User]:
    """Everyone with whom ``user`` shares a project or a group."""
    others = get_user_model()._default_manager.filter(is_active=True).exclude(pk=user.pk)
    shared = Q(memberships__project__memberships__user=user) | Q(group_memberships__group__memberships__user=user)
    return others.filter(shared).distinct().order_by("username")


def group_create(*, user: Any, name: str, description: str = "", people: Iterable[User] = ()) -> Group:
    """Make a group owned by ``user``, of which ``people`` (collaborators of the user) are members at once."""
    with transaction.atomic():
        group = Group.objects.create(name=name, description=description, created_by=user)
        GroupMembership.objects.create(group=group, user=user, role=Role.OWNER)
        for person in people:
            member_join(group=group, user=person, role=Role.MEMBER, by=user)
    return group


def group_delete(*, group: Group) -> None:
    """Delete a group that holds no project.

    Raises:
        GroupRefused: projects belong to it.
    """
    with transaction.atomic():
        locked = group_lock(group.pk)
        if locked.projects.exists():
            raise GroupRefused("A group that has projects cannot be deleted. Move them out of it or delete them first.")
        locked.delete()


def member_join(*, group: Group, user: Any, role: str, by: Any = None) -> bool:
    """Make a person a member of the group and of its projects. Whoever is a member already keeps the role.

    Args:
        by: who added the person, where the person did not come by an invitation.

    Returns:
        Whether the person was no member before.
    """
    with transaction.atomic():
        locked = group_lock(group.pk)
        _, is_new = GroupMembership.objects.get_or_create(group=locked, user=user, defaults={"role": role})
        if not is_new:
            return False
        group_access_write(locked)
        others = locked.memberships.exclude(user=user).values_list("user_id", flat=True)
        notice_send([*others, user.pk], {"kind": "group", "id": locked.pk})
        url = locked.get_absolute_url()
        if by is not None:
            text = f"{by} added you to the group {locked}."
            notice_send([user.pk], {"kind": "toast", "level": "info", "text": text, "url": url})
        text = f"{user} is now in the group {locked}."
        told = [pk for pk in others if by is None or pk != by.pk]
        notice_send(told, {"kind": "toast", "level": "info", "text": text, "url": url})
        devices_notify(Device.objects.bound().filter(owner=user).values_list("pk", flat=True))
    return True


def member_role_set(*, membership: GroupMembership, role: Role) -> None:
    """Give a member another role in the group and its projects.

    Raises:
        GroupRefused: the group would be left without an owner.
    """
    with transaction.atomic():
        group = group_lock(membership.group_id)
        if role != Role.OWNER:
            _require_owner_besides(group, membership.user)
        membership.role = role
        membership.save(update_fields=["role"])
        group_access_write(group)
        notice_send(_member_ids(group), {"kind": "group", "id": group.pk})


def member_leave(*, membership: GroupMembership, by: Any) -> None:
    """End a membership, and with it every role in the group's projects and the invitations that the person made.

    Raises:
        GroupRefused: the member is the last owner, or a run of one of the projects holds one of the member's devices.
    """
    user = membership.user
    with transaction.atomic():
        group = group_lock(membership.group_id)
        _require_owner_besides(group, user)
        held = RunDevice.objects.filter(run__project__group=group, holds_device=True, device__owner=user)
        if held.exists():
            raise GroupRefused(f"A run uses a device of {user}. Wait until it ends, or stop it first.")
        audience = _member_ids(group)
        membership.delete()
        group.invitations.filter(created_by=user, revoked_at=None).update(revoked_at=timezone.now())
        group_access_end(group, user.pk)
        notice_send(audience, {"kind": "group", "id": group.pk})
        if by != user:
            text = f"{by} removed you from the group {group}."
            notice_send([user.pk], {"kind": "toast", "level": "warning", "text": text})


def _member_ids(group: Group) -> list[int]:
    return list(group.memberships.values_list("user_id", flat=True))


def _require_owner_besides(group: Group, user: Any) -> None:
    owners = set(group.memberships.filter(role=Role.OWNER).values_list("user", flat=True))
    if owners == {user.pk}:
        raise GroupRefused("A group needs an owner. Make another member an owner first.")
