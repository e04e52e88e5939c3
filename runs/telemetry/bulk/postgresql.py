"""PostgreSQL: COPY for points and lines, arrays for what can collide."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from django.db import connection

from runs.live.payloads import PointRow
from runs.telemetry.bulk import LogLineRow, ReceiptKey, SeriesChange


def receipts_insert(keys: Collection[ReceiptKey]) -> set[ReceiptKey]:
    # Sorted, so that two workers that store the same messages wait for each other instead of locking each other out.
    columns = [list(column) for column in zip(*sorted(keys), strict=True)]
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO runs_receipt (run_id, edge_id, instance, topic, seq) "
            "SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::bigint[]) "
            "ON CONFLICT DO NOTHING RETURNING run_id, edge_id, instance, topic, seq",
            columns,
        )
        return {ReceiptKey(*row) for row in cursor.fetchall()}


def ids_reserve(table: str, count: int) -> Sequence[int]:
    with connection.cursor() as cursor:
        # The sequence is looked up once, and not for every id, which would take longer than to store the points.
        cursor.execute(
            "SELECT nextval(s.name) FROM (SELECT pg_get_serial_sequence(%s, 'id')::regclass AS name OFFSET 0) AS s, "
            "generate_series(1, %s)",
            [table, count],
        )
        return [row[0] for row in cursor.fetchall()]


def points_insert(rows: Sequence[PointRow]) -> None:
    lines = []
    for series_id, point_id, step, round_, time, value, flag in rows:
        round_text = "\\N" if round_ is None else round_
        value_text = "\\N" if value is None else repr(value)
        lines.append(f"{point_id}\t{series_id}\t{step!r}\t{round_text}\t{time!r}\t{value_text}\t{flag}\n")
    with (
        _psycopg_cursor() as cursor,
        cursor.copy("COPY runs_point (id, series_id, step, round, time, value, flag) FROM STDIN") as copy,
    ):
        copy.write("".join(lines))


def series_update(changes: Sequence[SeriesChange]) -> None:
    columns: list[list[Any]] = [
        [change.series_id for change in changes],
        [change.added for change in changes],
        [change.step for change in changes],
        [change.time for change in changes],
        [change.value for change in changes],
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE runs_series AS s SET count = s.count + v.added, "
            "last_step = CASE WHEN v.newer THEN v.step ELSE s.last_step END, "
            "last_value = CASE WHEN v.newer THEN v.value ELSE s.last_value END, "
            "last_time = CASE WHEN v.newer THEN v.time ELSE s.last_time END "
            "FROM (SELECT n.*, n.time >= COALESCE(o.last_time, n.time) AS newer FROM "
            "unnest(%s::bigint[], %s::bigint[], %s::float8[], %s::float8[], %s::float8[]) "
            "AS n(id, added, step, time, value) JOIN runs_series AS o ON o.id = n.id) AS v WHERE s.id = v.id",
            columns,
        )


def log_lines_insert(rows: Sequence[LogLineRow]) -> None:
    with (
        _psycopg_cursor() as cursor,
        cursor.copy("COPY runs_logline (id, run_id, reporter, time, stream, level, line) FROM STDIN") as copy,
    ):
        for row in rows:
            copy.write_row(row)


def _psycopg_cursor() -> Any:
    """A cursor of psycopg itself, on Django's connection: Django's own has no COPY."""
    connection.ensure_connection()
    return connection.connection.cursor()
