"""Points of series as a chart needs them: a window of the x axis, at the resolution of the screen, no extreme lost.

Half of the points are chosen by MinMaxLTTB (Van Der Donckt et al., 2023, https://arxiv.org/abs/2305.00332), which draws
the shape best, but may pass over an extreme that lies beside a greater one. The other half are the least and the
greatest value of each of equal parts of the series, so that a spike is there however narrow it is.

Points of equal x are in the order of their arrival: a metric logged twice at one step has two points.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from tsdownsample import MinMaxDownsampler, MinMaxLTTBDownsampler

from runs.models import Series
from runs.telemetry.blocks import Axis
from runs.telemetry.columns import NAMES, Array, Name, PointColumns, columns_take
from runs.telemetry.windows import Window, candidates

SERIES_POINTS = 1_000  # of one series in a snapshot
SNAPSHOT_POINTS = 100_000  # of all series in a snapshot together
SERIES_POINTS_LEAST = 50
FLAGGED_POINTS = 100  # values that are no numbers, kept beside the downsampled ones


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
    found = window_columns([one.pk for one in series], Window(axis, low, high), width)
    return {series_id: columns_of(points) for series_id, points in found.items()}


def window_columns(
    series_ids: Sequence[int], window: Window, width: int, names: Collection[Name] = NAMES
) -> Mapping[int, PointColumns]:
    """Return the points of the series within a window as arrays, by series id, in the order of the axis.

    To be called within one state of the database (``runs.live.snapshot.database_snapshot``).

    Args:
        series_ids: which series, each once; those without a point in the window have empty columns.
        window: what is shown.
        width: at most so many points of each series (and the values that are no numbers, up to 100); at least 8.
        names: which columns are wanted; the axis and the value always come with them.
    """
    found = candidates(series_ids, window, width, names)
    return {series_id: _drawn(points, window.axis, width) for series_id, points in found.items()}


def downsample(x: Array, value: Array, width: int) -> Array:
    """Return the indices of at most ``width`` points that draw the same picture, ascending.

    The first and the last point are among them, and of each of ``width // 4`` equal parts its least and greatest.

    Args:
        x: ascending.
        value: finite, as long as ``x``.
        width: at least 8.
    """
    if len(x) <= width:
        return np.arange(len(x))
    if not np.isfinite(x[-1] - x[0]):
        x = np.arange(len(x), dtype=np.float64)
    shape: Any = MinMaxLTTBDownsampler()  # type: ignore[no-untyped-call]
    extremes: Any = MinMaxDownsampler()  # type: ignore[no-untyped-call]
    marked = np.zeros(len(x), bool)
    marked[shape.downsample(x, value, n_out=width // 2)] = True
    marked[extremes.downsample(value, n_out=width // 4 * 2)] = True
    return np.flatnonzero(marked)


def flags_of(value: Array) -> Array:
    """Return the ``runs.models.ValueFlag`` of each value."""
    return np.select([np.isfinite(value), np.isnan(value), value > 0], [0, 1, 2], 3)


def columns_of(points: PointColumns) -> Columns:
    """Return points as JSON has them."""
    flag = flags_of(points["value"])
    return {
        "id": points["id"].tolist(),
        "step": points["step"].tolist(),
        "round": rounds_of(points["round"]),
        "time": points["time"].tolist(),
        "value": [None if flagged else value for value, flagged in zip(points["value"].tolist(), flag, strict=True)]
        if flag.any()
        else points["value"].tolist(),
        "flag": flag.tolist(),
    }


def rounds_of(column: Array) -> list[int | None]:
    """Return rounds as whole numbers, None where there is none."""
    missing = np.isnan(column)
    if not missing.any():
        return column.astype(np.int64).tolist()  # type: ignore[no-any-return]
    if missing.all():
        return [None] * len(column)
    return [None if each != each else int(each) for each in column.tolist()]


def _drawn(points: PointColumns, axis: Axis, width: int) -> PointColumns:
    x = points[axis]
    if len(x) > 1 and (x[1:] < x[:-1]).any():
        points = columns_take(points, np.argsort(x, kind="stable"))
    value = points["value"]
    is_finite = np.isfinite(value)
    if is_finite.all():
        if len(value) <= width:
            return points
        return columns_take(points, downsample(points[axis], value, width))
    finite, flagged = np.flatnonzero(is_finite), np.flatnonzero(~is_finite)
    if len(flagged) > FLAGGED_POINTS:
        flagged = flagged[np.linspace(0, len(flagged) - 1, FLAGGED_POINTS).astype(int)]
    chosen = finite[downsample(points[axis][finite], value[finite], width)]
    return columns_take(points, np.union1d(chosen, flagged))
