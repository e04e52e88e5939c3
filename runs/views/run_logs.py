"""Log lines of a run that are no longer on the page: older ones, and those that a search finds."""

from __future__ import annotations

import math

from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse, QueryDict
from django.urls import path
from django.views.decorators.http import require_safe

from runs.access import run_for_user
from runs.log_search import LEVELS, TEXT_MAX, LogQuery, lines_count, lines_page

LINES_AT_ONCE = 1_000
LINES_AT_ONCE_WITH_TEXT = 200


@require_safe
def run_log_lines(request: HttpRequest, run_id: int) -> HttpResponse:
    """Lines that match: ``{"lines": [[id, reporter, time, stream, level, line], ...], "more": bool, ...}``.

    The parameters and the whole answer stand in docs/logs.md.
    """
    run = run_for_user(request.user, run_id)
    try:
        query = _query(request.GET)
        before, after, wanted = (_number(request.GET, name) for name in ("before", "after", "limit"))
    except ValueError as error:
        return HttpResponseBadRequest(str(error))
    most = LINES_AT_ONCE_WITH_TEXT if query.text else LINES_AT_ONCE
    limit = min(max(1, wanted), most) if wanted is not None else most
    page = lines_page(run.pk, query, limit=limit, before=before, after=after)
    answer: dict[str, object] = {"lines": page.lines, "more": page.more}
    if page.next_id is not None:
        answer["next"] = page.next_id
    if "count" in request.GET:
        count, more = lines_count(run.pk, query)
        answer["count"] = {"lines": count, "more": more}
    return JsonResponse(answer)


def _query(parameters: QueryDict) -> LogQuery:
    level = parameters.get("level", "")
    if level and level not in LEVELS:
        raise ValueError(f"level is one of {', '.join(LEVELS)}")
    text = parameters.get("q", "").replace("\0", "")
    if len(text) > TEXT_MAX:
        raise ValueError(f"q is at most {TEXT_MAX} characters long")
    return LogQuery(
        text=text,
        level=level,
        reporter=parameters.get("reporter", "").replace("\0", ""),
        since=_time(parameters, "since"),
        until=_time(parameters, "until"),
    )


def _time(parameters: QueryDict, name: str) -> float | None:
    if not (value := parameters.get(name)):
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise ValueError(f"{name} is a time in seconds since the epoch")
    return seconds


def _number(parameters: QueryDict, name: str) -> int | None:
    if not (value := parameters.get(name)):
        return None
    if not value.isascii() or not value.isdigit() or len(value) > 18:
        raise ValueError(f"{name} is a whole number: before and after are ids of lines, limit says how many")
    return int(value)


urlpatterns = [path("runs/<int:run_id>/lines/", run_log_lines, name="run_log_lines")]
