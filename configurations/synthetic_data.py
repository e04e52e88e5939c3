"""Checks of uploaded training data: ``.npz`` without pickles, or ``.csv``."""

from __future__ import annotations

import codecs
import csv
import io
import math
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from tokenize import TokenError
from typing import BinaryIO

from numpy.lib import format as npy

from configurations.archive import Archive, ArchiveRefused, Limits, archive_open
from configurations.problems import Problem, Refused

ARRAYS_MAX = 1_000
NPY_HEADER_MAX = 10_000
CSV_ROWS_CHECKED = 1_000
CSV_LINE_MAX = 1024 * 1024
CHUNK = 1024 * 1024


def data_check(path: Path, name: str, size_max: int) -> None:
    """Check uploaded data without ever unpickling any of it.

    Args:
        path: the file on disk.
        name: its name, whose ending says what it has to be.
        size_max: bytes that its arrays may hold in all.

    Raises:
        Refused: with a sentence that says what is wrong and what to do.
    """
    suffix = PurePath(name).suffix.lower()
    try:
        if suffix == ".npz":
            _npz_check(path, size_max)
        elif suffix == ".csv":
            with path.open("rb") as file:
                _csv_check(file)
        else:
            raise ArchiveRefused("The data are neither .npz nor .csv.", "Use numpy.savez, or save a table as CSV.")
    except ArchiveRefused as error:
        raise Refused([Problem(name, None, error.message, error.fix)]) from None


def _npz_check(path: Path, size_max: int) -> None:
    limits = Limits(members=ARRAYS_MAX, unpacked_bytes=size_max, ratio=1_100, depth=4)
    with archive_open(path, limits) as archive:
        for name in archive.files:
            if not name.endswith(".npy"):
                raise ArchiveRefused(f"The member {name} is not an array.", "Save the file with numpy.savez.")
            _npy_check(archive, name)


def _npy_check(archive: Archive, name: str) -> None:
    """Read an array's header, and hold the number of its bytes against it."""
    chunks = archive.chunks(name)
    head = bytearray()
    while len(head) < NPY_HEADER_MAX + 16 and (chunk := next(chunks, b"")):
        head += chunk
    size = len(head) + sum(len(chunk) for chunk in chunks)
    header = io.BytesIO(bytes(head[: NPY_HEADER_MAX + 16]))
    unreadable = ArchiveRefused(f"The array {name} has no valid header.", "Save the file anew with numpy.savez.")
    try:
        version = npy.read_magic(header)
        if version not in ((1, 0), (2, 0)):
            raise unreadable
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read_header(header, max_header_size=NPY_HEADER_MAX)
    except (ValueError, SyntaxError, TokenError, TypeError, KeyError, RecursionError, MemoryError, OverflowError):
        raise unreadable from None
    if dtype.hasobject:
        raise ArchiveRefused(
            f"The array {name} holds Python objects, which would have to be unpickled.",
            "Convert it to numbers or text of a fixed length, for example with astype(numpy.float32).",
        )
    expected = header.tell() + dtype.itemsize * math.prod(shape)
    if any(length < 0 for length in shape) or size != expected:
        raise ArchiveRefused(
            f"The array {name} does not hold as many values as its header says.", "Save the file anew with numpy.savez."
        )


def _csv_check(file: BinaryIO) -> None:
    """Check that the whole file is UTF-8 text, and its first rows have the columns of the heading row."""
    texts = _text(file)
    rows = csv.reader(_lines(texts), strict=True)
    width, samples = 0, 0
    try:
        for row in rows:
            if not row:
                continue
            if not width:
                width = len(row)
                if width < 2:
                    raise ArchiveRefused(
                        "The first line does not name at least two columns.",
                        "Write a heading row with names between commas: features and the column label.",
                    )
                continue
            samples += 1
            if len(row) != width:
                raise ArchiveRefused(
                    f"Line {rows.line_num} has {len(row)} values; the heading row has {width}.",
                    "Give every line one value for each column.",
                )
            if samples >= CSV_ROWS_CHECKED:
                break
    except csv.Error:
        raise ArchiveRefused(f"Line {rows.line_num} is not valid CSV.", "Look at its quotes.") from None
    if not samples:
        raise ArchiveRefused("The file holds no samples.", "Write a heading row, then one line for each sample.")
    for _ in texts:
        pass


def _lines(texts: Iterable[str]) -> Iterator[str]:
    rest = ""
    for text in texts:
        *lines, rest = (rest + text).split("\n")
        if len(rest) > CSV_LINE_MAX:
            raise ArchiveRefused(f"A line is longer than {CSV_LINE_MAX} characters.", "Write one sample a line.")
        for line in lines:
            yield line + "\n"
    if rest:
        yield rest


def _text(file: BinaryIO) -> Iterator[str]:
    """Yield the file's text in pieces."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    final = False
    while not final:
        chunk = file.read(CHUNK)
        final = not chunk
        try:
            text = decoder.decode(chunk, final)
        except UnicodeDecodeError:
            raise ArchiveRefused("The file is not UTF-8 text.", "Save it as CSV with the encoding UTF-8.") from None
        if "\0" in text:
            raise ArchiveRefused("The file holds NUL characters.", "Save it as CSV with the encoding UTF-8.")
        yield text
