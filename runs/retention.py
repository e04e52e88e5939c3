"""How long a project keeps what its runs reported, and what a run holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import Count, Exists, OuterRef, Q, Sum
from django.utils import timezone

from runs.log_search import LogQuery, lines_count
from runs.models import LogLine, ModelKind, Project, Run, Series, StoredModel
from runs.purge import Deadline, lines_purge, models_purge, points_purge
from runs.states import RunState


@dataclass(frozen=True)
class Holdings:
    """What a run holds, and loses when it is deleted.

    Parameters
    ----------
    lines: how many log lines, at most 10,000 of them counted; ``more_lines`` says whether there are more.
    models, model_bytes: how many stored models, and their size.
    children: how many runs were made of this one; they stay.
    """

    run: Run
    lines: int
    more_lines: bool
    points: int
    rounds: int
    models: int
    model_bytes: int
    children: int


def holdings(run: Run) -> Holdings:
    """Count what a run holds."""
    lines, more = lines_count(run.pk, LogQuery())
    models = run.models.aggregate(count=Count("pk"), size=Sum("size"))
    return Holdings(
        run=run,
        lines=lines,
        more_lines=more,
        points=run.series.aggregate(count=Sum("count"))["count"] or 0,
        rounds=run.rounds.count(),
        models=models["count"],
        model_bytes=models["size"] or 0,
        children=run.children.count(),
    )


def retention_apply(seconds: float) -> bool:
    """Remove what projects no longer want to keep of runs that ended long enough ago.

    Args:
        seconds: stop after about so long; what is left is due the next time.

    Returns:
        whether all that was due is gone.
    """
    deadline = Deadline(seconds)
    keeps_for_good = Q(log_days=None, point_days=None, client_model_days=None)
    return all(_project_apply(project, deadline) for project in Project.objects.exclude(keeps_for_good).order_by("pk"))


def _project_apply(project: Project, deadline: Deadline) -> bool:
    if project.log_days is not None:
        lines = LogLine.objects.filter(run=OuterRef("pk"))
        for run_id in _over(project, project.log_days, Exists(lines)):
            if not lines_purge(run_id, deadline):
                return False
    if project.point_days is not None:
        series = Series.objects.filter(run=OuterRef("pk"), count__gt=0)
        for run_id in _over(project, project.point_days, Exists(series)):
            if not points_purge(run_id, deadline):
                return False
    if project.client_model_days is not None:
        models = StoredModel.objects.filter(run=OuterRef("pk"), kind=ModelKind.CLIENT)
        for run_id in _over(project, project.client_model_days, Exists(models)):
            if not models_purge(StoredModel.objects.filter(run_id=run_id, kind=ModelKind.CLIENT), deadline):
                return False
    return True


def _over(project: Project, days: int, holds: Any) -> list[int]:
    """Return the runs of a project that ended so many days ago and still hold something."""
    runs = project.runs.filter(
        holds, state__in=RunState.ended(), ended_at__lt=timezone.now() - timedelta(days=days), packed_at__isnull=False
    )
    return list(runs.order_by("pk").values_list("pk", flat=True))
