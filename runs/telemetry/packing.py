"""Moving points from rows of their own into blocks, beside ingest and without ever holding it up.

A point is moved by one transaction that deletes its row and writes it into a block, so that every reader finds it in
exactly one of the two. Which rows are moved is what the database gives back of the deletion: a row that another
transaction commits later, whatever its id, simply stays in the tail for the next time. Two movers of the same series do
no harm: one of them finds the rows gone and gives up.

The locks taken are on the rows that are deleted, of which ingest knows nothing, on the run FOR KEY SHARE, which only
its deletion excludes, and for a moment at the end on the series' row. On SQLite, where one transaction writes at a
time, each moves no more than one block.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import F, Q
from django.utils import timezone

from runs.models import PointBlock, Run, Series
from runs.states import RunState
from runs.telemetry.blocks import AXES, BLOCK_CHUNKS, CHUNK_POINTS, DIRECTORY, LEVELS, Block, block_make, blocks_merge
from runs.telemetry.reading import tail_take

BLOCK_POINTS = BLOCK_CHUNKS * CHUNK_POINTS
AFTER_END_SECONDS = 60.0  # after the last moment at which points of an ended run are taken


def points_pack(seconds: float) -> int:
    """Move what is due of all runs into blocks: full chunks while a run lasts, the rest after it has ended.

    Args:
        seconds: stop after about so long; what is left is due the next time.

    Returns:
        how many points were moved.
    """
    deadline = time.monotonic() + seconds
    moved = 0
    for run_id, is_over in _runs_due():
        for series_id in _series_due(run_id, is_over):
            while count := series_pack(series_id, whole=is_over):
                moved += count
                if time.monotonic() > deadline:
                    return moved
        if is_over:
            Run.objects.filter(pk=run_id, state__in=RunState.ended()).update(packed_at=timezone.now())
    return moved


def series_pack(series_id: int, *, whole: bool = False) -> int:
    """Move points of one series into a block, in the order of their arrival, at most 16,384.

    Args:
        series_id: the series; it may have been deleted.
        whole: move also what does not fill a chunk. For runs that have ended.

    Returns:
        how many points were moved: 0 where there are too few, or somebody else moves them.
    """
    try:
        with transaction.atomic():
            series = Series.objects.filter(pk=series_id).values("run_id", "packed", "count").first()
            if series is None or not _run_hold(series["run_id"]):
                return 0
            left = series["count"] - series["packed"]
            most = min(left, BLOCK_POINTS)
            if not whole:
                most -= most % CHUNK_POINTS
            if most <= 0:
                return 0
            points = tail_take(series_id, most)
            count = len(points["id"])
            if count < most and not whole:
                raise _Disturbed
            if count == 0:
                return 0
            block_store(series_id, series["packed"], block_make(points))
            _small_blocks_merge(series_id, whole=whole and count == left)
            Series.objects.filter(pk=series_id).update(packed=F("packed") + count)
            return count
    except (IntegrityError, _Disturbed):
        return 0


class _Disturbed(Exception):
    """Somebody else moves the same points."""


def _runs_due() -> Iterator[tuple[int, bool]]:
    """Yield the runs that may have points to move, and whether no more can come."""
    over = timezone.now() - timedelta(seconds=settings.TELEMETRY_GRACE_SECONDS + AFTER_END_SECONDS)
    runs = Run.objects.filter(Q(state__in=RunState.active()) | Q(state__in=RunState.ended(), packed_at=None))
    for run_id, state, ended_at in runs.order_by("pk").values_list("pk", "state", "ended_at"):
        yield run_id, state in RunState.ended() and ended_at is not None and ended_at < over


def _series_due(run_id: int, is_over: bool) -> list[int]:
    left = 1 if is_over else CHUNK_POINTS
    rows = Series.objects.filter(run_id=run_id, count__gte=F("packed") + left)
    return list(rows.order_by("pk").values_list("pk", flat=True))


def _run_hold(run_id: int) -> bool:
    """Keep the run from being deleted until the transaction ends. Return whether it is there."""
    lock = " FOR KEY SHARE" if connection.vendor == "postgresql" else ""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT 1 FROM runs_run WHERE id = %s{lock}", [run_id])  # noqa: S608
        return cursor.fetchone() is not None


def block_store(series_id: int, position: int, block: Block) -> None:
    """Store a block whose points come after ``position`` points of the series that are in blocks already."""
    spans = {axis: block.span(axis) for axis in AXES}
    PointBlock.objects.create(
        series_id=series_id,
        position=position,
        count=block.count,
        directory=block.directory.tobytes(),
        data=block.data,
        **{f"{axis}_low": low for axis, (low, _) in spans.items()},
        **{f"{axis}_high": high for axis, (_, high) in spans.items()},
        **{f"extremes_{level}": extremes for level, extremes in zip(LEVELS, block.extremes, strict=True)},
    )


def _small_blocks_merge(series_id: int, *, whole: bool) -> None:
    """Make one block of small ones once they fill it, so that a long series has few."""
    small = PointBlock.objects.filter(series_id=series_id, count__lt=BLOCK_POINTS).order_by("position")
    counts = list(small.values_list("pk", "count"))
    if len(counts) < 2 or (sum(count for _, count in counts) < BLOCK_POINTS and not whole):
        return
    rows = list(small)
    merged = blocks_merge([_block_of(row) for row in rows])
    PointBlock.objects.filter(pk__in=[row.pk for row in rows]).delete()
    block_store(series_id, rows[0].position, merged)


def _block_of(row: PointBlock) -> Block:
    extremes = tuple(bytes(getattr(row, f"extremes_{level}")) for level in LEVELS)
    return Block(np.frombuffer(row.directory, DIRECTORY), extremes, bytes(row.data))
