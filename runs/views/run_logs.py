"""Log lines of a run that are no longer on the page: older ones, and those that a search finds."""

from __future__ import annotations

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse
from django.urls import path
from django.views.decorators.http import require_safe

from runs.access import run_for_user
from runs.models import LogLine

LINES_AT_ONCE = 1_000
# A level stands for itself and everything graver.
LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR"]


@require_safe
def run_log_lines(request: HttpRequest, run_id: int) -> HttpResponse:
    """The last lines that match, as ``{"lines": [[id, reporter, time, stream, level, line], ...], "more": bool}``.

    Query: ``reporter`` (empty: all), ``q`` (text that a line contains), ``level`` (least level), ``before`` (a line's
    id). Lines come in the order of their ids; ``more`` says that older ones match too.
    """
    run = run_for_user(request.user, run_id)
    lines: QuerySet[LogLine] = LogLine.objects.filter(run=run)
    if reporter := request.GET.get("reporter"):
        lines = lines.filter(reporter=reporter)
    if level := request.GET.get("level"):
        if level not in LEVELS:
            return HttpResponseBadRequest(f"level is one of {', '.join(LEVELS)}")
        lines = lines.filter(level__in=LEVELS[LEVELS.index(level) :])
    if text := request.GET.get("q"):
        lines = lines.filter(line__icontains=text)
    if before := request.GET.get("before"):
        if not before.isascii() or not before.isdigit() or len(before) > 18:
            return HttpResponseBadRequest("before is the id of a line")
        lines = lines.filter(pk__lt=int(before))
    rows = list(
        lines.order_by("-pk").values_list("pk", "reporter", "time", "stream", "level", "line")[: LINES_AT_ONCE + 1]
    )
    answer = {"lines": rows[LINES_AT_ONCE - 1 :: -1], "more": len(rows) > LINES_AT_ONCE}
    return JsonResponse(answer)


urlpatterns = [path("runs/<int:run_id>/lines/", run_log_lines, name="run_log_lines")]
