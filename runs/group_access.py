"""What a group gives its members in its projects, written into ``Membership``: the one table that is asked for access.

A membership has the role that was given by name and the role that the group gives; the greater of the two counts and
stands in ``Membership.role``. Whoever changes a group or a project's group calls this within the same transaction.
"""

from __future__ import annotations

from groups.models import Group, GroupMembership
from runs.live.recheck import access_recheck
from runs.models import Membership, Project, Role

RANKS = {"": 0, Role.VIEWER.value: 1, Role.MEMBER.value: 2, Role.OWNER.value: 3}


def role_set(membership: Membership, *, by_name: str, by_group: str) -> None:
    """Set both roles of a membership and, of them, the one that counts; nothing is saved.

    Args:
        by_name: the role given by name; empty for none.
        by_group: the role that the project's group gives; empty for none. One of the two is not empty.
    """
    membership.group_role = by_group
    membership.own_role = by_name if by_group else ""
    membership.role = max(by_name, by_group, key=RANKS.__getitem__)


def group_lock(group_id: int) -> Group:
    """Let nobody else change the group, its members or its set of projects until the transaction ends."""
    return Group.objects.select_for_update().get(pk=group_id)


def project_access_write(project: Project) -> None:
    """Make the project's memberships what its group, or the lack of one, says; roles given by name stay."""
    by_group: dict[int, str] = {}
    if project.group_id is not None:
        by_group = dict(GroupMembership.objects.filter(group=project.group_id).values_list("user_id", "role"))
    for membership in project.memberships.all():
        given = by_group.pop(membership.user_id, "")
        by_name = membership.role_by_name
        if not given and not by_name:
            membership.delete()
            continue
        role_set(membership, by_name=by_name, by_group=given)
        membership.save(update_fields=["role", "own_role", "group_role"])
    Membership.objects.bulk_create(
        Membership(project=project, user_id=user_id, role=role, group_role=role) for user_id, role in by_group.items()
    )
    access_recheck([project.pk])


def group_access_write(group: Group) -> None:
    """Make the memberships of all the group's projects what the group says."""
    for project in group.projects.select_for_update():
        project_access_write(project)


def group_access_end(group: Group, user_id: int) -> None:
    """Take every role that a person has in the group's projects, also those given by name."""
    projects = list(group.projects.values_list("pk", flat=True))
    Membership.objects.filter(project__in=projects, user=user_id).delete()
    access_recheck(projects)
