"""Storing what reporters sent: a batch of messages is one transaction, with the frames that tell open pages of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from django.db import connection, transaction

from runs import lifecycle
from runs.live.broadcast import frames_record
from runs.live.payloads import (
    EventItem,
    Item,
    LogRow,
    PointRow,
    SeriesDescriptor,
    log_items,
    model_item,
    points_item,
    round_item,
    run_item,
    value_and_flag,
)
from runs.model_store import model_announce
from runs.models import Round, Run
from runs.telemetry.best import Candidate, best_metric
from runs.telemetry.bulk import LogLineRow, ReceiptKey, SeriesChange, bulk
from runs.telemetry.levels import level_of
from runs.telemetry.life import life_apply, signs_of_life
from runs.telemetry.payloads import (
    EventPayload,
    LogPayload,
    MetricsPayload,
    ModelPayload,
    Payload,
    RoundPayload,
    SystemPayload,
    value_of,
)
from runs.telemetry.refusals import Reason, Refused
from runs.telemetry.series import SeriesBook, SeriesKey
from runs.telemetry.topics import Address, Kind

ReportPayload = MetricsPayload | RoundPayload | EventPayload | SystemPayload | ModelPayload | LogPayload


class Report(NamedTuple):
    """A checked message of a reporter of a run; edge 0 is the aggregator."""

    kind: Kind
    run_id: int
    edge_id: int
    payload: ReportPayload


@dataclass
class Stored:
    """What a batch came to."""

    messages: int = 0
    duplicates: int = 0
    points: int = 0
    lines: int = 0


@dataclass
class _RunBatch:
    """What is new in one run."""

    points: list[PointRow] = field(default_factory=list)
    series: list[SeriesDescriptor] = field(default_factory=list)
    changes: dict[int, SeriesChange] = field(default_factory=dict)
    candidates: list[Candidate] = field(default_factory=list)
    lines: list[tuple[str, LogRow]] = field(default_factory=list)
    events: dict[tuple[int, str, str], EventPayload] = field(default_factory=dict)
    models: list[tuple[int, ModelPayload]] = field(default_factory=list)
    rounds: list[RoundPayload] = field(default_factory=list)


# What is new of a series, in the order of its columns: (key, step, round, time, value). A plain tuple: there are many.
_NewPoint = tuple[SeriesKey, float, int | None, float, float]


def reports_store(reports: Sequence[Report], book: SeriesBook) -> Stored:
    """Store the reports that were not stored before, all of them or none.

    1. Receipts decide which messages are new.
    2. Points, lines and events are written in bulk.
    3. The runs' rows are locked in the order of their ids; what counts in the run as a whole is brought up to date, and
       each run gets one frame.

    Args:
        reports: checked messages whose senders may report in their runs.
        book: remembers the ids of series between batches.

    Raises:
        Refused: one of them cannot be stored; nothing of the batch was.
        Run.DoesNotExist: a run was deleted in the meantime.
        DatabaseError: the database is away, or refuses something in the batch.
    """
    stored = Stored()
    if not reports:
        return stored
    with transaction.atomic():
        new = _new_reports(reports)
        stored.messages = len(new)
        stored.duplicates = len(reports) - len(new)
        runs: dict[int, _RunBatch] = defaultdict(_RunBatch)
        new_points: list[_NewPoint] = []
        for report in new:
            _sort_in(report, runs[report.run_id], new_points)
        stored.points = len(new_points)
        stored.lines = _lines_store(runs)
        _points_store(new_points, runs, book)
        items: dict[int, list[Item]] = {}
        alive = signs_of_life(new)
        for run_id in sorted(runs):
            items[run_id] = _run_store(run_id, runs[run_id], alive.get(run_id, ()))
        frames_record({run_id: its for run_id, its in items.items() if its})
    return stored


def report_of(address: Address, payload: Payload) -> Report:
    """Return a checked message as a report.

    Raises:
        Refused: this reporter does not send messages of this kind.
    """
    if isinstance(payload, RoundPayload) and address.edge_id != 0:
        raise Refused(Reason.SCHEMA, "only the aggregator (edge 0) reports rounds")
    if isinstance(payload, ModelPayload) and (payload.kind == "aggregated") != (address.edge_id == 0):
        raise Refused(Reason.SCHEMA, "the aggregator (edge 0) reports aggregated models and a device those of clients")
    if address.run_id is None or not isinstance(payload, ReportPayload):
        raise Refused(Reason.SCHEMA, "this is not telemetry of a run")
    return Report(address.kind, address.run_id, address.edge_id, payload)


def reporter_name(edge_id: int) -> str:
    """Return the name under which an edge's log lines are kept."""
    return f"edge:{edge_id}" if edge_id else "server"


def _new_reports(reports: Sequence[Report]) -> list[Report]:
    by_key: dict[ReceiptKey, Report] = {}
    for report in reports:
        kind, run_id, edge_id, payload = report
        by_key.setdefault(ReceiptKey(run_id, edge_id, payload.instance, kind.value, payload.seq), report)
    new = bulk().receipts_insert(by_key.keys())
    return [report for key, report in by_key.items() if key in new]


def _sort_in(report: Report, batch: _RunBatch, points: list[_NewPoint]) -> None:
    """Put what a report holds where it is stored from."""
    _, run_id, edge_id, payload = report
    match payload:
        case MetricsPayload():
            keys: dict[str, SeriesKey] = {}
            for metric in payload.metrics:
                name, value = metric["name"], metric["value"]
                if name not in keys:
                    keys[name] = SeriesKey(run_id, edge_id, "metric", name)
                number = value if type(value) is float else value_of(value)
                points.append((keys[name], metric["step"], metric.get("round"), metric["time"], number))
        case SystemPayload():
            for name, number in payload.figures().items():
                key = SeriesKey(run_id, edge_id, "system", name)
                points.append((key, payload.time, None, payload.time, number))
        case LogPayload():
            reporter = reporter_name(edge_id)
            for line in payload.lines:
                text = line["line"]
                batch.lines.append((reporter, (0, line["time"], line["stream"], level_of(text), text)))
        case EventPayload():
            place = (edge_id, payload.event_name, payload.event_value)
            earlier = batch.events.get(place)
            batch.events[place] = payload if earlier is None else _events_merge(earlier, payload)
        case ModelPayload():
            batch.models.append((edge_id, payload))
        case RoundPayload():
            batch.rounds.append(payload)


def _events_merge(earlier: EventPayload, later: EventPayload) -> EventPayload:
    started = later.started_time if later.started_time is not None else earlier.started_time
    ended = later.ended_time
    if ended is None and earlier.ended_time is not None and (started is None or started <= earlier.ended_time):
        ended = earlier.ended_time
    return later.model_copy(update={"started_time": started, "ended_time": ended})


def _points_store(new_points: Sequence[_NewPoint], runs: dict[int, _RunBatch], book: SeriesBook) -> None:
    if not new_points:
        return
    ids, created = book.resolve({point[0] for point in new_points})
    run_of = {series_id: key.run_id for key, series_id in ids.items()}
    for descriptor in created:
        runs[run_of[descriptor["id"]]].series.append(descriptor)
    rows: list[PointRow] = []
    for point_id, (key, step, round_, time, number) in zip(
        bulk().ids_reserve("runs_point", len(new_points)), new_points, strict=True
    ):
        series_id = ids[key]
        value, flag = value_and_flag(number)
        row = (series_id, point_id, step, round_, time, value, flag)
        rows.append(row)
        batch = runs[key.run_id]
        batch.points.append(row)
        change = batch.changes.get(series_id)
        if change is None:
            batch.changes[series_id] = SeriesChange(series_id, 1, step, time, value)
        else:
            change.added += 1
            if time >= change.time:
                change.step, change.time, change.value = step, time, value
        if key.edge_id == 0 and key.kind == "metric" and flag == 0:
            batch.candidates.append(Candidate(key.name, number, round_))
    bulk().points_insert(rows)


def _lines_store(runs: dict[int, _RunBatch]) -> int:
    count = sum(len(batch.lines) for batch in runs.values())
    if not count:
        return 0
    ids = iter(bulk().ids_reserve("runs_logline", count))
    rows: list[LogLineRow] = []
    for run_id, batch in runs.items():
        lines = [(reporter, (next(ids), *line[1:])) for reporter, line in batch.lines]
        batch.lines = lines
        rows += [LogLineRow(line[0], run_id, reporter, *line[1:]) for reporter, line in lines]
    bulk().log_lines_insert(rows)
    return count


def _run_store(run_id: int, batch: _RunBatch, alive: Collection[int]) -> list[Item]:
    """Store what concerns the run as a whole, and return the items that tell of the whole batch."""
    run = Run.objects.select_for_update(no_key=True).get(pk=run_id)
    items: list[Item] = [*life_apply(run, alive)]
    if batch.points:
        bulk().series_update(list(batch.changes.values()))
        items.append(points_item(batch.series, batch.points))
    items += log_items(batch.lines)
    items += _events_store(run_id, list(batch.events.values()), list(batch.events))
    items += [model_item(model_announce(run_id, edge_id, payload)) for edge_id, payload in batch.models]
    for payload in batch.rounds:
        items += _round_store(run_id, payload)
    best = best_metric(run.best_metric, batch.candidates)
    if best != run.best_metric:
        Run.objects.filter(pk=run_id).update(best_metric=best)
        run.refresh_from_db()
        items.append(run_item(run))
    return items


def _round_store(run_id: int, payload: RoundPayload) -> list[Item]:
    lifecycle.round_apply(run_id, payload)
    if payload.round_index < 0:
        return []
    round_, _ = Round.objects.update_or_create(
        run_id=run_id,
        round_index=payload.round_index,
        defaults={"total_rounds": payload.total_rounds, "running_time": payload.running_time},
    )
    return [round_item(round_)]


_EVENT_UPSERT = """
INSERT INTO runs_event (run_id, edge_id, name, value, started_time, ended_time) VALUES {rows}
ON CONFLICT (run_id, edge_id, name, value) DO UPDATE SET
    started_time = COALESCE(excluded.started_time, runs_event.started_time),
    ended_time = COALESCE(
        excluded.ended_time,
        CASE WHEN excluded.started_time > runs_event.ended_time THEN NULL ELSE runs_event.ended_time END
    )
RETURNING edge_id, name, value, started_time, ended_time
"""


def _events_store(
    run_id: int, events: Sequence[EventPayload], places: Sequence[tuple[int, str, str]]
) -> list[EventItem]:
    """Merge starts and ends into the events' rows, whichever comes first. Work begun again has not ended yet."""
    items: list[EventItem] = []
    for start in range(0, len(events), 500):
        some = list(zip(places, events, strict=True))[start : start + 500]
        arguments = [cell for place, event in some for cell in (run_id, *place, event.started_time, event.ended_time)]
        rows = ", ".join(["(%s, %s, %s, %s, %s, %s)"] * len(some))
        with connection.cursor() as cursor:
            cursor.execute(_EVENT_UPSERT.format(rows=rows), arguments)
            items += [
                {"t": "event", "edge_id": row[0], "name": row[1], "value": row[2], "started_time": row[3],
                 "ended_time": row[4]}
                for row in cursor.fetchall()
            ]  # fmt: skip
    return items
