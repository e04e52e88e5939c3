"""Points of charts: any window of any series, at the resolution of the screen. Zooming in asks again."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest
from django.urls import path
from django.views.decorators.http import require_safe

from runs.access import run_for_user
from runs.models import Run, Series
from runs.views.chart_answer import BadQuery, Question, chart_answer


@require_safe
def run_chart(request: HttpRequest, run_id: int) -> HttpResponse:
    """Points of some series of a run within a window, as ``{"x": axis, "points": {series id: columns}}``.

    Columns are those of ``runs.telemetry.charts.Columns``. Series of other runs are left out. Query:

    - ``series``: ids, separated by commas, at most 200.
    - ``x``: ``step`` (the default), ``round``, ``time`` (seconds since the epoch), or ``relative`` (seconds since the
      start of the run; the answer then has ``origins``, by series: what to take from a point's ``time``).
    - ``from`` and ``to``: the window, both ends included; empty: open.
    - ``width``: most points of a series, 8 to 4,000, by default 1,000; fewer where all series together would have more
      than 200,000.
    - ``format``: ``json`` (the default), or ``binary``: one line of JSON, ``{"x", "columns": [names], "series": [[id,
      number of points]]}``, filled up with spaces to a multiple of 8 bytes; then each column, of all series one after
      the other, as little-endian float64. The columns are ``x``, ``value`` (which holds NaN and the infinities
      themselves), and those that ``columns`` asks for: some of ``id``, ``step``, ``round`` (NaN: none), ``time``.

    The answer's ETag changes when the run has news.
    """
    run = run_for_user(request.user, run_id)
    try:
        question = Question.of(request)
    except BadQuery as error:
        return _refusal(error)
    return chart_answer(request, question, _series_of(question, run=run))


@require_safe
def charts_points(request: HttpRequest) -> HttpResponse:
    """The same for series of any runs of projects that the user may see; 404 where there is one that is not."""
    try:
        question = Question.of(request)
    except BadQuery as error:
        return _refusal(error)
    series = _series_of(question, run__in=Run.objects.visible_to(request.user))
    if len(series) < len(question.series_ids):
        raise Http404("There is no such series, or it is not yours to see.")
    return chart_answer(request, question, series)


def _series_of(question: Question, **conditions: object) -> list[Series]:
    series = Series.objects.filter(pk__in=question.series_ids, **conditions).select_related("run")
    # The run's own row is large: only what the answer's version is made of.
    return list(
        series.only("id", "run__frame_number", "run__created_at", "run__started_at", "run__state").order_by("pk")
    )


def _refusal(error: BadQuery) -> HttpResponse:
    return HttpResponseBadRequest(str(error), content_type="text/plain; charset=utf-8")


urlpatterns = [
    path("runs/<int:run_id>/chart", run_chart, name="run_chart"),
    path("charts/points", charts_points, name="charts_points"),
]
