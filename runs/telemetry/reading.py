"""Reading stored points: those in blocks, and those that are still rows of their own (the tail).

What is read by several of these functions belongs together only within one state of the database:
``runs.live.snapshot.database_snapshot``, or a transaction that keeps others out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import psycopg
from django.db import connection

from runs.telemetry.blocks import DIRECTORY, LEVELS, Axis
from runs.telemetry.columns import NAMES, Array, PointColumns, columns_decode, columns_take

_AT_ONCE = 500  # ids in a statement on SQLite

# A row of COPY in binary: how many fields, then the length of each before it. No field is empty.
_ROW = np.dtype(
    [("fields", ">i2"), ("l0", ">i4"), ("series", ">i8"), ("l1", ">i4"), ("id", ">i8"), ("l2", ">i4"), ("step", ">f8"),
     ("l3", ">i4"), ("round", ">f8"), ("l4", ">i4"), ("time", ">f8"), ("l5", ">i4"), ("value", ">f8")]
)  # fmt: skip
_COPY_HEAD, _COPY_END = 19, 2  # bytes before and after the rows
_COLUMNS_POSTGRESQL = (
    "series_id, id, step, COALESCE(round::float8, 'NaN'), time, COALESCE(value, "
    "CASE flag WHEN 2 THEN 'Infinity'::float8 WHEN 3 THEN '-Infinity'::float8 ELSE 'NaN'::float8 END)"
)
_NO_ROUND = -1e300
_COLUMNS_SQLITE = f"series_id, id, step, IFNULL(round, {_NO_ROUND}), time, IFNULL(value, 0.0), flag"


class BlockRow(NamedTuple):
    """Where a block is, and what its chunks span."""

    id: int
    series_id: int
    directory: Array


class Piece(NamedTuple):
    """Consecutive chunks of a block: ``size`` bytes of its data from ``offset``, ``count`` points."""

    block_id: int
    offset: int
    size: int


def tails_read(series_ids: Sequence[int]) -> tuple[Array, PointColumns]:
    """Return the points of the series that are not in blocks: the series of each, and their columns.

    They are ordered by series, and within it as they arrived.
    """
    if not series_ids:
        return _sorted([])
    if connection.vendor == "postgresql":
        places = ", ".join(str(int(each)) for each in series_ids)
        select = f"SELECT {_COLUMNS_POSTGRESQL} FROM runs_point WHERE series_id IN ({places})"  # noqa: S608
        return _sorted_copy(f"COPY ({select}) TO STDOUT (FORMAT BINARY)")
    rows: list[tuple[Any, ...]] = []
    for start in range(0, len(series_ids), _AT_ONCE):
        some = series_ids[start : start + _AT_ONCE]
        places = ", ".join(["%s"] * len(some))
        with connection.cursor() as cursor:
            query = f"SELECT {_COLUMNS_SQLITE} FROM runs_point WHERE series_id IN ({places})"  # noqa: S608
            cursor.execute(query, some)
            rows += cursor.fetchall()
    return _sorted(rows)


def tail_take(series_id: int, most: int) -> PointColumns:
    """Delete the first points of a series' tail, in the order of their arrival, and return them."""
    wanted = f"FROM runs_point WHERE series_id = {int(series_id)} ORDER BY id LIMIT {int(most)}"
    if connection.vendor == "postgresql":
        # By where the rows are: whatever the statistics of the table say, they are found without an index.
        which = f"series_id = {int(series_id)} AND ctid = ANY(ARRAY(SELECT ctid {wanted}))"
        delete = f"DELETE FROM runs_point WHERE {which} RETURNING {_COLUMNS_POSTGRESQL}"  # noqa: S608
        return _sorted_copy(f"COPY ({delete}) TO STDOUT (FORMAT BINARY)")[1]
    with connection.cursor() as cursor:
        cursor.execute(
            f"DELETE FROM runs_point WHERE id IN (SELECT id {wanted}) RETURNING {_COLUMNS_SQLITE}"  # noqa: S608
        )
        return _sorted(cursor.fetchall())[1]


def blocks_find(
    series_ids: Sequence[int], axis: Axis = "step", low: float | None = None, high: float | None = None
) -> list[BlockRow]:
    """Return the blocks of the series that have points in a window, by series and in the order of arrival."""
    condition, bounds = "", []
    if axis == "round":
        condition += " AND round_low IS NOT NULL"
    if low is not None:
        condition += f" AND {axis}_high >= %s"
        bounds.append(low)
    if high is not None:
        condition += f" AND {axis}_low <= %s"
        bounds.append(high)
    query = "SELECT id, series_id, directory FROM runs_pointblock WHERE series_id {ids}"
    rows = _read_for(series_ids, query, bounds, f"{condition} ORDER BY series_id, position")
    return [BlockRow(row[0], row[1], np.frombuffer(row[2], DIRECTORY)) for row in rows]


def extremes_read(block_ids: Sequence[int], level: int) -> dict[int, bytes]:
    """Return the points that stand for the chunks of blocks at a level of detail, as ``columns_encode`` wrote them."""
    if level not in LEVELS:
        raise ValueError(f"there is no level {level}")
    query = f"SELECT id, extremes_{level} FROM runs_pointblock WHERE id {{ids}}"  # noqa: S608
    return dict(_read_for(block_ids, query, [], ""))


def pieces_read(pieces: Sequence[Piece]) -> list[bytes]:
    """Return parts of the data of blocks, in the order asked for."""
    if not pieces:
        return []
    if connection.vendor == "postgresql":
        found = _fetch_postgresql(
            "SELECT wanted.place, substr(block.data, wanted.start, wanted.size) "
            "FROM unnest(%s::bigint[], %s::int[], %s::int[]) WITH ORDINALITY AS wanted(id, start, size, place) "
            "JOIN runs_pointblock AS block ON block.id = wanted.id",
            [[piece.block_id for piece in pieces], [piece.offset + 1 for piece in pieces], [p.size for p in pieces]],
        )
        return [data for _, data in sorted(found, key=lambda row: row[0])]
    parts: list[bytes] = []
    with connection.cursor() as cursor:
        for piece in pieces:
            cursor.execute(
                "SELECT substr(data, %s, %s) FROM runs_pointblock WHERE id = %s",
                [piece.offset + 1, piece.size, piece.block_id],
            )
            parts.append(cursor.fetchone()[0])
    return parts


def points_iterate(series_id: int) -> Iterator[PointColumns]:
    """Yield every point of a series in the order of arrival, some thousands at once."""
    for block in blocks_find([series_id]):
        size = int(block.directory["size"].sum(dtype=np.int64))
        (data,) = pieces_read([Piece(block.id, 0, size)])
        for chunk in block.directory:
            yield columns_decode(data[chunk["offset"] : chunk["offset"] + chunk["size"]], int(chunk["count"]))
    _, tail = tails_read([series_id])
    if len(tail["id"]):
        yield tail


def _read_for(ids: Sequence[int], query: str, arguments: Sequence[Any], end: str) -> list[tuple[Any, ...]]:
    """Run a query whose ``{ids}`` stands for a condition on ids."""
    if not ids:
        return []
    if connection.vendor == "postgresql":
        return _fetch_postgresql(query.replace("{ids}", "= ANY(%s)") + end, [list(ids), *arguments])
    rows: list[tuple[Any, ...]] = []
    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        with connection.cursor() as cursor:
            cursor.execute(query.replace("{ids}", f"IN ({', '.join(['%s'] * len(some))})") + end, [*some, *arguments])
            rows += cursor.fetchall()
    return rows


def _fetch_postgresql(query: str, arguments: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Fetch rows in binary, in which bytes take half of the room that they take in text."""
    connection.ensure_connection()
    with psycopg.Cursor(connection.connection) as cursor:
        return cursor.execute(query, arguments, binary=True).fetchall()


def _sorted_copy(query: str) -> tuple[Array, PointColumns]:
    connection.ensure_connection()
    with psycopg.Cursor(connection.connection) as cursor, cursor.copy(query) as copy:
        content = b"".join(copy)
    rows = np.frombuffer(
        content, _ROW, offset=_COPY_HEAD, count=(len(content) - _COPY_HEAD - _COPY_END) // _ROW.itemsize
    )
    series = rows["series"].astype("<i8")
    points: PointColumns = {name: rows[name].astype("<i8" if name == "id" else "<f8") for name in NAMES}
    return _in_order(series, points)


def _sorted(rows: Collection[tuple[Any, ...]]) -> tuple[Array, PointColumns]:
    columns = list(zip(*rows, strict=True)) or [()] * 7
    series, identity = (np.array(column, "<i8") for column in columns[:2])
    step, round_, time, value = (np.array(column, "<f8") for column in columns[2:6])
    flag = np.array(columns[6], "<i8")
    round_[round_ == _NO_ROUND] = np.nan
    for number, meaning in ((1, np.nan), (2, np.inf), (3, -np.inf)):
        value[flag == number] = meaning
    return _in_order(series, {"id": identity, "step": step, "round": round_, "time": time, "value": value})


def _in_order(series: Array, points: PointColumns) -> tuple[Array, PointColumns]:
    order = np.lexsort((points["id"], series))
    return series[order], columns_take(points, order)
