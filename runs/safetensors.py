"""Checking that a file is what the safetensors format says, without making arrays of it.

The format (https://github.com/huggingface/safetensors#format): eight bytes, little-endian, the length n of the header;
n bytes of JSON; and the bytes of the tensors, without holes. Nothing in it can be executed; what is checked here is
that every tensor lies where the header says, so that who loads the file need not trust who wrote it.
"""

from __future__ import annotations

import json
import math
from typing import Any, Protocol

HEADER_MAX_BYTES = 16 * 1024 * 1024
TENSORS_MAX = 100_000
DIMENSIONS_MAX = 32

_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F4": 4,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip


class NotSafetensors(Exception):
    """The file is not in the safetensors format; ``str(error)`` says where it is not."""


class Readable(Protocol):
    """What is read in pieces: a file, or the body of a request."""

    def read(self, size: int, /) -> bytes: ...


def safetensors_check(file: Readable, size: int) -> None:
    """Make sure that a file is a whole safetensors file.

    Args:
        file: positioned at its start; it is read up to the end of the header.
        size: bytes in the file.

    Raises:
        NotSafetensors: it is not.
    """
    prefix = file.read(8)
    if len(prefix) < 8:
        raise NotSafetensors("the file is shorter than the eight bytes that say how long its header is")
    length = int.from_bytes(prefix, "little")
    if length > HEADER_MAX_BYTES:
        raise NotSafetensors(f"its header would have {length} bytes; at most {HEADER_MAX_BYTES} are allowed")
    if length > size - 8:
        raise NotSafetensors(f"its header would have {length} bytes, and the file has {size}")
    _header_check(_header_read(file.read(length)), size - 8 - length)


def _header_read(data: bytes) -> dict[str, Any]:
    if not data.startswith(b"{"):
        raise NotSafetensors("its header does not begin with {")
    try:
        header: dict[str, Any] = json.loads(
            data.decode("utf-8"), object_pairs_hook=_without_duplicates, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise NotSafetensors("its header is not JSON") from error
    return header


def _header_check(header: dict[str, Any], room: int) -> None:
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise NotSafetensors("its __metadata__ is not an object of strings")
    if len(header) > TENSORS_MAX:
        raise NotSafetensors(f"it has {len(header)} tensors; at most {TENSORS_MAX} are allowed")
    spans = sorted(_span(name, tensor) for name, tensor in header.items())
    end = 0
    for begin, stop in spans:
        if begin != end:
            raise NotSafetensors(f"its tensors overlap or leave a hole at byte {min(begin, end)} of the data")
        end = stop
    if end != room:
        raise NotSafetensors(f"its tensors have {end} bytes, and the file has room for {room}")


def _span(name: str, tensor: Any) -> tuple[int, int]:
    shown = name[:60]
    if not isinstance(tensor, dict) or set(tensor) != {"dtype", "shape", "data_offsets"}:
        raise NotSafetensors(f"tensor {shown!r} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise NotSafetensors(f"tensor {shown!r} has a dtype that is not known")
    if not isinstance(shape, list) or len(shape) > DIMENSIONS_MAX or not all(_is_count(extent) for extent in shape):
        raise NotSafetensors(f"tensor {shown!r} has a shape that is not a short list of whole numbers")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_count(offset) for offset in offsets):
        raise NotSafetensors(f"tensor {shown!r} has data_offsets that are not two whole numbers")
    bits = math.prod(shape) * _BITS[dtype]
    if bits % 8 or offsets[1] - offsets[0] != bits // 8:
        raise NotSafetensors(f"tensor {shown!r} has other bytes than its shape and dtype need")
    return offsets[0], offsets[1]


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key comes twice")
    return result


def _no_constant(text: str) -> Any:
    raise ValueError(text)
