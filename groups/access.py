"""Who may see and change a group: its members see it, its owners change it, others do not know of it."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.shortcuts import get_object_or_404

from groups.models import Group, GroupMembership
from runs.models import Role


def membership_for_user(user: Any, group_id: int) -> GroupMembership:
    """The user's membership, with the group at hand.

    Raises:
        Http404: there is no such group, or the user is no member of it.
    """
    return get_object_or_404(GroupMembership.objects.select_related("group"), group=group_id, user=user)


def group_for_owner(user: Any, group_id: int) -> Group:
    """The group, for what only owners may do.

    Raises:
        Http404: there is no such group, or the user is no member of it.
        PermissionDenied: the user is a member, but not an owner.
    """
    membership = membership_for_user(user, group_id)
    if membership.role != Role.OWNER:
        raise PermissionDenied("Only owners of the group may do this. Ask one of them.")
    return membership.group


def membership_for_removal(user: Any, group_id: int, membership_id: int) -> GroupMembership:
    """A membership that ``user`` may end: owners end every one of their group, and everybody may leave.

    Raises:
        Http404: there is no such membership, or the user may not see the group.
        PermissionDenied: it is another's, and the user is no owner.
    """
    own = membership_for_user(user, group_id)
    if own.pk != membership_id and own.role != Role.OWNER:
        raise PermissionDenied("Only owners of the group may remove members. Ask one of them.")
    return get_object_or_404(own.group.memberships.select_related("user", "group"), pk=membership_id)
