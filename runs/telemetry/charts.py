"""Points of series as a chart needs them: a window of the x axis, at the resolution of the screen, no extreme lost.

Half of the points are chosen by MinMaxLTTB (Van Der Donckt et al., 2023, https://arxiv.org/abs/2305.00332), which draws
the shape best, but may pass over an extreme that lies beside a greater one. The other half are the least and the
greatest value of each of equal parts of the series, so that a spike is there however narrow it is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal, TypedDict, get_args

import numpy as np
from django.db import connection
from tsdownsample import MinMaxDownsampler, MinMaxLTTBDownsampler

from runs.models import Series

Axis = Literal["step", "round", "time"]
AXES: tuple[str, ...] = get_args(Axis)

SERIES_POINTS = 1_000  # of one series in a snapshot
SNAPSHOT_POINTS = 100_000  # of all series in a snapshot together
SERIES_POINTS_LEAST = 50
FLAGGED_POINTS = 100  # values that are no numbers, kept beside the downsampled ones

_COLUMNS = "id, step, round, time, value, flag"


class Columns(TypedDict):
    """The points of one series by column, all of the same length; ``value`` is None where ``flag`` is not 0."""

    id: list[int]
    step: list[float]
    round: list[int | None]
    time: list[float]
    value: list[float | None]
    flag: list[int]


def snapshot_points(series: Collection[Series]) -> dict[int, Columns]:
    """Return every series from its first to its last step, for a page that opens.

    A series has at most 1,000 points, and less where there are so many series that all together would exceed 100,000.
    """
    if not series:
        return {}
    limit = min(SERIES_POINTS, max(SERIES_POINTS_LEAST, SNAPSHOT_POINTS // len(series)))
    return window_points(series, width=limit)


def window_points(
    series: Collection[Series],
    *,
    axis: Axis = "step",
    low: float | None = None,
    high: float | None = None,
    width: int = SERIES_POINTS,
) -> dict[int, Columns]:
    """Return the points of the series within a window, by series id, in the order of the axis.

    Args:
        series: which series; those without a point in the window have empty columns.
        axis: what the window is of. Points without a round are left out of a window of rounds.
        low: start of the window, included; None: from the first point.
        high: end of the window, included; None: to the last point.
        width: at most so many points of each series (and the values that are no numbers, up to 100).
    """
    small = [one.pk for one in series if one.count <= width]
    large = [one.pk for one in series if one.count > width]
    found = _read_whole(small, axis, low, high)
    for series_id in large:
        found[series_id] = _read_downsampled(series_id, axis, low, high, width)
    return found


def downsample(x: np.ndarray[Any, Any], value: np.ndarray[Any, Any], width: int) -> np.ndarray[Any, Any]:
    """Return the indices of at most ``width`` points that draw the same picture, ascending.

    The first and the last point are among them, and of each of ``width // 4`` equal parts its least and greatest.

    Args:
        x: ascending.
        value: finite, as long as ``x``.
        width: at least 8.
    """
    if len(x) <= width:
        return np.arange(len(x))
    shape: Any = MinMaxLTTBDownsampler()  # type: ignore[no-untyped-call]
    extremes: Any = MinMaxDownsampler()  # type: ignore[no-untyped-call]
    return np.union1d(
        shape.downsample(x, value, n_out=width // 2).astype(np.int64),
        extremes.downsample(value, n_out=width // 4 * 2).astype(np.int64),
    )


def _read_whole(ids: Sequence[int], axis: Axis, low: float | None, high: float | None) -> dict[int, Columns]:
    columns: dict[int, list[list[Any]]] = {series_id: [[], [], [], [], [], []] for series_id in ids}
    for start in range(0, len(ids), 500):
        some = ids[start : start + 500]
        condition, arguments = _condition(axis, low, high)
        places = ", ".join(["%s"] * len(some))
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT series_id, {_COLUMNS} FROM runs_point WHERE series_id IN ({places}){condition} "  # noqa: S608
                f"ORDER BY series_id, {axis}, step, id",
                [*some, *arguments],
            )
            for row in cursor:
                target = columns[row[0]]
                for column, cell in zip(target, row[1:], strict=True):
                    column.append(cell)
    return {series_id: _columns(lists) for series_id, lists in columns.items()}


def _read_downsampled(series_id: int, axis: Axis, low: float | None, high: float | None, width: int) -> Columns:
    condition, arguments = _condition(axis, low, high)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT id, {axis}, value FROM runs_point WHERE series_id = %s{condition} "  # noqa: S608
            f"ORDER BY {axis}, step, id",
            [series_id, *arguments],
        )
        rows = cursor.fetchall()
    if not rows:
        return _columns([[], [], [], [], [], []])
    ids = np.fromiter((row[0] for row in rows), np.int64, len(rows))
    x = np.fromiter((row[1] for row in rows), np.float64, len(rows))
    value = np.fromiter((np.nan if row[2] is None else row[2] for row in rows), np.float64, len(rows))
    finite = np.flatnonzero(np.isfinite(value))
    flagged = np.flatnonzero(~np.isfinite(value))
    if len(flagged) > FLAGGED_POINTS:
        flagged = flagged[np.linspace(0, len(flagged) - 1, FLAGGED_POINTS).astype(int)]
    chosen = finite[downsample(x[finite], value[finite], width)]
    return _read_ids([int(point_id) for point_id in ids[np.union1d(chosen, flagged)]], axis)


def _read_ids(ids: Sequence[int], axis: Axis) -> Columns:
    rows: list[tuple[Any, ...]] = []
    for start in range(0, len(ids), 5_000):
        some = ids[start : start + 5_000]
        places = ", ".join(["%s"] * len(some))
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {_COLUMNS} FROM runs_point WHERE id IN ({places})", some)  # noqa: S608
            rows += cursor.fetchall()
    position = {"step": 1, "round": 2, "time": 3}[axis]
    rows.sort(key=lambda row: (row[position], row[1], row[0]))
    return _columns([list(column) for column in zip(*rows, strict=True)] or [[], [], [], [], [], []])


def _condition(axis: Axis, low: float | None, high: float | None) -> tuple[str, list[float]]:
    text, arguments = "", []
    if axis == "round":
        text += " AND round IS NOT NULL"
    if low is not None:
        text += f" AND {axis} >= %s"
        arguments.append(low)
    if high is not None:
        text += f" AND {axis} <= %s"
        arguments.append(high)
    return text, arguments


def _columns(lists: Sequence[list[Any]]) -> Columns:
    identity, step, round_, time, value, flag = lists
    return {"id": identity, "step": step, "round": round_, "time": time, "value": value, "flag": flag}
