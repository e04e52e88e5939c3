"""Everything that a run page starts from, as of one frame."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from django.db import connection, transaction

from runs.live.figures import figures_of
from runs.live.payloads import (
    device_item,
    event_item,
    log_items,
    model_item,
    round_item,
    run_item,
    stage_item,
)
from runs.models import Event, LogLine, Run, Series
from runs.telemetry.charts import snapshot_points

LOG_LINES = 500
MODELS = 200
EVENTS = 2_000

# A snapshot that is not older than this is given to the next page too: when many pages open at once (a restart of the
# server), they share one, and each follows it up with the frames since.
SHARED_SECONDS = 2.0
_SHARED_RUNS = 16


def snapshot(run_id: int) -> dict[str, Any]:
    """Read everything that a page of the run shows.

    All of it, and the frame number (``cursor``), is read from one state of the database, so that the frames after the
    cursor are exactly what is missing from it. Keys: ``type``, ``cursor``, ``time``, ``run``, ``stages``, ``devices``,
    ``rounds``, ``events`` (the last 2,000), ``models`` (the last 200), ``logs`` (items of the last 500 lines, oldest
    first), and those of ``runs.live.figures``.

    Raises:
        Run.DoesNotExist: the run was deleted.
    """
    with database_snapshot():
        run = Run.objects.get(pk=run_id)
        parts = list(run.run_devices.select_related("device"))
        stages = list(run.stages.all())
        rounds = list(run.rounds.all())
        events = list(Event.objects.filter(run=run).order_by("-id")[:EVENTS])
        models = list(run.models.order_by("-id")[:MODELS])
        lines = list(LogLine.objects.filter(run=run).order_by("-id")[:LOG_LINES])
        series = list(Series.objects.filter(run=run))
        points = snapshot_points(series)
    logs = [(line.reporter, (line.pk, line.time, line.stream, line.level, line.line)) for line in reversed(lines)]
    return {
        "type": "snapshot",
        "cursor": run.frame_number,
        "time": time.time(),
        "run": run_item(run),
        "stages": [stage_item(stage) for stage in stages],
        "devices": [device_item(part) for part in parts],
        "rounds": [round_item(round_) for round_ in rounds],
        "events": [event_item(event) for event in reversed(events)],
        "models": [model_item(model) for model in reversed(models)],
        "logs": log_items(logs),
        **figures_of(parts, series, points),
    }


class _Shared(NamedTuple):
    created_at: datetime
    cursor: int
    text: str
    made_at: float


_shared: dict[int, _Shared] = {}
_locks: dict[int, threading.Lock] = {}
_guard = threading.Lock()


def snapshot_encoded(run_id: int, at_least: int) -> tuple[int, str]:
    """Return (cursor, JSON) of a snapshot whose cursor is ``at_least`` or later; one is made for many pages.

    Raises:
        Run.DoesNotExist: the run was deleted.
    """
    with _guard:
        lock = _locks.setdefault(run_id, threading.Lock())
    with lock:
        # A run's number may be given again after the database was replaced by an older copy of itself.
        created_at = Run.objects.values_list("created_at", flat=True).get(pk=run_id)
        made_at = time.monotonic()
        shared = _shared.get(run_id)
        if (
            shared is not None
            and shared.created_at == created_at
            and shared.cursor >= at_least
            and made_at - shared.made_at < SHARED_SECONDS
        ):
            return shared.cursor, shared.text
        content = snapshot(run_id)
        text = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY).decode()
        with _guard:
            _shared[run_id] = _Shared(created_at, content["cursor"], text, made_at)
            while len(_shared) > _SHARED_RUNS:
                oldest = min(_shared, key=lambda key: _shared[key].made_at)
                del _shared[oldest]
                _locks.pop(oldest, None)
        return content["cursor"], text


@contextmanager
def database_snapshot() -> Iterator[None]:
    """Let everything read within it come from one state of the database, without keeping writers waiting.

    On PostgreSQL a REPEATABLE READ transaction. On SQLite a deferred one: Django's own would be IMMEDIATE (the
    setting), which takes the write lock. Within a transaction that is open already it does nothing.
    """
    if connection.in_atomic_block:
        yield
    elif connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("BEGIN DEFERRED")
            try:
                yield
            finally:
                cursor.execute("ROLLBACK")
    else:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield
