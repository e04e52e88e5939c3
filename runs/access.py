"""Who may see and change a project or a run. Pages and the Web API ask here before they do anything."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.shortcuts import get_object_or_404

from runs.models import Membership, Project, Role, Run

CHANGING_ROLES = (Role.OWNER, Role.MEMBER)


def membership_for_user(user: Any, project_id: int) -> Membership:
    """The user's membership in a project, with the project at hand.

    Raises:
        Http404: there is no such project, or the user is no member of it.
    """
    return get_object_or_404(Membership.objects.select_related("project__group"), project=project_id, user=user)


def project_for_owner(user: Any, project_id: int) -> Project:
    """The project, for what only owners may do.

    Raises:
        Http404: there is no such project, or the user is no member of it.
        PermissionDenied: the user is a member, but not an owner.
    """
    membership = membership_for_user(user, project_id)
    if membership.role != Role.OWNER:
        raise PermissionDenied("Only owners of the project may do this. Ask one of them.")
    return membership.project


def project_for_run(user: Any, project_id: int) -> Project:
    """The project, if ``user`` may create runs in it.

    Raises:
        Http404: the user may not even see it.
        PermissionDenied: the user is a viewer.
    """
    membership = membership_for_user(user, project_id)
    if membership.role not in CHANGING_ROLES:
        raise PermissionDenied("Viewers of a project cannot create runs. Ask an owner of the project for more.")
    return membership.project


def membership_for_removal(user: Any, project_id: int, membership_id: int) -> Membership:
    """A membership that ``user`` may end: owners end every one of their project, and everybody may leave.

    Raises:
        Http404: there is no such membership, or the user may not see the project.
        PermissionDenied: it is another's, and the user is no owner.
    """
    own = membership_for_user(user, project_id)
    if own.pk != membership_id and own.role != Role.OWNER:
        raise PermissionDenied("Only owners of the project may remove members. Ask one of them.")
    return get_object_or_404(own.project.memberships.select_related("user", "project"), pk=membership_id)


def run_for_user(user: Any, run_id: int) -> Run:
    """Return the run if ``user`` may see it.

    Raises:
        Http404: there is no such run, or it belongs to a project of which the user is no member.
    """
    runs = Run.objects.visible_to(user).select_related(
        "project", "created_by", "started_by", "server_package", "client_package", "parent", "initial_model__run"
    )
    return get_object_or_404(runs, pk=run_id)


def run_for_change(user: Any, run_id: int) -> Run:
    """Return the run if ``user`` may change it.

    Raises:
        Http404: the user may not even see it.
        PermissionDenied: the user is a viewer of the project.
    """
    run = run_for_user(user, run_id)
    if not run_may_change(run, user):
        raise PermissionDenied("Viewers of a project cannot change its runs. Ask an owner of the project for more.")
    return run


def run_may_change(run: Run, user: Any) -> bool:
    """Whether ``user`` may change the run."""
    return run.project.role_of(user) in CHANGING_ROLES
