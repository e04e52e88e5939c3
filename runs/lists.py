"""The lists of projects and of a project's runs, for their pages and the Web API."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, F, OuterRef, Q, QuerySet, Subquery

from mlops_site.lists import ListSpec
from runs.models import Membership, Project, Run
from runs.states import RunState

PROJECTS = ListSpec(
    search=("name", "description"),
    sorts={"name": "name", "runs": "run_count", "last": "last_run_at", "created": "created_at"},
    default_sort="-created",
)
RUNS = ListSpec(
    search=("name",),
    sorts={"name": "name", "state": "state", "rounds": "round_index", "created": "created_at"},
    default_sort="-created",
)


def projects_listed(user: Any) -> QuerySet[Project]:
    """The projects of ``user``, each with the user's ``role``, its counts and its last run."""
    last = Run.objects.filter(project=OuterRef("pk")).order_by("-created_at")
    members = Membership.objects.filter(project=OuterRef("pk")).order_by().values("project")
    return (
        Project.objects.visible_to(user)
        .annotate(
            role=F("memberships__role"),
            run_count=Count("runs"),
            active_count=Count("runs", filter=Q(runs__state__in=RunState.active())),
            member_count=Subquery(members.annotate(count=Count("pk")).values("count")),
            last_run_id=Subquery(last.values("pk")[:1]),
            last_run_name=Subquery(last.values("name")[:1]),
            last_run_state=Subquery(last.values("state")[:1]),
            last_run_at=Subquery(last.values("created_at")[:1]),
        )
        .select_related("created_by")
    )


def runs_listed(runs: QuerySet[Run]) -> QuerySet[Run]:
    """``runs`` with what a row of a list shows of them."""
    return runs.annotate(device_count=Count("run_devices", distinct=True)).select_related("started_by", "created_by")
