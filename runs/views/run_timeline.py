"""The rounds of a run as spans of work: what each reporter did when, and a system figure over the same time."""

from __future__ import annotations

import re

import orjson
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.urls import path
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_safe

from runs.access import run_for_user
from runs.live.figures import system_name
from runs.models import Event, Run, Series
from runs.telemetry.charts import window_points

ROUNDS_MAX = 100
EVENTS_MAX = 60_000
OTHER_EVENTS_MAX = 2_000
CURVE_POINTS = 400  # of each reporter
CURVES_MAX = 200


class _BadQuery(Exception):
    """A parameter that is not as it should be."""


@require_safe
@gzip_page
def run_timeline(request: HttpRequest, run_id: int) -> HttpResponse:
    """The spans of some rounds, and which system figures there are.

    Query: ``first`` and ``last``, 0-based rounds, at most 100 of them. The answer::

        {"events": [[edge_id, name, value, started, ended], ...], "more": false,
         "figures": [{"name": "cpu_utilization", "title": "CPU", "unit": "%"}, ...]}

    An event belongs to a round by its value. Those whose value is no number come too where they began while one of
    these rounds was going on. Times are seconds since the epoch by the reporter's clock, None where that end was not
    reported. ``more`` says that there were more than 60,000.
    """
    run = run_for_user(request.user, run_id)
    try:
        first, last = _round(request, "first"), _round(request, "last")
        if not first <= last < first + ROUNDS_MAX:
            raise _BadQuery(f"first and last are 1 to {ROUNDS_MAX} rounds, such as first=0 and last=9")
    except _BadQuery as error:
        return HttpResponseBadRequest(str(error), content_type="text/plain; charset=utf-8")
    spans = _spans(run, first, last)
    figures = []
    for name in Series.objects.filter(run=run, kind="system").values_list("name", flat=True).distinct():
        described = system_name(name)
        figures.append(
            {
                "name": name,
                "title": described["title"] if described else name,
                "unit": described["unit"] if described else "",
            }
        )
    answer = {
        "events": spans[:EVENTS_MAX],
        "more": len(spans) > EVENTS_MAX,
        "figures": sorted(figures, key=lambda figure: _figure_order(str(figure["name"]))),
    }
    return HttpResponse(orjson.dumps(answer), content_type="application/json")


@require_safe
@gzip_page
def run_timeline_curve(request: HttpRequest, run_id: int) -> HttpResponse:
    """One system figure of every reporter over a span of time, ``{"curves": {edge_id: {"time": [], "value": []}}}``.

    Query: ``name`` of the figure; ``from`` and ``to`` in seconds since the epoch. A curve has at most 400 points.
    """
    run = run_for_user(request.user, run_id)
    try:
        low, high = _seconds(request, "from"), _seconds(request, "to")
    except _BadQuery as error:
        return HttpResponseBadRequest(str(error), content_type="text/plain; charset=utf-8")
    series = list(
        Series.objects.filter(run=run, kind="system", name=request.GET.get("name", "")[:200]).order_by("edge_id")
    )[:CURVES_MAX]
    points = window_points(series, axis="time", low=low, high=high, width=CURVE_POINTS)
    curves = {one.edge_id: {"time": points[one.pk]["time"], "value": points[one.pk]["value"]} for one in series}
    content = orjson.dumps({"curves": curves}, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY)
    return HttpResponse(content, content_type="application/json")


# (edge id, name, value, started, ended)
Span = tuple[int, str, str, float | None, float | None]
_COLUMNS = ("edge_id", "name", "value", "started_time", "ended_time")


def _spans(run: Run, first: int, last: int) -> list[Span]:
    events = Event.objects.filter(run=run).order_by("pk")
    rounds = events.filter(value__in=[str(number) for number in range(first, last + 1)])
    spans = list(rounds.values_list(*_COLUMNS)[: EVENTS_MAX + 1])
    times = [time for span in spans for time in span[3:] if time is not None]
    if times:
        others = events.filter(started_time__range=(min(times), max(times))).exclude(value__regex=r"^-?[0-9]+$")
        spans += others.values_list(*_COLUMNS)[:OTHER_EVENTS_MAX]
    return spans


def _figure_order(name: str) -> tuple[int, str]:
    """The processor first, then the GPUs' use, then the rest."""
    if name == "cpu_utilization":
        return 0, name
    return (1 if re.fullmatch(r"gpu\.\d+\.utilization", name) else 2), name


def _round(request: HttpRequest, name: str) -> int:
    text = request.GET.get(name, "")
    if not re.fullmatch(r"-1|[0-9]{1,9}", text):
        raise _BadQuery(f"{name} is the number of a round, from 0")
    return int(text)


def _seconds(request: HttpRequest, name: str) -> float:
    text = request.GET.get(name, "")
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text):
        raise _BadQuery(f"{name} is a time in seconds since the epoch")
    return float(text)


urlpatterns = [
    path("runs/<int:run_id>/timeline", run_timeline, name="run_timeline"),
    path("runs/<int:run_id>/timeline/curve", run_timeline_curve, name="run_timeline_curve"),
]
