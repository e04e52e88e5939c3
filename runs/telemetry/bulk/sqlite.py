"""SQLite: one prepared statement for many rows. Its transactions are IMMEDIATE (settings): one writer at a time."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import orjson
from django.db import connection

from runs.live.payloads import PointRow
from runs.telemetry.bulk import LogLineRow, ReceiptKey, SeriesChange


def receipts_insert(keys: Collection[ReceiptKey]) -> set[ReceiptKey]:
    rows = orjson.dumps([tuple(key) for key in keys]).decode()
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO runs_receipt (run_id, edge_id, instance, topic, seq) "
            "SELECT value->>0, value->>1, value->>2, value->>3, value->>4 FROM json_each(%s) WHERE true "
            "ON CONFLICT DO NOTHING RETURNING run_id, edge_id, instance, topic, seq",
            [rows],
        )
        return {ReceiptKey(*row) for row in cursor.fetchall()}


def ids_reserve(table: str, count: int) -> Sequence[int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = %s", [table])
        row = cursor.fetchone()
    last = row[0] if row else 0
    return range(last + 1, last + 1 + count)


def points_insert(rows: Sequence[PointRow]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO runs_point (series_id, id, step, round, time, value, flag) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s)",
            rows,
        )


def series_update(changes: Sequence[SeriesChange]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "UPDATE runs_series SET count = count + %s, "
            "last_step = CASE WHEN %s >= COALESCE(last_time, -1) THEN %s ELSE last_step END, "
            "last_value = CASE WHEN %s >= COALESCE(last_time, -1) THEN %s ELSE last_value END, "
            "last_time = MAX(COALESCE(last_time, -1), %s) WHERE id = %s",
            [(one.added, one.time, one.step, one.time, one.value, one.time, one.series_id) for one in changes],
        )


def log_lines_insert(rows: Sequence[LogLineRow]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO runs_logline (id, run_id, reporter, time, stream, level, line) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s)",
            rows,
        )
