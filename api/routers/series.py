"""What a run has measured: series, points of charts, rounds, events, and the export of everything."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from django.http import HttpRequest, StreamingHttpResponse
from ninja import Field, Query, Router, Schema

from api.auth import READ, user_of
from api.problems import ApiProblem
from api.schemas import ID_MAX, Id
from exports.downloads import csv_response, json_response, tensorboard_response
from runs.access import run_for_user
from runs.live.snapshot import database_snapshot
from runs.models import Event, Round, Series
from runs.telemetry.charts import SERIES_POINTS, window_points

router = Router()

SERIES_MAX = 200
WIDTH_MAX = 4_000
EVENTS_MAX = 10_000


class SeriesOut(Schema):
    """One named metric of one reporter."""

    id: int
    kind: str = Field(description="metric or system")
    reporter: str = Field(description="server or edge:<id>")
    edge_id: int
    name: str
    count: int
    last_step: float | None
    last_time: float | None = Field(description="seconds since the epoch")
    last_value: float | None


class PointsOut(Schema):
    """The points of one series, by column. ``value`` is null where ``flag`` is not 0: 1 NaN, 2 and 3 the infinities."""

    series: int
    step: list[float]
    round: list[int | None]
    time: list[float]
    value: list[float | None]
    flag: list[int]


class RoundOut(Schema):
    """A finished round."""

    round_index: int
    total_rounds: int
    running_time: float = Field(description="seconds since the first round began")
    reported_at: datetime


class EventOut(Schema):
    """A span of work of one reporter; either end may not have been reported yet."""

    reporter: str
    name: str
    value: str
    started_time: float | None = Field(description="seconds since the epoch")
    ended_time: float | None


@router.get("/runs/{run_id}/series", auth=READ, response=list[SeriesOut], summary="List a run's series")
def series_list(request: HttpRequest, run_id: Id, kind: Literal["", "metric", "system"] = "") -> list[SeriesOut]:
    """Each with its latest value."""
    found = Series.objects.filter(run=run_for_user(user_of(request), run_id)).order_by("kind", "name", "edge_id")
    rows = found.filter(kind=kind) if kind else found
    return [
        SeriesOut(
            id=row.pk,
            reporter=_reporter(row.edge_id),
            **{
                name: getattr(row, name)
                for name in ["kind", "edge_id", "name", "count", "last_step", "last_time", "last_value"]
            },
        )
        for row in rows
    ]


@router.get("/runs/{run_id}/points", auth=READ, response=list[PointsOut], summary="Show points as charts draw them")
def series_points(
    request: HttpRequest,
    run_id: Id,
    series: Annotated[list[int], Query(min_length=1, max_length=SERIES_MAX, description="ids of series of the run")],
    x: Annotated[Literal["step", "round", "time"], Query(description="the axis, of which the window is")] = "step",
    low: Annotated[float | None, Query(allow_inf_nan=False, description="start of the window, included")] = None,
    high: Annotated[float | None, Query(allow_inf_nan=False, description="end of the window, included")] = None,
    width: Annotated[int, Query(ge=8, le=WIDTH_MAX, description="most points of a series")] = SERIES_POINTS,
) -> list[PointsOut]:
    """Downsampled so that the drawing stays the same and no extreme is lost; the export has every point."""
    run = run_for_user(user_of(request), run_id)
    if not all(1 <= each <= ID_MAX for each in series):
        raise ApiProblem(422, "invalid", "series: an id is a whole number from 1.")
    with database_snapshot():
        rows = list(Series.objects.filter(run=run, pk__in=series))
        found = window_points(rows, axis=x, low=low, high=high, width=width)
    return [
        PointsOut(
            series=series_id,
            step=columns["step"],
            round=columns["round"],
            time=columns["time"],
            value=columns["value"],
            flag=columns["flag"],
        )
        for series_id, columns in found.items()
    ]


@router.get("/runs/{run_id}/rounds", auth=READ, response=list[RoundOut], summary="List a run's finished rounds")
def round_list(request: HttpRequest, run_id: Id) -> list[Round]:
    return list(run_for_user(user_of(request), run_id).rounds.all())


@router.get("/runs/{run_id}/events", auth=READ, response=list[EventOut], summary="List what reporters did when")
def event_list(request: HttpRequest, run_id: Id) -> list[EventOut]:
    """Training, upload, waiting and aggregation, the newest 10,000 in the order of their first report."""
    run = run_for_user(user_of(request), run_id)
    rows = list(Event.objects.filter(run=run).order_by("-pk")[:EVENTS_MAX])
    return [
        EventOut(
            reporter=_reporter(row.edge_id),
            name=row.name,
            value=row.value,
            started_time=row.started_time,
            ended_time=row.ended_time,
        )
        for row in reversed(rows)
    ]


@router.get(
    "/runs/{run_id}/export",
    auth=READ,
    summary="Export a run",
    openapi_extra={
        "responses": {
            200: {
                "description": "The file.",
                "content": {"application/json": {"schema": {"type": "object"}}, "text/csv": {}, "application/zip": {}},
            }
        }
    },
)
def run_export(
    request: HttpRequest, run_id: Id, format: Literal["csv", "json", "tensorboard"] = "json"
) -> StreamingHttpResponse:
    """Every point as CSV; as JSON also the configuration, rounds and models; or TensorBoard's event files."""
    return _EXPORTS[format](request, run_for_user(user_of(request), run_id))


_EXPORTS = {"csv": csv_response, "json": json_response, "tensorboard": tensorboard_response}


def _reporter(edge_id: int) -> str:
    return f"edge:{edge_id}" if edge_id else "server"
