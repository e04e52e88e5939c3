"""Points by column, and the bytes that blocks keep them in.

A column of numbers is written in the shortest of four ways that gives back the same numbers, bit by bit: one number
for all, a ramp (``base + stride * place``), whole numbers as small offsets from the least, or as they are. Steps,
rounds and ids mostly vanish by this, so that a point takes about 20 bytes; times and values stay as they are, since
reading must not cost more than copying.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence
from typing import Any, Literal, get_args

import numpy as np

Array = np.ndarray[Any, Any]
Name = Literal["id", "step", "round", "time", "value"]
NAMES: tuple[Name, ...] = get_args(Name)

# Arrays of the same length: ``id`` of int64, the others of float64. ``round`` is NaN where there is none; ``value``
# holds NaN and the infinities themselves.
PointColumns = dict[Name, Array]

_SAME, _RAMP, _OFFSETS, _PLAIN = range(4)
_HEAD = struct.Struct("<BddI")  # kind, base, stride, bytes that follow
_WHOLE_MOST = 2.0**53
_TYPES: dict[Name, str] = {"id": "<i8", "step": "<f8", "round": "<f8", "time": "<f8", "value": "<f8"}


def columns_encode(points: PointColumns) -> bytes:
    """Write all columns of the points into one piece of bytes."""
    heads: list[bytes] = []
    bodies: list[bytes] = []
    for name in NAMES:
        kind, base, stride, body = _encode(points[name])
        heads.append(_HEAD.pack(kind, base, stride, len(body)))
        bodies.append(body)
    return b"".join(heads + bodies)


def columns_decode(data: bytes | memoryview, count: int, names: Collection[Name] = NAMES) -> PointColumns:
    """Read columns of ``count`` points back.

    Args:
        data: of ``columns_encode``.
        count: how many points were written.
        names: which columns are wanted.
    """
    found: PointColumns = {}
    at = _HEAD.size * len(NAMES)
    for place, name in enumerate(NAMES):
        kind, base, stride, size = _HEAD.unpack_from(data, place * _HEAD.size)
        if name in names:
            found[name] = _decode(kind, base, stride, data[at : at + size], count, _TYPES[name])
        at += size
    return found


def columns_join(parts: Sequence[PointColumns], names: Collection[Name] = NAMES) -> PointColumns:
    """Put points one after the other."""
    if not parts:
        return {name: np.empty(0, _TYPES[name]) for name in names}
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def columns_take(points: PointColumns, places: Array | slice) -> PointColumns:
    """Return the points at some places (or under a mask)."""
    return {name: column[places] for name, column in points.items()}


def _encode(column: Array) -> tuple[int, float, float, bytes]:
    if len(column) == 0:
        return _SAME, 0.0, 0.0, b""
    first = column[:1]
    if (column.view("<i8") == first.view("<i8")).all():
        return _SAME, float(first[0]), 0.0, b""
    whole = _whole(column)
    if whole is None:
        return _PLAIN, 0.0, 0.0, column.tobytes()
    least = int(whole.min())
    steps = np.diff(whole)
    if (steps == steps[0]).all():
        return _RAMP, float(whole[0]), float(steps[0]), b""
    span = int(whole.max()) - least
    for size in (1, 2, 4):
        if span < 256**size:
            return _OFFSETS, float(least), 0.0, (whole - least).astype(f"<u{size}").tobytes()
    return _PLAIN, 0.0, 0.0, column.tobytes()


def _whole(column: Array) -> Array | None:
    """The column as whole numbers that a float holds exactly, or None where it has others (or a negative zero)."""
    if column.dtype.kind == "i":
        return column if np.abs(column).max() < _WHOLE_MOST else None
    if not (np.abs(column) < _WHOLE_MOST).all():  # NaN is not less
        return None
    whole = column.astype(np.int64)
    return whole if (whole.astype(np.float64).view("<i8") == column.view("<i8")).all() else None


def _decode(kind: int, base: float, stride: float, body: bytes | memoryview, count: int, type_: str) -> Array:
    if kind == _SAME:
        return np.full(count, base, type_)
    if kind == _RAMP:
        return (int(base) + int(stride) * np.arange(count)).astype(type_)
    if kind == _OFFSETS:
        return (int(base) + np.frombuffer(body, f"<u{len(body) // count}").astype(np.int64)).astype(type_)
    return np.frombuffer(body, type_)
