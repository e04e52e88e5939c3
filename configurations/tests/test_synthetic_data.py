"""Uploaded training data: what is accepted, and that nothing of it is ever unpickled."""

from __future__ import annotations

import io
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configurations.problems import Refused
from configurations.synthetic_data import data_check
from configurations.tests.packages import zip_of

MIB = 1024 * 1024


def _npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=True, **arrays)
    return buffer.getvalue()


def _npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def _check(folder: Path, content: bytes, name: str) -> None:
    path = folder / "data"
    path.write_bytes(content)
    data_check(path, name, 4 * MIB)


def _refusal(folder: Path, content: bytes, name: str) -> str:
    with pytest.raises(Refused) as refusal:
        _check(folder, content, name)
    (problem,) = refusal.value.problems
    assert problem.fix
    return problem.message


def test_arrays_of_numbers_are_accepted(tmp_path: Path) -> None:
    _check(tmp_path, _npz(x_train=np.zeros((10, 64), np.float32), y_train=np.arange(10)), "digits.npz")
    compressed = io.BytesIO()
    np.savez_compressed(compressed, x=np.zeros((1000, 64)), s=np.array(["a", "bc"]), empty=np.zeros((0, 3)))
    _check(tmp_path, compressed.getvalue(), "DIGITS.NPZ")


class Evil:
    """Would run when it is unpickled."""

    def __reduce__(self) -> Any:
        return exec, ("raise AssertionError('unpickled')",)


def test_pickled_objects_are_refused_without_unpickling_them(tmp_path: Path) -> None:
    message = _refusal(tmp_path, _npz(x=np.array([Evil()], dtype=object)), "x.npz")
    assert message == "The array x.npy holds Python objects, which would have to be unpickled."
    nested = np.array([(1, None)], dtype=[("a", "i4"), ("b", "O")])
    assert "Python objects" in _refusal(tmp_path, _npz(x=nested), "x.npz")


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"", "x.npz", "The archive cannot be read. The file is empty."),
        (b"x" * 100, "x.npz", "The archive cannot be read. It is not a zip archive."),
        (zip_of({"x.npy": b"nothing"}), "x.npz", "The array x.npy has no valid header."),
        (zip_of({"x.txt": b"nothing"}), "x.npz", "The member x.txt is not an array."),
        (zip_of({"../x.npy": b""}), "x.npz", "The name ../x.npy leads out of the package through '..'."),
        (
            zip_of({"x.npy": _npy(np.zeros(3))[:-1]}),
            "x.npz",
            "The array x.npy does not hold as many values as its header says.",
        ),
        (
            zip_of({"x.npy": b"\x93NUMPY\x01\x00\x76\x00" + b"{'descr': '<f8', 'fortran_order': False,".ljust(118)}),
            "x.npz",
            "The array x.npy has no valid header.",
        ),
        (
            zip_of({"x.npy": b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535}),
            "x.npz",
            "The array x.npy has no valid header.",
        ),
        (
            zip_of({"x.npy": _npy(np.zeros(5 * MIB, np.int8))}),
            "x.npz",
            "The archive unpacks to 5 MiB; 4 MiB are allowed.",
        ),
        (b"\x80\x04]", "x.pkl", "The data are neither .npz nor .csv."),
        (b"", "x.csv", "The file holds no samples."),
        (b"a,label\n", "x.csv", "The file holds no samples."),
        (b"only\n1\n", "x.csv", "The first line does not name at least two columns."),
        (b"a,label\n1,2\n1,2,3\n", "x.csv", "Line 3 has 3 values; the heading row has 2."),
        (b'a,label\n1,"2\n', "x.csv", "Line 2 is not valid CSV."),
        (b"a,label\n1,\xff\n", "x.csv", "The file is not UTF-8 text."),
        (b"a,label\n1,\0\n", "x.csv", "The file holds NUL characters."),
        (b"a,label\n" + b"1,2\n" * 400_000 + b"\xff", "x.csv", "The file is not UTF-8 text."),
        (b"a," * 2_000_000, "x.csv", "A line is longer than 1048576 characters."),
    ],
)
def test_broken_data_are_refused_with_a_sentence(tmp_path: Path, content: bytes, name: str, message: str) -> None:
    assert _refusal(tmp_path, content, name) == message


def test_a_bomb_of_zeros_is_refused_by_the_bytes_that_it_really_holds(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", _npy(np.zeros(3 * MIB, np.int8)))
        archive.writestr("y.npy", _npy(np.zeros(3 * MIB, np.int8)))
    assert _refusal(tmp_path, buffer.getvalue(), "x.npz") == "The archive unpacks to 6 MiB; 4 MiB are allowed."


@pytest.mark.parametrize(
    "content",
    [
        b"x1,x2,label\n0.1,0.2,1\n",
        b"\xef\xbb\xbfx1,label\r\n1,2\r\n\r\n3,4\r\n",
        'größe,"a ""b"", c",label\n1,"2\n3",4\n'.encode(),
        b"a,label\n" + b"1,2\n" * 400_000,
        b"a,label\n1,2",
    ],
    ids=["plain", "windows", "quotes", "large", "no_last_newline"],
)
def test_tables_are_accepted(tmp_path: Path, content: bytes) -> None:
    _check(tmp_path, content, "train.csv")


_HEADER_TEXT = st.text(st.sampled_from("{}[](),:'<f8|O \\n0123456789descrfortan_shpTuF"), max_size=80)


@settings(max_examples=200, deadline=None)
@given(_HEADER_TEXT, st.integers(0, 3))
@pytest.mark.filterwarnings("ignore:Reading `.npy`")
def test_any_header_is_accepted_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str, major: int) -> None:
    header = text.encode()
    size = len(header).to_bytes(2 if major < 2 else 4, "little")
    content = zip_of({"x.npy": b"\x93NUMPY" + bytes([major, 0]) + size + header})
    with suppress(Refused):
        _check(tmp_path_factory.mktemp("npy"), content, "x.npz")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(6, 127), st.integers(0, 255)), max_size=4))
@pytest.mark.filterwarnings("ignore:Reading `.npy`")
def test_a_mutated_array_is_accepted_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    array = bytearray(_npy(np.zeros((3, 4))))
    for position, value in changes:
        array[position] = value
    with suppress(Refused):
        _check(tmp_path_factory.mktemp("npy"), zip_of({"x.npy": bytes(array)}), "x.npz")
