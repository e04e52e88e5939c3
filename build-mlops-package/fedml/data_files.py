"""Files of samples: `.npz` and `.csv`, as a device's own data or as common data that is downloaded.

`.npz`: arrays `x_train` (n, ...) of numbers and `y_train` (n,) of classes, optionally `x_test` and `y_test`; further
dimensions of x are flattened. Pickled objects are refused.

`.csv`: UTF-8, comma-separated, a header row; the classes stand in the column `label`, or in the last column when none
has that name; every other column is a feature and holds numbers.

Classes are whole numbers counted from 0.
"""

from __future__ import annotations

import csv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedml.samples import Samples

MOST_CLASSES = 10_000


class DataError(ValueError):
    """Data that cannot be trained on; the message names the file and what to do."""


@dataclass(frozen=True)
class FileData:
    """The samples of a file; `test` is None when the file has no test samples of its own."""

    train: Samples
    test: Samples | None


def find_file(path: Path) -> Path:
    """The file itself, or the one `.npz` or `.csv` file of a folder. Raises DataError when that is not one file."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataError(f"{path} does not exist on this device: check the data path of the configuration")
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in (".npz", ".csv"))
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise DataError(f"{path} must hold exactly one .npz or .csv file (found: {names}), or name the file itself")
    return files[0]


def read_file(path: Path) -> FileData:
    """Reads a `.npz` or `.csv` file; which of them it is shows in its first bytes. Raises DataError."""
    try:
        data = _read_npz(path) if zipfile.is_zipfile(path) else _read_csv(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if data.test is not None and data.test.x.shape[1] != data.train.x.shape[1]:
        raise DataError(f"{path}: x_test has {data.test.x.shape[1]} features, x_train {data.train.x.shape[1]}")
    return data


def _read_npz(path: Path) -> FileData:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = set(arrays.files)
            missing = {"x_train", "y_train"} - names
            if missing:
                raise DataError(f"{path} lacks the arrays {', '.join(sorted(missing))}")
            train = _samples(path, arrays["x_train"], arrays["y_train"])
            has_test = {"x_test", "y_test"} <= names
            return FileData(train, _samples(path, arrays["x_test"], arrays["y_test"]) if has_test else None)
    except DataError:
        raise
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a .npz file of plain numbers: {error}") from error


def _read_csv(path: Path) -> FileData:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file)
        header = [name.strip() for name in next(rows, [])]
        if len(header) < 2:
            raise DataError(f"{path}: the first line must name at least one feature and the label, with commas")
        label = header.index("label") if "label" in header else len(header) - 1
        table: list[list[float]] = []
        for row in rows:
            if not row:
                continue
            if len(row) != len(header):
                raise DataError(f"{path}, line {rows.line_num}: {len(row)} values for {len(header)} columns")
            table.append([_number(path, rows.line_num, name, text) for name, text in zip(header, row, strict=True)])
    if not table:
        raise DataError(f"{path} has a header but no samples")
    values = np.array(table, np.float64)
    return FileData(_samples(path, np.delete(values, label, axis=1), values[:, label]), None)


def _number(path: Path, line: int, column: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{path}, line {line}, column {column}: {text!r:.60} is not a number") from None


def _samples(path: Path, x: NDArray[np.generic], y: NDArray[np.generic]) -> Samples:
    if x.ndim < 2 or y.ndim != 1 or len(x) != len(y) or len(x) == 0:
        raise DataError(f"{path}: x must be (samples, features) and y (samples,), not {x.shape} and {y.shape}")
    if x.dtype.kind not in "biuf" or y.dtype.kind not in "biuf":
        raise DataError(f"{path}: x and y must hold numbers")
    with np.errstate(over="ignore"):  # what overflows is refused with the next lines
        features = x.reshape(len(x), -1).astype(np.float32)
    if not np.isfinite(features).all():
        raise DataError(f"{path}: the features hold NaN or infinity (or numbers beyond float32)")
    labels = y.astype(np.float64)
    if not (np.isfinite(labels).all() and (labels == np.floor(labels)).all() and labels.min() >= 0):
        raise DataError(f"{path}: classes must be whole numbers counted from 0")
    if labels.max() >= MOST_CLASSES:
        raise DataError(f"{path}: class {labels.max():.0f} is above {MOST_CLASSES - 1}; is this the label's column?")
    return Samples(features, labels.astype(np.int64))
