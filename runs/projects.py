"""What is done to projects and their members."""

from typing import Any

from django.contrib.auth import get_user_model
from django.db import transaction

from groups.models import Group, GroupMembership
from runs.group_access import group_lock, project_access_write, role_set
from runs.live.recheck import access_recheck
from runs.models import Membership, Project, Role, Run, RunDevice


class ProjectRefused(Exception):
    """The request cannot be done; ``str(error)`` is a sentence that says why and what to do, fit for a page."""


def project_create(*, user: Any, name: str, description: str = "", group: Group | None = None) -> Project:
    """Make a project of which ``user`` is the owner; with ``group``, its members get their role in it.

    Raises:
        ProjectRefused: the user may not make projects in the group.
    """
    with transaction.atomic():
        if group is not None:
            _require_group_role(group, user)
        project = Project.objects.create(name=name, description=description, created_by=user, group=group)
        Membership.objects.create(project=project, user=user, role=Role.OWNER)
        if group is not None:
            project_access_write(project)
    return project


def project_change(*, project: Project, user: Any, name: str, description: str, group: Group | None) -> None:
    """Change what a project is called and which group it belongs to.

    Raises:
        ProjectRefused: as ``project_group_set``; then nothing is changed.
    """
    with transaction.atomic():
        project_group_set(project=project, user=user, group=group)
        project.name, project.description = name, description
        project.save(update_fields=["name", "description"])


def project_group_set(*, project: Project, user: Any, group: Group | None) -> None:
    """Move a project into a group, into another one, or out of its group. ``user`` stays its owner.

    Raises:
        ProjectRefused: the user may not make projects in the group, or a run of the project holds a device of one who
            would leave with the group.
    """
    with transaction.atomic():
        if group is not None:
            _require_group_role(group, user)
        locked = Project.objects.select_for_update().get(pk=project.pk)
        if locked.group_id == (group.pk if group else None):
            return
        staying = list(GroupMembership.objects.filter(group=group).values_list("user_id", flat=True)) if group else []
        leaving = locked.memberships.exclude(group_role="").filter(own_role="").exclude(user__in=staying)
        _require_no_device_held(locked, leaving.exclude(user=user).values("user"))
        mover = locked.memberships.get(user=user)
        role_set(mover, by_name=Role.OWNER, by_group=mover.group_role)
        mover.save(update_fields=["role", "own_role", "group_role"])
        locked.group = project.group = group
        locked.save(update_fields=["group"])
        project_access_write(locked)


def project_delete(*, project: Project) -> None:
    """Delete a project without runs.

    Raises:
        ProjectRefused: it has runs, whose models and logs would go with it.
    """
    with transaction.atomic():
        locked = Project.objects.select_for_update().get(pk=project.pk)
        if locked.runs.exists():
            raise ProjectRefused("A project that has runs cannot be deleted: their results would be lost.")
        if Run.with_deleted.filter(project=locked).exists():
            raise ProjectRefused("What deleted runs of the project held is still being removed. Try again in a moment.")
        locked.delete()


def member_set(*, project: Project, username: str, role: Role) -> Membership:
    """Add a user to a project, or give a member another role by name; a greater one that the group gives stays.

    Raises:
        ProjectRefused: there is no such user, or the project would be left without an owner.
    """
    user = get_user_model()._default_manager.filter(username=username, is_active=True).first()
    if user is None:
        raise ProjectRefused(f"There is no user named {username}. Check the spelling, or ask for an account for them.")
    with transaction.atomic():
        Project.objects.select_for_update().get(pk=project.pk)
        membership = project.memberships.filter(user=user).first() or Membership(project=project, user=user)
        if role != Role.OWNER and membership.group_role != Role.OWNER:
            _require_owner_besides(project, user)
        role_set(membership, by_name=role, by_group=membership.group_role)
        membership.save()
    return membership


def member_remove(*, membership: Membership) -> None:
    """Take the role that was given by name from a member, who thereby leaves unless the group gives one too.

    Raises:
        ProjectRefused: the group alone gives the role, the member is the last owner, or a run of the project holds one
            of the member's devices.
    """
    with transaction.atomic():
        project = Project.objects.select_for_update().get(pk=membership.project_id)
        membership.refresh_from_db(fields=["role", "own_role", "group_role"])
        if membership.group_role != Role.OWNER:
            _require_owner_besides(project, membership.user)
        if not membership.group_role:
            _require_no_device_held(project, [membership.user_id])
            membership.delete()
            access_recheck([project.pk])
        elif membership.own_role:
            role_set(membership, by_name="", by_group=membership.group_role)
            membership.save(update_fields=["role", "own_role", "group_role"])
        else:
            raise ProjectRefused(
                f"{membership.user} is here by the group {project.group}: who leaves the group leaves its projects."
            )


def _require_group_role(group: Group, user: Any) -> None:
    """Lock the group, and see that the user is more than a viewer of it."""
    group_lock(group.pk)
    if not group.memberships.filter(user=user).exclude(role=Role.VIEWER).exists():
        raise ProjectRefused(f"Viewers of {group} cannot put projects into it. Ask an owner of the group for more.")


def _require_no_device_held(project: Project, users: Any) -> None:
    held = RunDevice.objects.filter(run__project=project, holds_device=True, device__owner__in=users)
    part = held.select_related("device__owner").first()
    if part is not None and part.device is not None:
        raise ProjectRefused(f"A run uses a device of {part.device.owner}. Wait until it ends, or stop it first.")


def _require_owner_besides(project: Project, user: Any) -> None:
    owners = set(project.memberships.filter(role=Role.OWNER).values_list("user", flat=True))
    if owners == {user.pk}:
        raise ProjectRefused("A project needs an owner. Make another member an owner first.")
