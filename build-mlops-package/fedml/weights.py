"""Named arrays of a model, and their safetensors files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from roundtable import encode_safetensors

Array = NDArray[np.floating]
Weights = dict[str, Array]

HEADER_LIMIT = 1_000_000  # bytes
_DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}


class WeightsError(ValueError):
    """Bytes or arrays that are not the weights of this model; the message says why."""


def to_bytes(weights: Mapping[str, Array]) -> bytes:
    """Writes the weights as a safetensors file. Equal weights give equal bytes."""
    return encode_safetensors(weights)


def from_bytes(content: bytes) -> Weights:
    """Reads a safetensors file of floating-point arrays. The arrays are copies, in the machine's byte order.

    Raises WeightsError for anything else; nothing in the file is executed or trusted beyond its own length.
    """
    view = memoryview(content)  # slices of it copy nothing
    length = int.from_bytes(view[:8], "little")
    if len(content) < 8 or length > min(HEADER_LIMIT, len(content) - 8):
        raise WeightsError("not a safetensors file: its header does not fit")
    try:
        header = json.loads(bytes(view[8 : 8 + length]))
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        return {name: _read_array(view[8 + length :], entry) for name, entry in entries.items()}
    except WeightsError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise WeightsError(f"not a safetensors file: {type(error).__name__} in its header") from None


def _read_array(data: memoryview, entry: Mapping[str, object]) -> Array:
    dtype = _DTYPES.get(str(entry["dtype"]))
    shape, offsets = entry["shape"], entry["data_offsets"]
    if dtype is None:
        raise WeightsError(f"weights must be F16, F32 or F64, not {entry['dtype']!r:.20}")
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        raise WeightsError("not a safetensors file: a malformed entry in its header")
    if not all(type(number) is int and number >= 0 for number in [*shape, *offsets]):
        raise WeightsError("not a safetensors file: a malformed entry in its header")
    begin, end = offsets
    if end > len(data) or end - begin != math.prod(shape) * np.dtype(dtype).itemsize:
        raise WeightsError("not a safetensors file: an array does not fit")
    native = np.dtype(dtype).newbyteorder("=")
    return np.frombuffer(data[begin:end], dtype=dtype).reshape(shape).astype(native)


def size_in_bytes(weights: Mapping[str, Array]) -> int:
    """The bytes of the arrays, without the header of their file."""
    return sum(array.nbytes for array in weights.values())


def check_like(weights: Weights, expected: Weights) -> None:
    """Raises WeightsError unless both have the same names, shapes and types, and every value is finite."""
    if weights.keys() != expected.keys():
        raise WeightsError(f"arrays {sorted(weights)} instead of {sorted(expected)}")
    for name, array in weights.items():
        if array.shape != expected[name].shape:
            raise WeightsError(f"{name} has shape {array.shape} instead of {expected[name].shape}")
        if array.dtype != expected[name].dtype:
            raise WeightsError(f"{name} is of type {array.dtype} instead of {expected[name].dtype}")
        if not np.isfinite(array).all():
            raise WeightsError(f"{name} holds NaN or infinity (is the learning rate too high?)")
