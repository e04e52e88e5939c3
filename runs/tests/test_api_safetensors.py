"""Which files are taken for safetensors."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load as safetensors_load
from safetensors.numpy import save as safetensors_save

from runs.safetensors import NotSafetensors, safetensors_check

WEIGHTS = safetensors_save({"layer.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.zeros(3)})


def header(described: Any, data: bytes = b"") -> bytes:
    text = described if isinstance(described, bytes) else json.dumps(described).encode()
    return len(text).to_bytes(8, "little") + text + data


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (header({"a": TENSOR}, b"\0" * 7), "room for 7"),
        (header({"a": TENSOR, "b": {**TENSOR, "data_offsets": [4, 12]}}, b"\0" * 12), "overlap or leave a hole"),
        (header({"a": {**TENSOR, "data_offsets": [1, 9]}}, b"\0" * 9), "overlap or leave a hole at byte 0"),
        (header({"a": {**TENSOR, "dtype": "O"}}, b"\0" * 8), "dtype that is not known"),
        (header({"a": {**TENSOR, "shape": [-2]}}, b"\0" * 8), "shape"),
        (header({"a": {**TENSOR, "shape": [2**62, 2**62]}}, b"\0" * 8), "other bytes"),
        (header({"a": {**TENSOR, "shape": [True, 2]}}, b"\0" * 8), "shape"),
        (header({"a": {**TENSOR, "shape": [1] * 33}}, b"\0" * 8), "short list"),
        (header({"a": {**TENSOR, "data_offsets": [0, 8, 9]}}, b"\0" * 8), "two whole numbers"),
        (header({"a": {**TENSOR, "more": 1}}, b"\0" * 8), "not described by"),
        (header({"a": []}), "not described by"),
        (header({"__metadata__": {"a": 1}}), "__metadata__"),
        (header(b'{"a": {}, "a": {}}'), "not JSON"),
        (header(b"[]"), "does not begin with {"),
        (header(b"{" * 5000), "not JSON"),
        (header(b'{"a": NaN}'), "not JSON"),
        (b"\xff" * 8, "at most"),
        ((100).to_bytes(8, "little") + b"{}", "the file has 10"),
    ],
)
def test_a_file_that_lies_about_itself_is_found_out(file: bytes, reason: str) -> None:
    with pytest.raises(NotSafetensors, match=reason):
        safetensors_check(io.BytesIO(file), len(file))


def test_what_the_format_allows_is_taken() -> None:
    for file in (
        WEIGHTS,
        header({}),
        header({"__metadata__": {"format": "np"}}),
        header({"a": {**TENSOR, "shape": [0], "data_offsets": [0, 0]}, "b": TENSOR}, b"\0" * 8),
        header({"a": {**TENSOR, "shape": [], "data_offsets": [0, 4]}}, b"\0" * 4),
    ):
        safetensors_check(io.BytesIO(file), len(file))


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, len(WEIGHTS) - 1), byte=st.integers(0, 255), cut=st.integers(0, len(WEIGHTS)))
def test_any_change_of_a_file_is_taken_or_refused(at: int, byte: int, cut: int) -> None:
    changed = bytearray(WEIGHTS)
    changed[at] = byte
    data = bytes(changed[:cut])
    try:
        safetensors_check(io.BytesIO(data), len(data))
    except NotSafetensors as error:
        assert len(str(error)) > 10  # noqa: PT017
    else:
        assert cut == len(WEIGHTS)
        safetensors_load(data)
