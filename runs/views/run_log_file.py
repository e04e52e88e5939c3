"""A run's log as a text file."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import Http404, HttpRequest, StreamingHttpResponse
from django.urls import path
from django.views.decorators.http import require_safe

from runs.access import run_for_user
from runs.models import LogLine

LINES_AT_ONCE = 5_000
_REPORTER = re.compile(r"server|edge:[0-9]{1,18}|stage:[a-z_]{1,30}")


@require_safe
def run_log_download(request: HttpRequest, run_id: int) -> StreamingHttpResponse:
    """Send the log lines of one reporter (``?reporter=``), or of all, in the order in which they arrived."""
    run = run_for_user(request.user, run_id)
    reporter = request.GET.get("reporter", "")
    if reporter and not _REPORTER.fullmatch(reporter):
        raise Http404("There is no such reporter.")
    pages = _pages_async(run.pk, reporter) if isinstance(request, ASGIRequest) else _pages(run.pk, reporter)
    name = f"run-{run.pk}{'-' if reporter else ''}{reporter.replace(':', '-')}.log"
    return StreamingHttpResponse(
        pages,
        content_type="text/plain; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"', "X-Content-Type-Options": "nosniff"},
    )


def _page(run_id: int, reporter: str, after: int) -> tuple[str, int]:
    """Return the next lines as text, and the id of the last of them; no text when there are no more."""
    lines = LogLine.objects.filter(run_id=run_id, pk__gt=after)
    if reporter:
        lines = lines.filter(reporter=reporter)
    rows = list(lines.order_by("pk").values_list("pk", "time", "reporter", "stream", "line")[:LINES_AT_ONCE])
    text = "".join(_line(*row[1:]) for row in rows)
    return text, rows[-1][0] if rows else after


def _line(time: float, reporter: str, stream: str, line: str) -> str:
    # A line end within a line would make it look like two.
    shown = line.replace("\r", "\\r").replace("\n", "\\n")
    return f"{datetime.fromtimestamp(time, UTC).isoformat(timespec='milliseconds')} {reporter} {stream} {shown}\n"


def _pages(run_id: int, reporter: str) -> Iterator[str]:
    text, last = _page(run_id, reporter, 0)
    while text:
        yield text
        text, last = _page(run_id, reporter, last)


async def _pages_async(run_id: int, reporter: str) -> AsyncIterator[str]:
    page = sync_to_async(_page)
    text, last = await page(run_id, reporter, 0)
    while text:
        yield text
        text, last = await page(run_id, reporter, last)


urlpatterns = [path("runs/<int:run_id>/log", run_log_download, name="run_log_download")]
