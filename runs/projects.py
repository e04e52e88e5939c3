"""What is done to projects and their members."""

from typing import Any

from django.contrib.auth import get_user_model
from django.db import transaction

from runs.models import Membership, Project, Role, RunDevice


class ProjectRefused(Exception):
    """The request cannot be done; ``str(error)`` is a sentence that says why and what to do, fit for a page."""


def project_create(*, user: Any, name: str, description: str = "") -> Project:
    """Make a project of which ``user`` is the owner."""
    with transaction.atomic():
        project = Project.objects.create(name=name, description=description, created_by=user)
        Membership.objects.create(project=project, user=user, role=Role.OWNER)
    return project


def project_delete(*, project: Project) -> None:
    """Delete a project without runs.

    Raises:
        ProjectRefused: it has runs, whose models and logs would go with it.
    """
    with transaction.atomic():
        locked = Project.objects.select_for_update().get(pk=project.pk)
        if locked.runs.exists():
            raise ProjectRefused("A project that has runs cannot be deleted: their results would be lost.")
        locked.delete()


def member_set(*, project: Project, username: str, role: Role) -> Membership:
    """Add a user to a project, or give a member another role.

    Raises:
        ProjectRefused: there is no such user, or the project would be left without an owner.
    """
    user = get_user_model()._default_manager.filter(username=username, is_active=True).first()
    if user is None:
        raise ProjectRefused(f"There is no user named {username}. Check the spelling, or ask for an account for them.")
    with transaction.atomic():
        Project.objects.select_for_update().get(pk=project.pk)
        if role != Role.OWNER:
            _require_owner_besides(project, user)
        membership, _ = Membership.objects.update_or_create(project=project, user=user, defaults={"role": role})
    return membership


def member_remove(*, membership: Membership) -> None:
    """Take a member out of a project.

    Raises:
        ProjectRefused: the member is the last owner, or a run of the project holds one of the member's devices.
    """
    with transaction.atomic():
        Project.objects.select_for_update().get(pk=membership.project_id)
        _require_owner_besides(membership.project, membership.user)
        held = RunDevice.objects.filter(
            run__project=membership.project_id, holds_device=True, device__owner=membership.user_id
        )
        if held.exists():
            raise ProjectRefused(f"A run uses a device of {membership.user}. Wait until it ends, or stop it first.")
        membership.delete()


def _require_owner_besides(project: Project, user: Any) -> None:
    owners = set(project.memberships.filter(role=Role.OWNER).values_list("user", flat=True))
    if owners == {user.pk}:
        raise ProjectRefused("A project needs an owner. Make another member an owner first.")
