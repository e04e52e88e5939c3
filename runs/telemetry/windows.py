"""Which points of series a window of a chart needs: few, and no extreme lost, however long the series are.

A series is a sequence of chunks (``runs.telemetry.blocks``), of which most stand in blocks and the last ones are read
from the tail. A chunk that the window covers as a whole is drawn by the points that stand for it, at a level of detail
that the number of points in the window and the width ask for; of a chunk that the window cuts, the points inside are
read and reduced in the same way. So the answer is the same whether points are in blocks already or not.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from runs.telemetry.blocks import (
    AXES,
    CHUNK_POINTS,
    DIRECTORY,
    LEVELS,
    Axis,
    chunks_describe,
    representatives,
)
from runs.telemetry.columns import Array, Name, PointColumns, columns_decode, columns_join, columns_take
from runs.telemetry.reading import BlockRow, Piece, blocks_find, extremes_read, pieces_read, tails_read

EVERY = 1  # the level of detail at which every point is read


@dataclass(frozen=True)
class Window:
    """What a chart shows of an axis.

    Args:
        axis: what the window is of.
        low: start, included; None: from the first point.
        high: end, included; None: to the last point.
        origins: for each series, what its axis is counted from: seconds since the epoch for a window of times since the
            beginnings of runs.
    """

    axis: Axis = "step"
    low: float | None = None
    high: float | None = None
    origins: Array | None = None

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Between what points of any of the series may lie, on the axis as it is stored."""
        if self.origins is None or len(self.origins) == 0:
            return self.low, self.high
        return (
            None if self.low is None else float(np.nextafter(self.low + self.origins.min(), -np.inf)),
            None if self.high is None else float(np.nextafter(self.high + self.origins.max(), np.inf)),
        )

    def holds(self, points: PointColumns, series: Array) -> Array:
        """Which points are inside. Without a round they are in no window of rounds. ``series``: that each is of."""
        x = points[self.axis] if self.origins is None else points[self.axis] - self.origins[series]
        inside = ~np.isnan(x)
        if self.low is not None:
            inside &= x >= self.low
        if self.high is not None:
            inside &= x <= self.high
        return inside

    def meets(self, directory: Array, series: Array) -> tuple[Array, Array]:
        """Which chunks have points inside (perhaps), and which have all of theirs inside."""
        low, high = (directory[side][:, AXES.index(self.axis)] for side in ("low", "high"))
        if self.origins is not None:
            low, high = low - self.origins[series], high - self.origins[series]
        some = ~np.isnan(low)
        every = directory["with_round"] == directory["count"] if self.axis == "round" else some.copy()
        if self.low is not None:
            some &= high >= self.low
            every &= low >= self.low
        if self.high is not None:
            some &= low <= self.high
            every &= high <= self.high
        return some, every


@dataclass(frozen=True)
class _Chunks:
    """The chunks of all series, those in blocks before those of the tail, as they arrived."""

    directory: Array
    series: Array  # place in the list of series
    source: Array  # place in the list of blocks, or -1 for the tail
    number: Array  # of the chunk within its block; of the tail: where it begins
    cut: Array  # whether it has points inside the window, perhaps, and others outside
    whole: Array  # whether all of its points are inside


class _Points(NamedTuple):
    """Points inside the window, as they arrived, with the place of their chunk in ``_Chunks`` and theirs in it."""

    points: PointColumns
    chunk: Array
    place: Array


_NONE: _Points = _Points({}, np.empty(0, np.int64), np.empty(0, np.int64))
# A part of an answer: for each point the place of its chunk in ``_Chunks``, and the points.
_Part = tuple[Array, PointColumns]


def candidates(
    series_ids: Sequence[int], window: Window, width: int, names: Collection[Name]
) -> dict[int, PointColumns]:
    """Return the points of each series from which a chart of a window is drawn, in the order of their arrival.

    1. Find the chunks that the window meets, and the tails.
    2. Read the chunks that it cuts, so that it is known how many points are inside.
    3. Choose the level of detail of each series.
    4. Read what stands for the other chunks at that level, and reduce what was read before to it.

    Among the candidates are the first and the last point of the window, the least and the greatest value of it, and
    those of each part of it that a chart of ``width`` points can tell apart. There may be more than ``width`` of them;
    where there are no more than four times ``width`` inside, they are all of them.

    Args:
        series_ids: which series, each once.
        window: what is shown.
        width: how many points of each series the chart has room for.
        names: which columns are wanted; those that deciding takes are read all the same.
    """
    wanted: list[Name] = sorted({*names, window.axis, "value"})
    blocks = blocks_find(series_ids, window.axis, *window.bounds)
    tail_series, tail = tails_read(series_ids)
    chunks = _chunks(series_ids, window, blocks, tail_series, tail)
    in_block = chunks.source >= 0
    read = [
        _inside(_block_points(chunks, chunks.cut & in_block, blocks, wanted), window, chunks),
        _inside(_tail_points(chunks, chunks.cut & ~in_block, tail), window, chunks),
    ]
    level = _levels(chunks, read, len(series_ids), width)
    every = level[chunks.series] == EVERY
    parts = [
        *_extremes(chunks, level, blocks, wanted),
        *[_reduced(points, chunks, level, (window.axis,)) for points in read],
        _reduced(_tail_points(chunks, chunks.whole & ~in_block, tail), chunks, level, AXES),
        _reduced(_block_points(chunks, chunks.whole & in_block & every, blocks, wanted), chunks, level, AXES),
    ]
    parts = [part for part in parts if len(part[0])]
    places = np.concatenate([place for place, _ in parts]) if parts else np.empty(0, np.int64)
    points = columns_join([columns for _, columns in parts], wanted)
    order = np.argsort(places, kind="stable")
    series = chunks.series[places[order]]
    points = columns_take(points, order)
    bounds = np.searchsorted(series, np.arange(len(series_ids) + 1))
    return {
        series_id: columns_take(points, slice(bounds[place], bounds[place + 1]))
        for place, series_id in enumerate(series_ids)
    }


def _chunks(
    series_ids: Sequence[int], window: Window, blocks: Sequence[BlockRow], tail_series: Array, tail: PointColumns
) -> _Chunks:
    place_of = {series_id: place for place, series_id in enumerate(series_ids)}
    directories = [block.directory for block in blocks]
    sizes = [len(each) for each in directories]
    series = [np.repeat([place_of[block.series_id] for block in blocks], sizes)] if blocks else []
    source = [np.repeat(np.arange(len(blocks)), sizes)] if blocks else []
    number = [np.arange(size) for size in sizes]
    if len(tail_series):
        begins = np.flatnonzero(np.append(True, tail_series[1:] != tail_series[:-1]))
        ends = np.append(begins[1:], len(tail_series))
        starts = np.concatenate([np.arange(a, b, CHUNK_POINTS) for a, b in zip(begins, ends, strict=True)])
        directories.append(chunks_describe(tail, starts))
        series.append(np.array([place_of[int(each)] for each in tail_series[starts]]))
        source.append(np.full(len(starts), -1))
        number.append(starts)
    if not directories:
        nothing, no = np.empty(0, np.int64), np.empty(0, bool)
        return _Chunks(np.empty(0, DIRECTORY), nothing, nothing, nothing, no, no)
    order = np.argsort(np.concatenate(series), kind="stable")
    directory, series_, source_, number_ = (
        np.concatenate(parts)[order] for parts in (directories, series, source, number)
    )
    some, whole = window.meets(directory, series_)
    return _Chunks(directory, series_, source_, number_, some & ~whole, some & whole)


def _levels(chunks: _Chunks, read: Sequence[_Points], series_count: int, width: int) -> Array:
    """The level of detail of each series: the coarsest with at least half as many candidates as there is room."""
    whole = chunks.directory["count"][chunks.whole].astype(np.float64)
    counts = np.bincount(chunks.series[chunks.whole], whole, minlength=series_count)
    for points in read:
        counts += np.bincount(chunks.series[points.chunk], minlength=series_count)
    level = np.full(series_count, EVERY)
    for each in LEVELS:
        level[2 * counts / each >= width / 2] = each
    return level


def _extremes(chunks: _Chunks, level: Array, blocks: Sequence[BlockRow], names: Collection[Name]) -> list[_Part]:
    """What stands for the chunks in blocks that are inside the window as a whole."""
    parts: list[_Part] = []
    wanted = chunks.whole & (chunks.source >= 0)
    for number, each in enumerate(LEVELS):
        places = np.flatnonzero(wanted & (level[chunks.series] == each))
        found = extremes_read([blocks[source].id for source in np.unique(chunks.source[places])], each)
        for source, its_places in _groups(chunks.source[places], places):
            block = blocks[source]
            drawn = block.directory["drawn"][:, number].astype(np.int64)
            points = columns_decode(found[block.id], int(drawn.sum()), names)
            if len(its_places) < len(drawn):
                is_in = np.zeros(len(drawn), bool)
                is_in[chunks.number[its_places]] = True
                points = columns_take(points, np.repeat(is_in, drawn))
            parts.append((np.repeat(its_places, drawn[chunks.number[its_places]]), points))
    return parts


def _block_points(chunks: _Chunks, which: Array, blocks: Sequence[BlockRow], names: Collection[Name]) -> _Points:
    """All points of some chunks in blocks."""
    places = np.flatnonzero(which)
    if len(places) == 0:
        return _NONE
    pieces: list[Piece] = []
    parts: list[PointColumns] = []
    # Neighbours are read at once.
    apart = (np.diff(chunks.source[places]) != 0) | (np.diff(chunks.number[places]) != 1)
    together = np.split(places, np.flatnonzero(apart) + 1)
    for some in together:
        rows = chunks.directory[some]
        block = blocks[int(chunks.source[some[0]])]
        pieces.append(Piece(block.id, int(rows["offset"][0]), int(rows["size"].sum(dtype=np.int64))))
    for some, data in zip(together, pieces_read(pieces), strict=True):
        at = 0
        for count, size in chunks.directory[["count", "size"]][some].tolist():
            parts.append(columns_decode(data[at : at + size], count, names))
            at += size
    return _placed(columns_join(parts, names), places, chunks)


def _tail_points(chunks: _Chunks, which: Array, tail: PointColumns) -> _Points:
    """All points of some chunks of the tail."""
    places = np.flatnonzero(which)
    if len(places) == 0:
        return _NONE
    counts = chunks.directory["count"][places].astype(np.int64)
    rows = np.repeat(chunks.number[places] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
    return _placed(columns_take(tail, rows), places, chunks)


def _placed(points: PointColumns, places: Array, chunks: _Chunks) -> _Points:
    counts = chunks.directory["count"][places].astype(np.int64)
    chunk = np.repeat(places, counts)
    return _Points(points, chunk, np.arange(len(chunk)) - np.repeat(np.cumsum(counts) - counts, counts))


def _inside(read: _Points, window: Window, chunks: _Chunks) -> _Points:
    if len(read.chunk) == 0:
        return read
    inside = np.flatnonzero(window.holds(read.points, chunks.series[read.chunk]))
    return _Points(columns_take(read.points, inside), read.chunk[inside], read.place[inside])


def _reduced(read: _Points, chunks: _Chunks, level: Array, axes: Collection[Axis]) -> _Part:
    """What stands for points at the level of detail of their series."""
    points, chunk, place = read
    detail = level[chunks.series[chunk]]
    drawn = np.flatnonzero(detail != EVERY)
    if len(drawn) == 0:
        return chunk, points
    kept = drawn[representatives(columns_take(points, drawn), chunk[drawn], place[drawn], detail[drawn], axes)]
    chosen = np.sort(np.concatenate([np.flatnonzero(detail == EVERY), kept]))
    return chunk[chosen], columns_take(points, chosen)


def _groups(keys: Array, values: Array) -> Sequence[tuple[int, Array]]:
    """Split ``values`` by their keys, which come together."""
    if len(keys) == 0:
        return []
    begins = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    return list(zip(keys[begins].tolist(), np.split(values, begins[1:]), strict=True))
