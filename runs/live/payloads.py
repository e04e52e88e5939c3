"""The items of live frames: what they hold, and how they are made from rows.

A frame is a list of items; every item is a JSON object whose ``t`` says what it is. The snapshot that a page
starts from is made of the same items, so that a page applies both by the same code. Times are seconds since the epoch
(UTC).

A value that JSON has no number for (NaN and the infinities) travels as null with a flag beside it that says which it
was (``runs.models.ValueFlag``); in the free-form ``metrics`` of a model it is the string that the reporter sent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict

from django.urls import reverse

from runs.models import Event, Round, Run, RunDevice, Series, Stage, StoredModel, ValueFlag
from runs.states import InstanceStatus, RunState, StageState


class AggregatorStatus(TypedDict):
    status: str
    label: str
    colour: str
    reason: str
    since: float


class RunItem(TypedDict):
    t: Literal["run"]
    id: int
    name: str
    state: str
    label: str
    colour: str
    reason: str
    since: float
    started_at: float | None
    ended_at: float | None
    round_index: int
    total_rounds: int
    running_time: float
    best_metric: dict[str, Any] | None
    aggregator: AggregatorStatus


class StageItem(TypedDict):
    t: Literal["stage"]
    name: str
    label: str
    position: int
    state: str
    state_label: str
    colour: str
    reason: str
    progress: float | None
    attempt: int
    started_at: float | None
    ended_at: float | None


class DeviceItem(TypedDict):
    t: Literal["device"]
    edge_id: int
    name: str
    client_index: int
    status: str
    label: str
    colour: str
    reason: str
    since: float
    phase: str
    progress: float | None
    online: bool
    exit_code: int | None
    delivery: dict[str, float]
    clock_offset: float | None
    runtime: str


class SeriesDescriptor(TypedDict):
    id: int
    edge_id: int
    name: str
    kind: str


# One point as it travels: (series id, point id, step, round, time, value, flag); the value is None where the flag is
# not ``ValueFlag.FINITE``.
PointRow = tuple[int, int, float, int | None, float, float | None, int]


class PointsItem(TypedDict):
    t: Literal["points"]
    series: list[SeriesDescriptor]
    points: Sequence[PointRow]


# One log line as it travels: (id, time, stream, level, line).
LogRow = tuple[int, float, str, str, str]


class LogItem(TypedDict):
    t: Literal["log"]
    reporter: str
    lines: Sequence[LogRow]


class ModelItem(TypedDict):
    t: Literal["model"]
    id: int
    kind: str
    edge_id: int
    round_index: int
    sha256: str
    size: int
    metrics: dict[str, Any]
    created_at: float
    url: str | None


class RoundItem(TypedDict):
    t: Literal["round"]
    round_index: int
    total_rounds: int
    running_time: float
    time: float


class EventItem(TypedDict):
    t: Literal["event"]
    edge_id: int
    name: str
    value: str
    started_time: float | None
    ended_time: float | None


Item = RunItem | StageItem | DeviceItem | PointsItem | LogItem | ModelItem | RoundItem | EventItem


def run_item(run: Run) -> RunItem:
    """Describe a run's state, rounds and aggregator."""
    state = RunState(run.state)
    aggregator = InstanceStatus(run.aggregator_status)
    return {
        "t": "run",
        "id": run.pk,
        "name": run.name,
        "state": state.value,
        "label": state.label,
        "colour": state.colour,
        "reason": run.reason,
        "since": run.state_since.timestamp(),
        "started_at": _seconds(run.started_at),
        "ended_at": _seconds(run.ended_at),
        "round_index": run.round_index,
        "total_rounds": run.total_rounds,
        "running_time": run.running_time,
        "best_metric": run.best_metric and {**run.best_metric, "value": _number(run.best_metric["value"])},
        "aggregator": {
            "status": aggregator.value,
            "label": aggregator.label,
            "colour": aggregator.colour,
            "reason": run.aggregator_reason,
            "since": run.aggregator_since.timestamp(),
        },
    }


def stage_item(stage: Stage) -> StageItem:
    """Describe one stage of a run's pipeline."""
    state = StageState(stage.state)
    return {
        "t": "stage",
        "name": stage.name,
        "label": stage.get_name_display(),
        "position": stage.position,
        "state": state.value,
        "state_label": state.label,
        "colour": state.colour,
        "reason": stage.reason,
        "progress": stage.progress,
        "attempt": stage.attempt,
        "started_at": _seconds(stage.started_at),
        "ended_at": _seconds(stage.ended_at),
    }


def device_item(part: RunDevice) -> DeviceItem:
    """Describe a device's part in a run. Reads ``part.device``: fetch it with ``select_related("device")``."""
    status = InstanceStatus(part.status)
    device = part.device
    return {
        "t": "device",
        "edge_id": part.edge_id,
        "name": device.name if device else f"device {part.edge_id}",
        "client_index": part.client_index,
        "status": status.value,
        "label": status.label,
        "colour": status.colour,
        "reason": part.reason,
        "since": part.since.timestamp(),
        "phase": part.phase,
        "progress": part.progress,
        "online": bool(device and device.online),
        "exit_code": part.exit_code,
        "delivery": _delivery(part),
        "clock_offset": part.clock_offset,
        "runtime": device.runtime if device else "",
    }


def series_descriptor(series: Series) -> SeriesDescriptor:
    """Describe a series, as points of a frame need it the first time."""
    return {"id": series.pk, "edge_id": series.edge_id, "name": series.name, "kind": series.kind}


def points_item(series: Sequence[SeriesDescriptor], points: Sequence[PointRow]) -> PointsItem:
    """Make the item of new points.

    Args:
        series: the series that these points are the first of; a page knows all others.
        points: in the order in which they were stored.
    """
    return {"t": "points", "series": list(series), "points": points}


def log_item(reporter: str, lines: Sequence[LogRow]) -> LogItem:
    """Make the item of new log lines of one reporter: ``stage:<name>``, ``server`` or ``edge:<id>``."""
    return {"t": "log", "reporter": reporter, "lines": lines}


def model_item(model: StoredModel) -> ModelItem:
    """Describe a stored model; ``url`` is None while its bytes have not arrived."""
    return {
        "t": "model",
        "id": model.pk,
        "kind": model.kind,
        "edge_id": model.edge_id,
        "round_index": model.round_index,
        "sha256": model.sha256,
        "size": model.size,
        "metrics": {name: _number(value) for name, value in model.metrics.items()},
        "created_at": model.created_at.timestamp(),
        "url": reverse("model_download", args=[model.run_id, model.pk]) if model.storage_name else None,
    }


def round_item(round_: Round) -> RoundItem:
    """Describe a finished round."""
    return {
        "t": "round",
        "round_index": round_.round_index,
        "total_rounds": round_.total_rounds,
        "running_time": round_.running_time,
        "time": round_.reported_at.timestamp(),
    }


def event_item(event: Event) -> EventItem:
    """Describe a span of work; either end may not have been reported yet."""
    return {
        "t": "event",
        "edge_id": event.edge_id,
        "name": event.name,
        "value": event.value,
        "started_time": event.started_time,
        "ended_time": event.ended_time,
    }


def value_and_flag(value: float) -> tuple[float | None, int]:
    """Split a value into what a column or JSON can hold and the flag that says what it was."""
    if math.isfinite(value):
        return value, 0
    if math.isnan(value):
        return None, ValueFlag.NAN.value
    return None, (ValueFlag.POSITIVE_INFINITY if value > 0 else ValueFlag.NEGATIVE_INFINITY).value


def log_items(lines: Iterable[tuple[str, LogRow]]) -> list[LogItem]:
    """Group consecutive lines of the same reporter into one item each, keeping their order."""
    items: list[LogItem] = []
    rows: list[LogRow] = []
    for reporter, row in lines:
        if not items or items[-1]["reporter"] != reporter:
            rows = []
            items.append(log_item(reporter, rows))
        rows.append(row)
    return items


def _delivery(part: RunDevice) -> dict[str, float]:
    """When each step of the way to the device was heard of; a step that was not is missing."""
    moments = {"sent": part.command_sent_at, "received": part.first_report_at, "alive": part.alive_at}
    return {**part.phase_times, **{name: moment.timestamp() for name, moment in moments.items() if moment}}


def _number(value: Any) -> Any:
    """A number out of a JSON column: PostgreSQL gives 1e300 back as a whole number, which is too long to encode."""
    return float(value) if isinstance(value, int) else value


def _seconds(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment else None
