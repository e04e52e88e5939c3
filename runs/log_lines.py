"""Which log lines of a run are wanted: for the page and the Web API."""

from __future__ import annotations

from django.db.models import QuerySet

from runs.models import LogLine, Run

# A level stands for itself and everything graver.
LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR"]


def lines_matching(run: Run, *, reporter: str = "", level: str = "", text: str = "") -> QuerySet[LogLine]:
    """Return the lines of ``run`` that match.

    Args:
        reporter: ``server``, ``edge:<id>`` or ``stage:<name>``; empty: all.
        level: one of ``LEVELS``, the least; empty: also lines without one.
        text: what a line contains.
    """
    lines: QuerySet[LogLine] = LogLine.objects.filter(run=run)
    if reporter:
        lines = lines.filter(reporter=reporter)
    if level:
        lines = lines.filter(level__in=LEVELS[LEVELS.index(level) :])
    if text:
        lines = lines.filter(line__icontains=text)
    return lines
