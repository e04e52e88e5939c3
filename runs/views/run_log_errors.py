"""The errors of a run's log, those of one kind together."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.http import require_safe

from runs.access import run_for_user
from runs.models import LogLine

LINES_MAX = 20_000
GROUPS_MAX = 200
_TIME = re.compile(r"^\W*\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?\W*")
# What differs between two lines that tell of the same: numbers, addresses, digests.
_VARIES = re.compile(r"0x[0-9a-fA-F]+|\b[0-9a-f]{8,}\b|\d+(?:[.,:]\d+)*")


@dataclass
class _Group:
    """Lines that tell of the same error; ``line`` is the last one."""

    line: str
    last_id: int
    last_time: float
    first_time: float
    count: int = 0
    reporters: list[str] = field(default_factory=list)

    def answer(self) -> dict[str, Any]:
        return {**vars(self), "line": self.line[:500]}


@require_safe
def run_log_errors(request: HttpRequest, run_id: int) -> JsonResponse:
    """The run's lines of the level ERROR, of the last 20,000 of them, in groups, the last one first.

    ``{"groups": [{"line", "count", "reporters", "first_time", "last_time", "last_id"}], "total": n, "more": bool}``.
    Two lines are of one group when they differ in the time at their start and in numbers alone. ``more`` says that
    there are further lines.
    """
    run = run_for_user(request.user, run_id)
    lines = LogLine.objects.filter(run=run, level="ERROR").order_by("-pk")
    rows = list(lines.values_list("pk", "reporter", "time", "line")[: LINES_MAX + 1])
    groups: dict[str, _Group] = {}
    for pk, reporter, time, line in rows[:LINES_MAX]:
        group = groups.setdefault(error_kind(line), _Group(line, pk, time, time))
        group.count += 1
        group.first_time = min(group.first_time, time)
        group.last_time = max(group.last_time, time)
        if reporter not in group.reporters:
            group.reporters.append(reporter)
    return JsonResponse(
        {
            "groups": [group.answer() for group in list(groups.values())[:GROUPS_MAX]],
            "total": min(len(rows), LINES_MAX),
            "more": len(rows) > LINES_MAX,
        }
    )


def error_kind(line: str) -> str:
    """Return what lines of the same error have in common."""
    return _VARIES.sub("#", _TIME.sub("", line))[:300]


urlpatterns = [path("runs/<int:run_id>/errors/", run_log_errors, name="run_log_errors")]
