"""Blocks: points in the order of their arrival, in chunks, with what a chart of many points needs of each chunk.

A series is a sequence of chunks of 1,024 points as they arrived (the last has fewer). Of each chunk, for each level of
detail (16, 64, 256 and 1,024), a block keeps those points that stand for the chunk:

- the least and the greatest value of every ``level`` consecutive points,
- the first and the last number by step, by round and by time,
- the first and the last NaN, infinity and negative infinity.

They are points as they were reported, never averages. So a chart may draw a chunk by these alone and loses no extreme.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from runs.telemetry.columns import Array, PointColumns, columns_decode, columns_encode, columns_join, columns_take

CHUNK_POINTS = 1_024
BLOCK_CHUNKS = 16
LEVELS = (16, 64, 256, 1_024)
Axis = Literal["step", "round", "time"]
AXES: tuple[Axis, ...] = get_args(Axis)

# One row a chunk. ``drawn``: points at each level; ``low`` and ``high``: by axis, NaN where no point has a round.
DIRECTORY = np.dtype(
    [
        ("count", "<u2"),
        ("with_round", "<u2"),
        ("drawn", "<u2", (len(LEVELS),)),
        ("offset", "<u4"),
        ("size", "<u4"),
        ("low", "<f8", (len(AXES),)),
        ("high", "<f8", (len(AXES),)),
    ]
)


@dataclass(frozen=True)
class Block:
    """What a ``runs.models.PointBlock`` holds."""

    directory: Array
    extremes: tuple[bytes, ...]  # by level
    data: bytes

    @property
    def count(self) -> int:
        return int(self.directory["count"].sum(dtype=np.int64))

    def span(self, axis: Axis) -> tuple[float | None, float | None]:
        """The least and the greatest of an axis, or None where no point has a round."""
        low, high = (self.directory[side][:, AXES.index(axis)] for side in ("low", "high"))
        known = ~np.isnan(low)
        return (float(low[known].min()), float(high[known].max())) if known.any() else (None, None)


def block_make(points: PointColumns) -> Block:
    """Make the block of points, which are in the order of their arrival and start a new chunk."""
    count = len(points["id"])
    chunk, place = np.divmod(np.arange(count), CHUNK_POINTS)
    starts = np.arange(0, count, CHUNK_POINTS)
    pieces = [columns_encode(columns_take(points, slice(at, at + CHUNK_POINTS))) for at in starts]
    directory = chunks_describe(points, starts)
    directory["size"] = [len(piece) for piece in pieces]
    directory["offset"] = np.cumsum(directory["size"], dtype=np.uint32) - directory["size"]
    extremes: list[bytes] = []
    for number, level in enumerate(LEVELS):
        drawn = representatives(points, chunk, place, level)
        directory["drawn"][:, number] = np.bincount(chunk[drawn], minlength=len(starts))
        extremes.append(columns_encode(columns_take(points, drawn)))
    return Block(directory, tuple(extremes), b"".join(pieces))


def blocks_merge(blocks: Sequence[Block]) -> Block:
    """Put blocks that follow each other into one; their chunks stay as they are."""
    directory = np.concatenate([block.directory for block in blocks])
    directory["offset"] = np.cumsum(directory["size"], dtype=np.uint32) - directory["size"]
    extremes: list[bytes] = []
    for number in range(len(LEVELS)):
        parts = [
            columns_decode(block.extremes[number], int(block.directory["drawn"][:, number].sum(dtype=np.int64)))
            for block in blocks
        ]
        extremes.append(columns_encode(columns_join(parts)))
    return Block(directory, tuple(extremes), b"".join(block.data for block in blocks))


def chunks_describe(points: PointColumns, starts: Array) -> Array:
    """Return the directory of chunks that begin at ``starts``, without where their bytes are."""
    directory = np.zeros(len(starts), DIRECTORY)
    directory["count"] = np.diff(np.append(starts, len(points["id"])))
    directory["with_round"] = np.add.reduceat(~np.isnan(points["round"]), starts, dtype=np.int64)
    for number, axis in enumerate(AXES):
        column = points[axis]
        directory["low"][:, number] = np.fmin.reduceat(column, starts)
        directory["high"][:, number] = np.fmax.reduceat(column, starts)
    return directory


def representatives(
    points: PointColumns, chunk: Array, place: Array, level: Array | int, axes: Collection[Axis] = AXES
) -> Array:
    """Return the places of the points that stand for their chunks at a level of detail, ascending.

    Args:
        points: in the order of their arrival, chunk by chunk; a chunk may lack some of its points.
        chunk: number of the chunk that each point is of, ascending.
        place: of each point within its chunk.
        level: of each point, or of all; a divisor of 1,024.
        axes: by which the first and the last point are wanted.
    """
    value = points["value"]
    is_finite = np.isfinite(value)
    finite = np.flatnonzero(is_finite)
    group = chunk * CHUNK_POINTS + place // level
    chosen = _ends(value[finite], group[finite], finite)
    for axis in axes:
        known = finite[~np.isnan(points[axis][finite])]
        chosen += _ends(points[axis][known], chunk[known], known)
    odd = np.flatnonzero(~is_finite)
    for kind in (np.isnan(value[odd]), np.isposinf(value[odd]), np.isneginf(value[odd])):
        some = odd[kind]
        begins = _begins(chunk[some])
        chosen += [some[begins], some[np.append(begins[1:], len(some)) - 1] if len(some) else some]
    marked = np.zeros(len(value), bool)
    for places in chosen:
        marked[places] = True
    return np.flatnonzero(marked)


def _ends(value: Array, group: Array, places: Array) -> list[Array]:
    """Of each group of values, where its first least and its last greatest one is."""
    if len(value) == 0:
        return []
    begins = _begins(group)
    sizes = np.diff(np.append(begins, len(value)))
    least = np.flatnonzero(value == np.repeat(np.minimum.reduceat(value, begins), sizes))
    greatest = np.flatnonzero(value == np.repeat(np.maximum.reduceat(value, begins), sizes))
    last = np.append(_begins(group[greatest])[1:], len(greatest)) - 1
    return [places[least[_begins(group[least])]], places[greatest[last]]]


def _begins(group: Array) -> Array:
    """Where each group of an ascending column begins."""
    if len(group) == 0:
        return np.empty(0, np.int64)
    return np.flatnonzero(np.append(True, group[1:] != group[:-1]))
