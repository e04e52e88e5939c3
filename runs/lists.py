"""The lists of projects and of a project's runs, for their pages and the Web API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Subquery
from django.db.models.fields.json import KeyTransform
from django.db.models.functions import Coalesce, Now

from mlops_site.lists import ListSpec
from runs.models import Membership, Project, Run, RunDevice
from runs.states import RunState

FILTERS = ("state", "who", "device")
ARCHIVED = "archived"
STATE_FILTERS = {"active": "Active", "ended": "Ended", **dict(RunState.choices), ARCHIVED: "Archived"}

PROJECTS = ListSpec(
    search=("name", "description"),
    sorts={"name": "name", "runs": "run_count", "last": "last_run_at", "created": "created_at"},
    default_sort="-created",
)
RUNS = ListSpec(
    search=("name",),
    sorts={
        "name": "name",
        "state": "state",
        "devices": "device_count",
        "rounds": "round_index",
        "best": "best_value",
        "duration": "duration_now",
        "who": "who",
        "created": "created_at",
    },
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
            run_count=Count("runs", filter=Q(runs__deleted_at=None)),
            active_count=Count("runs", filter=Q(runs__deleted_at=None, runs__state__in=RunState.active())),
            member_count=Subquery(members.annotate(count=Count("pk")).values("count")),
            last_run_id=Subquery(last.values("pk")[:1]),
            last_run_name=Subquery(last.values("name")[:1]),
            last_run_state=Subquery(last.values("state")[:1]),
            last_run_at=Subquery(last.values("created_at")[:1]),
        )
        .select_related("created_by")
    )


def runs_listed(runs: QuerySet[Run]) -> QuerySet[Run]:
    """``runs`` with what a row of a list shows of them, and what it is sorted by; without what it does not show."""
    devices = RunDevice.objects.filter(run=OuterRef("pk")).order_by().values("run")
    return (
        runs.annotate(device_count=Coalesce(Subquery(devices.annotate(count=Count("pk")).values("count")), 0))
        .alias(
            best_value=KeyTransform("value", "best_metric"),
            duration_now=Coalesce(F("ended_at"), Now()) - F("started_at"),
            who=Coalesce("started_by__username", "created_by__username"),
        )
        .select_related("started_by", "created_by")
        .defer("configuration_copy", "limits", "aggregator_handle")
    )


@dataclass(frozen=True)
class RunFilter:
    """Which runs of a project are wanted; what is empty does not matter.

    Parameters
    ----------
    state: a ``RunState``, ``active``, ``ended``, or ``archived`` for those that lists leave out otherwise.
    who: user name of who started it, or created it where nobody has.
    device: part of the name of a device that takes part, or its id.
    """

    state: str = ""
    who: str = ""
    device: str = ""

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> RunFilter:
        """Read a filter from the parameters of a URL; what makes no sense is left out."""
        state, who, device = (parameters.get(name, "").strip().replace("\0", "")[:150] for name in FILTERS)
        return cls(state if state in STATE_FILTERS else "", who, device)

    def __bool__(self) -> bool:
        return bool(self.state or self.who or self.device)

    def apply(self, runs: QuerySet[Run]) -> QuerySet[Run]:
        """Return the runs that are wanted."""
        runs = runs.filter(archived_at__isnull=self.state != ARCHIVED)
        match self.state:
            case "active":
                runs = runs.filter(state__in=RunState.active())
            case "ended":
                runs = runs.filter(state__in=RunState.ended())
            case state if state in RunState.values:
                runs = runs.filter(state=state)
        if self.who:
            runs = runs.alias(who=Coalesce("started_by__username", "created_by__username")).filter(who=self.who)
        if self.device:
            named = Q(device__name__icontains=self.device)
            if self.device.isascii() and self.device.isdigit() and len(self.device) <= 18:
                named |= Q(edge_id=int(self.device))
            runs = runs.filter(Exists(RunDevice.objects.filter(named, run=OuterRef("pk"))))
        return runs
