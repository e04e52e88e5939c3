"""The tasks of telemetry, for the worker."""

from __future__ import annotations

from celery import shared_task

from runs.telemetry.packing import points_pack as pack

PACK_SECONDS = 5.0


@shared_task(name="runs.telemetry.tasks.points_pack")
def points_pack() -> None:
    """Move points into blocks for some seconds, every ten seconds, so that a backlog leaves room for ingest."""
    pack(PACK_SECONDS)
