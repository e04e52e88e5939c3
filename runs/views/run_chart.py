"""Points of charts in more detail than the page has: asked for when somebody zooms in."""

from __future__ import annotations

import math
import re

import orjson
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.urls import path
from django.utils.cache import patch_cache_control
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_safe

from runs.access import run_for_user
from runs.models import Series
from runs.telemetry.blocks import AXES
from runs.telemetry.charts import SERIES_POINTS, window_points

SERIES_MAX = 200
WIDTH_MAX = 4_000


class _BadQuery(Exception):
    """A parameter that is not as it should be."""


@require_safe
@gzip_page
def run_chart(request: HttpRequest, run_id: int) -> HttpResponse:
    """Points of some series within a window, as ``{"x": axis, "points": {series id: columns}}``.

    Columns are those of ``runs.telemetry.charts.Columns``. Query: ``series`` (ids, separated by commas, at most 200),
    ``x`` (``step``, ``round`` or ``time``; default ``step``), ``from`` and ``to`` (included; empty: open), ``width``
    (most points of a series, 8 to 4,000; default 1,000). The answer's ETag changes when the run has news.
    """
    run = run_for_user(request.user, run_id)
    etag = f'"{run.pk}-{run.frame_number}"'
    if request.headers.get("If-None-Match") == etag:
        response = HttpResponse(status=304)
    else:
        try:
            response = _answer(request, run.pk)
        except _BadQuery as error:
            return HttpResponseBadRequest(str(error), content_type="text/plain; charset=utf-8")
    response["ETag"] = etag
    patch_cache_control(response, private=True, no_cache=True)
    return response


def _answer(request: HttpRequest, run_id: int) -> HttpResponse:
    axis = request.GET.get("x", "step")
    if axis not in AXES:
        raise _BadQuery(f"x is one of {', '.join(AXES)}")
    ids = [int(text) for text in request.GET.get("series", "").split(",") if re.fullmatch(r"[0-9]{1,18}", text)]
    if not 1 <= len(ids) <= SERIES_MAX:
        raise _BadQuery(f"series are 1 to {SERIES_MAX} ids, separated by commas")
    points = window_points(
        list(Series.objects.filter(run_id=run_id, pk__in=ids)),
        axis=axis,
        low=_bound(request, "from"),
        high=_bound(request, "to"),
        width=_width(request),
    )
    content = orjson.dumps({"x": axis, "points": points}, option=orjson.OPT_NON_STR_KEYS)
    return HttpResponse(content, content_type="application/json")


def _bound(request: HttpRequest, name: str) -> float | None:
    text = request.GET.get(name, "")
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _BadQuery(f"{name} is a number, or empty")
    return number


def _width(request: HttpRequest) -> int:
    text = request.GET.get("width") or str(SERIES_POINTS)
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 8 <= int(text) <= WIDTH_MAX:
        raise _BadQuery(f"width is 8 to {WIDTH_MAX}")
    return int(text)


urlpatterns = [path("runs/<int:run_id>/chart", run_chart, name="run_chart")]
