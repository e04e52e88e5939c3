"""The list of configurations, for its page and the Web API."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db.models import Count, Q, QuerySet

from configurations.models import Configuration
from mlops_site.lists import ListSpec

CONFIGURATIONS = ListSpec(
    search=("name", "owner__username", "project__name", "server_package__sha256", "client_package__sha256"),
    sorts={"name": "name", "owner": "owner__username", "runs": "run_count", "updated": "updated_at"},
    default_sort="-updated",
)


def configurations_listed(user: User) -> QuerySet[Configuration]:
    """Every configuration that ``user`` sees, each with ``run_count``: how many of the runs the user sees too."""
    return (
        Configuration.objects.filter(pk__in=Configuration.objects.visible_to(user).values("pk"))
        .select_related("owner", "project", "server_package", "client_package")
        .annotate(
            run_count=Count(
                "runs", filter=Q(runs__project__memberships__user=user, runs__deleted_at=None), distinct=True
            )
        )
    )
