"""Searching the log lines of a run: by text, level, reporter and time, page by page, over millions of lines.

No order of the database's steps is quick for every search, so there are two, and what is counted decides:

- Where few lines are left by reporter, level and time, the text is looked for in these.
- Else an index of trigrams finds the text: pg_trgm on PostgreSQL, FTS5 on SQLite (``runs.migrations.0009``). A text
  that most lines have is found by reading the latest lines, before the index is asked.

A text of less than three characters has no trigram; it is looked for in the ``WALK_LINES`` lines next to the cursor,
and the answer says where to go on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import F, Lookup, Max, Min, QuerySet, TextField

from runs.models import LogLine

# A level stands for itself and everything graver.
LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR"]
RARE_LEVELS = ("WARNING", "ERROR")
COUNT_MAX = 10_000  # more are not counted
FEW_LINES = 20_000  # are looked through without an index of their text
WALK_LINES = 200_000  # are looked through for a text that has no trigram
LATEST_LINES = 5_000  # are looked through before the index is asked
TRIGRAM = 3  # characters
TEXT_MAX = 500  # characters
_AT_ONCE = 1_000  # candidates of SQLite's index

Row = tuple[int, str, float, str, str, str]  # id, reporter, time, stream, level, line
Lines = QuerySet[LogLine]


class ContainsAnyCase(Lookup):
    """``line__contains_any_case="text"``: as ``icontains``, in a form that PostgreSQL's index of trigrams serves."""

    lookup_name = "contains_any_case"

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        column, column_parameters = self.process_lhs(compiler, connection)
        text = str(self.rhs).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        condition = f"{column} ILIKE %s" if connection.vendor == "postgresql" else f"{column} LIKE %s ESCAPE '\\'"
        return condition, (*column_parameters, f"%{text}%")


TextField.register_lookup(ContainsAnyCase)


@dataclass(frozen=True)
class LogQuery:
    """What is looked for in the log of a run; what is empty does not matter.

    Parameters
    ----------
    text: what a line contains, in capital or small letters.
    level: one of ``LEVELS``, the least; lines without a level have none.
    reporter: ``server``, ``edge:<id>`` or ``stage:<name>``.
    since, until: seconds since the epoch, both included.
    """

    text: str = ""
    level: str = ""
    reporter: str = ""
    since: float | None = None
    until: float | None = None


@dataclass(frozen=True)
class LogPage:
    """Lines that match, in the order of their arrival.

    Parameters
    ----------
    lines: of at most as many as were asked for.
    more: whether lines beyond them match (earlier ones; later ones where ``after`` was given).
    next_id: where the search ended without having seen all; ask again with this as the cursor. None: it has seen all
        that it had to.
    """

    lines: list[Row]
    more: bool
    next_id: int | None = None


def lines_matching(run_id: int, query: LogQuery) -> Lines:
    """Return every line of a run that matches. Whatever reads only some of them asks :func:`lines_page`."""
    lines = _lines_but_text(run_id, query)
    return lines.filter(line__contains_any_case=query.text) if query.text else lines


def lines_page(
    run_id: int, query: LogQuery, *, limit: int, before: int | None = None, after: int | None = None
) -> LogPage:
    """Return the last lines that match, the last ones before an id, or the first ones after an id.

    Args:
        run_id: the run.
        query: what is looked for.
        limit: how many lines at most.
        before: only lines whose id is smaller.
        after: only lines whose id is greater; the first of them instead of the last. ``before`` bounds them then.
    """
    lines = _lines_but_text(run_id, query)
    if before is not None:
        lines = lines.filter(pk__lt=before)
    if after is not None:
        lines = lines.filter(pk__gt=after)
    upwards = after is not None
    next_id = None
    if not query.text:
        rows = _without_text(lines, query, limit + 1, upwards)
    elif _are_few(lines):
        rows = list(_rows(lines.filter(line__contains_any_case=query.text), upwards)[: limit + 1])
    elif len(query.text) < TRIGRAM:
        rows, next_id = _walk(lines, query.text, limit + 1, upwards)
    elif connection.vendor == "postgresql":
        rows = _by_trigrams_postgresql(lines, query.text, limit + 1, upwards)
    else:
        rows = list(itertools.islice(_by_trigrams_sqlite(run_id, lines, query.text, upwards, before, after), limit + 1))
    more = len(rows) > limit
    found = rows[:limit] if upwards else rows[:limit][::-1]
    return LogPage(found, more or next_id is not None, None if more else next_id)


def lines_count(run_id: int, query: LogQuery) -> tuple[int, bool]:
    """Return how many lines match, at most ``COUNT_MAX``, and whether there may be more."""
    lines = _lines_but_text(run_id, query)
    if not query.text:
        count = lines[: COUNT_MAX + 1].count()
    elif len(query.text) < TRIGRAM and not _are_few(lines):
        rows, next_id = _walk(lines, query.text, COUNT_MAX + 1, upwards=False)
        return min(len(rows), COUNT_MAX), len(rows) > COUNT_MAX or next_id is not None
    elif connection.vendor == "postgresql" or _are_few(lines):
        count = lines.filter(line__contains_any_case=query.text)[: COUNT_MAX + 1].count()
    else:
        found = _by_trigrams_sqlite(run_id, lines, query.text, False, None, None)
        count = sum(1 for _ in itertools.islice(found, COUNT_MAX + 1))
    return min(count, COUNT_MAX), count > COUNT_MAX


def _lines_but_text(run_id: int, query: LogQuery) -> Lines:
    lines: Lines = LogLine.objects.filter(run_id=run_id)
    if query.since is not None:
        lines = lines.filter(time__gte=query.since)
    if query.until is not None:
        lines = lines.filter(time__lte=query.until)
    if query.since is not None or query.until is not None:
        # Ids and times go up together but for clocks and delays: the ids bound where a page is looked for.
        bounds = lines.aggregate(low=Min("pk"), high=Max("pk"))
        lines = lines.filter(pk__gte=bounds["low"], pk__lte=bounds["high"]) if bounds["low"] else lines.none()
    if query.reporter:
        lines = lines.filter(reporter=query.reporter)
    if query.level:
        lines = lines.filter(level__in=LEVELS[LEVELS.index(query.level) :])
    return lines


def _are_few(lines: Lines) -> bool:
    return lines[: FEW_LINES + 1].count() <= FEW_LINES


def _without_text(lines: Lines, query: LogQuery, most: int, upwards: bool) -> list[Row]:
    if query.level not in RARE_LEVELS:
        return list(_rows(lines, upwards)[:most])
    # Level by level, so that the index gives each in order.
    levels = LEVELS[LEVELS.index(query.level) :]
    rows = [row for level in levels for row in _rows(lines.filter(level=level), upwards)[:most]]
    return sorted(rows, reverse=not upwards)[:most]


def _walk(lines: Lines, text: str, most: int, upwards: bool) -> tuple[list[Row], int | None]:
    """Look through the next ``WALK_LINES`` lines; return those that match and where the rest begins, if any."""
    edge = _id_at(lines, WALK_LINES - 1, upwards)
    near = lines if edge is None else lines.filter(**{"pk__lte" if upwards else "pk__gte": edge})
    return list(_rows(near.filter(line__contains_any_case=text), upwards)[:most]), edge


def _by_trigrams_postgresql(lines: Lines, text: str, most: int, upwards: bool) -> list[Row]:
    edge = _id_at(lines, LATEST_LINES - 1, upwards)
    matching = lines.filter(line__contains_any_case=text)
    if edge is None:
        return list(_rows(matching, upwards)[:most])
    near, far = ("pk__lte", "pk__gt") if upwards else ("pk__gte", "pk__lt")
    rows = list(_rows(matching.filter(**{near: edge}), upwards)[:most])
    if len(rows) < most:
        # Ordered by what no index has: reading the run line by line in order would look cheaper than it is.
        order = F("pk") + 0
        rest = matching.filter(**{far: edge}).order_by(order.asc() if upwards else order.desc())
        rows += rest.values_list(*_COLUMNS)[: most - len(rows)]
    return rows


def _by_trigrams_sqlite(
    run_id: int, lines: Lines, text: str, upwards: bool, before: int | None, after: int | None
) -> Iterator[Row]:
    """Yield the lines that match, in order: the index gives candidates, the lines themselves decide."""
    bounds = LogLine.objects.filter(run_id=run_id).aggregate(low=Min("pk"), high=Max("pk"))
    low, high = bounds["low"] or 1, bounds["high"] or 0
    low = low if after is None else max(low, after + 1)
    high = high if before is None else min(high, before - 1)
    terms = " AND ".join('"' + term.replace('"', '""') + '"' for term in dict.fromkeys(trigrams(text)))
    order = "ASC" if upwards else "DESC"
    sql = (
        "SELECT rowid FROM runs_logline_search WHERE runs_logline_search MATCH %s "  # noqa: S608
        f"AND rowid BETWEEN %s AND %s ORDER BY rowid {order} LIMIT %s"
    )
    while True:
        with connection.cursor() as cursor:
            cursor.execute(sql, [terms, low, high, _AT_ONCE])
            candidates = [row[0] for row in cursor.fetchall()]
        yield from _rows(lines.filter(pk__in=candidates, line__contains_any_case=text), upwards)
        if len(candidates) < _AT_ONCE:
            return
        low, high = (candidates[-1] + 1, high) if upwards else (low, candidates[-1] - 1)


def trigrams(text: str) -> list[str]:
    """Return every three characters that follow each other in a text."""
    return [text[start : start + TRIGRAM] for start in range(len(text) - TRIGRAM + 1)]


_COLUMNS = ("pk", "reporter", "time", "stream", "level", "line")


def _rows(lines: Lines, upwards: bool) -> QuerySet[LogLine, Row]:
    return lines.order_by("pk" if upwards else "-pk").values_list(*_COLUMNS)


def _id_at(lines: Lines, place: int, upwards: bool) -> int | None:
    """Return the id of the line at a place, counted from where the search begins, or None where it has fewer."""
    return next(iter(lines.order_by("pk" if upwards else "-pk").values_list("pk", flat=True)[place : place + 1]), None)
