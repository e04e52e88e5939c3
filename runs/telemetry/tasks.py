"""The tasks of telemetry, for the worker."""

from __future__ import annotations

from celery import shared_task

from runs.purge import runs_purge as purge
from runs.retention import retention_apply
from runs.telemetry.packing import points_pack as pack

PACK_SECONDS = 5.0
PURGE_SECONDS = 20.0


@shared_task(name="runs.telemetry.tasks.points_pack")
def points_pack() -> None:
    """Move points into blocks for some seconds, every ten seconds, so that a backlog leaves room for ingest."""
    pack(PACK_SECONDS)


@shared_task(name="runs.telemetry.tasks.runs_purge")
def runs_purge() -> None:
    """Remove what deleted runs held, for some seconds, every half minute and whenever a run is deleted."""
    purge(PURGE_SECONDS)


@shared_task(name="runs.telemetry.tasks.retain")
def retain() -> None:
    """Remove what projects no longer want to keep, for some seconds, every ten minutes."""
    retention_apply(PURGE_SECONDS)
