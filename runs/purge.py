"""Removing what deleted runs held, in batches, beside everything else.

No batch keeps another writer waiting for long; each is a transaction of its own, and a task that dies half-way has done
that much. Files go before the rows that name them, so that none is left behind without a name.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.core.files.storage import default_storage
from django.db.models import Model, Q, QuerySet

from runs.models import Event, LogLine, Point, PointBlock, Receipt, Run, Series, StoredModel
from runs.states import RunState

ROWS_AT_ONCE = 5_000
BLOCKS_AT_ONCE = 200  # a block of points is some hundred kilobytes
SERIES_AT_ONCE = 500
PAUSE = 0.2  # of the time that a batch took, for others to write in


@dataclass
class Deadline:
    """The time that a purge may take; ``over`` once it is used up."""

    seconds: float
    started: float = field(default_factory=time.monotonic)

    @property
    def over(self) -> bool:
        return time.monotonic() - self.started > self.seconds


def runs_purge(seconds: float) -> int:
    """Remove deleted runs that are quiet: never started, or cleaned up after.

    Args:
        seconds: stop after about so long; what is left is due the next time.

    Returns:
        how many runs are gone for good.
    """
    deadline = Deadline(seconds)
    quiet = Q(state=RunState.CREATED) | Q(cleaned_at__isnull=False)
    gone = 0
    for run in Run.with_deleted.filter(quiet, deleted_at__isnull=False).order_by("deleted_at"):
        if not _run_purge(run.pk, deadline):
            break
        gone += 1
    return gone


def lines_purge(run_id: int, deadline: Deadline) -> bool:
    """Remove the log lines of a run; return whether all are gone."""
    return _rows_purge(LogLine.objects.filter(run_id=run_id), deadline)


def points_purge(run_id: int, deadline: Deadline) -> bool:
    """Remove the points of a run's series; the series stay, with their latest values. Return whether all are gone."""
    for ids in _series_ids(run_id):
        if not (
            _rows_purge(Point.objects.filter(series_id__in=ids), deadline)
            and _rows_purge(PointBlock.objects.filter(series_id__in=ids), deadline, BLOCKS_AT_ONCE)
        ):
            return False
        Series.objects.filter(pk__in=ids).update(count=0, packed=0)
    return True


def models_purge(models: QuerySet[StoredModel], deadline: Deadline) -> bool:
    """Remove stored models, and their bytes unless another of the run has the same; return whether all are gone."""
    for model in models.order_by("pk"):
        if deadline.over:
            return False
        same = StoredModel.objects.filter(run_id=model.run_id, storage_name=model.storage_name).exclude(pk=model.pk)
        if model.storage_name and not same.exists():
            default_storage.delete(model.storage_name)
        model.delete()
    return True


def _run_purge(run_id: int, deadline: Deadline) -> bool:
    done = (
        models_purge(StoredModel.objects.filter(run_id=run_id), deadline)
        and lines_purge(run_id, deadline)
        and points_purge(run_id, deadline)
        and _rows_purge(Receipt.objects.filter(run_id=run_id), deadline)
        and _rows_purge(Event.objects.filter(run_id=run_id), deadline)
        and _rows_purge(Series.objects.filter(run_id=run_id), deadline, SERIES_AT_ONCE)
    )
    if done:
        Run.with_deleted.filter(pk=run_id).delete()
    return done


def _rows_purge(rows: QuerySet[Any], deadline: Deadline, at_once: int | None = None) -> bool:
    model: type[Model] = rows.model
    most = at_once or ROWS_AT_ONCE
    while True:
        began = time.monotonic()
        removed, _ = model._default_manager.filter(pk__in=rows.order_by().values("pk")[:most]).delete()
        if removed == 0:
            return True
        if deadline.over:
            return False
        time.sleep(PAUSE * (time.monotonic() - began))


def _series_ids(run_id: int) -> Iterator[list[int]]:
    last = 0
    while True:
        some = Series.objects.filter(run_id=run_id, pk__gt=last).order_by("pk").values_list("pk", flat=True)
        ids = list(some[:SERIES_AT_ONCE])
        if not ids:
            return
        yield ids
        last = ids[-1]
