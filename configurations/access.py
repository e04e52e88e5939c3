"""Who may see and change packages and configurations."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.shortcuts import get_object_or_404

from configurations.models import Configuration, Package


def configuration_for_user(user: User, pk: int, *, change: bool = False) -> Configuration:
    """The configuration, if ``user`` may see it, and with ``change`` if it is the user's own.

    Raises:
        Http404: the user may not see it.
        PermissionDenied: the user sees it through a project, and wants to change it.
    """
    configurations = Configuration.objects.visible_to(user).select_related(
        "owner", "project", "server_package", "client_package"
    )
    configuration = get_object_or_404(configurations, pk=pk)
    if change and configuration.owner_id != user.pk:
        raise PermissionDenied(
            "Only the owner of a configuration may change or delete it. Clone it, and change the clone."
        )
    return configuration


def package_for_user(user: User, kind: str, sha256: str) -> Package | None:
    """The package of this kind and content if ``user`` may make configurations of it, or None."""
    return Package.objects.visible_to(user).filter(kind=kind, sha256=sha256).first()


def projects_to_share_with(user: User) -> QuerySet[Any]:
    """The projects that ``user`` may share a configuration with: those in which the user is more than a viewer."""
    projects = Configuration._meta.get_field("project").related_model
    member = user.memberships.exclude(role="viewer")
    found: QuerySet[Any] = projects._default_manager.filter(pk__in=member.values("project")).order_by("name")
    return found
