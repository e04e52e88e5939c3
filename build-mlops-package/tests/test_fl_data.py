"""Partitions, data sets, and files of samples."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedml.data_files import DataError, find_file, read_file
from fedml.datasets import Plan, digits, synthetic_1_1
from fedml.partition import PARTITIONS, split
from fedml.samples import Samples, hold_out


@given(
    st.sampled_from(sorted(PARTITIONS)),
    st.lists(st.integers(0, 9), min_size=1, max_size=400),
    st.integers(1, 12),
    st.floats(0.01, 100),
    st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_every_sample_is_in_exactly_one_part(
    method: str, labels: list[int], silos: int, alpha: float, seed: int
) -> None:
    y = np.array(labels)
    if len(y) < silos:
        with pytest.raises(ValueError, match=f"{len(y)} samples cannot be split between {silos} silos"):
            split(method, y, silos, alpha, seed)
        return
    parts = split(method, y, silos, alpha, seed)
    assert len(parts) == silos
    assert min(map(len, parts)) >= 1
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(y)))
    again = split(method, y, silos, alpha, seed)
    assert all((part == other).all() for part, other in zip(parts, again, strict=True))


@given(st.integers(1, 500), st.integers(1, 20), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_homo_parts_differ_by_at_most_one_sample(count: int, silos: int, seed: int) -> None:
    sizes = [len(part) for part in split("homo", np.zeros(max(count, silos), np.int64), silos, 1.0, seed)]
    assert max(sizes) - min(sizes) <= 1


def test_a_small_alpha_gives_silos_that_know_fewer_classes() -> None:
    y = np.repeat(np.arange(10), 200)

    def skew(alpha: float) -> float:
        """The mean share of a silo's most frequent class."""
        return float(np.mean([np.bincount(y[part]).max() / len(part) for part in split("hetero", y, 5, alpha, 1)]))

    assert skew(0.05) > 0.4 > 0.2 > skew(100.0) > 0.1


def test_digits_are_split_the_same_on_every_device() -> None:
    plan = Plan("hetero", 0.5, 4, 7)
    here, there = digits(plan), digits(plan)
    assert [len(part) for part in here.parts] == [len(part) for part in there.parts]
    assert all((a.x == b.x).all() and (a.y == b.y).all() for a, b in zip(here.parts, there.parts, strict=True))
    assert sum(map(len, here.parts)) + len(here.test) == 1797
    assert len(here.test) == 359
    assert (here.classes, here.test.x.shape[1], here.test.x.dtype) == (10, 64, np.dtype(np.float32))
    assert (here.test.x.min(), here.test.x.max()) == (0.0, 1.0)


def test_synthetic_data_is_as_the_paper_describes_it() -> None:
    data = synthetic_1_1(Plan("homo", 1.0, 30, 0))
    sizes = np.array([len(part) for part in data.parts])
    assert len(sizes) == 30
    assert sizes.min() >= 45  # nine tenths of at least 50
    assert sizes.max() > 3 * np.median(sizes)  # log-normal: a few devices have most of the samples
    assert data.parts[0].x.shape[1] == 60
    assert data.classes == 10
    deviations = np.concatenate([part.x - part.x.mean(axis=0) for part in data.parts]).std(axis=0)
    np.testing.assert_allclose(deviations, np.arange(1, 61) ** -0.6, rtol=0.1)


@given(st.integers(1, 60), st.floats(0.01, 0.99))
@settings(max_examples=40, deadline=None)
def test_holding_out_leaves_something_on_both_sides(count: int, fraction: float) -> None:
    samples = Samples(np.arange(count, dtype=np.float32)[:, None], np.arange(count))
    parts = hold_out(samples, fraction, np.random.default_rng(0))
    assert len(parts.train) >= 1
    assert len(parts.test) >= 1
    if count > 1:
        assert sorted([*parts.train.y.tolist(), *parts.test.y.tolist()]) == list(range(count))


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv_names_its_label_column_or_has_it_last(tmp_path: Path) -> None:
    named = read_file(write(tmp_path / "a.csv", "\ufefflabel,height,width\n1,0.5,2\n0,1e-3,-4\n\n"))
    last = read_file(write(tmp_path / "b.csv", "height,width,kind\n0.5,2,1\n1e-3,-4,0\n"))
    for data in (named, last):
        np.testing.assert_array_equal(data.train.x, np.array([[0.5, 2], [1e-3, -4]], np.float32))
        assert data.train.y.tolist() == [1, 0]
        assert data.test is None


def test_an_npz_may_have_images_and_its_own_test_samples(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    x, y = np.arange(24, dtype=np.uint8).reshape(3, 2, 4), np.array([2, 0, 1], np.uint8)
    np.savez(path, x_train=x, y_train=y, x_test=x[:1], y_test=y[:1])
    data = read_file(path)
    assert data.train.x.shape == (3, 8)
    assert data.train.x.dtype == np.float32
    assert data.train.y.tolist() == [2, 0, 1]
    assert data.test is not None
    assert data.test.y.tolist() == [2]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the first line must name at least one feature and the label"),
        ("a,label\n", "has a header but no samples"),
        ("a,label\n1,0\n1\n", "line 3: 1 values for 2 columns"),
        ("a,label\n1,0\nx,1\n", "line 3, column a: 'x' is not a number"),
        ("a,label\n1,cat\n", "line 2, column label: 'cat' is not a number"),
        ("a,label\n1,0.5\n", "classes must be whole numbers counted from 0"),
        ("a,label\n1,-1\n", "classes must be whole numbers counted from 0"),
        ("a,label\n1,123456\n", "class 123456 is above 9999; is this the label's column?"),
        ("a,label\nnan,1\n", "the features hold NaN or infinity"),
        ("a,label\n1e39,1\n", "the features hold NaN or infinity"),
    ],
)
def test_a_bad_csv_is_refused_with_its_place(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        read_file(write(tmp_path / "bad.csv", text))
    assert sentence in str(caught.value)
    assert "bad.csv" in str(caught.value)


def npz(**arrays: object) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (npz(x_train=np.zeros((2, 2))), "lacks the arrays y_train"),
        (npz(x_train=np.zeros((2, 2)), y_train=np.zeros(3)), "not (2, 2) and (3,)"),
        (npz(x_train=np.zeros(2), y_train=np.zeros(2)), "not (2,) and (2,)"),
        (npz(x_train=np.array([[object()]]), y_train=np.zeros(1)), "is not a .npz file of plain numbers"),
        (npz(x_train=np.array([["a"]]), y_train=np.zeros(1)), "x and y must hold numbers"),
        (
            npz(x_train=np.ones((1, 2)), y_train=np.zeros(1), x_test=np.ones((1, 3)), y_test=np.zeros(1)),
            "x_test has 3 features, x_train 2",
        ),
        (b"\x80\x04K*." + b"\xff" * 9, "cannot be read"),
    ],
)
def test_a_bad_npz_is_refused_and_never_unpickled(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_file(path)
    assert sentence in str(caught.value)


def test_a_folder_is_searched_for_its_one_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must hold exactly one"):
        find_file(tmp_path)
    only = write(tmp_path / "a.csv", "a,label\n1,0\n")
    write(tmp_path / "readme.txt", "no data")
    assert find_file(tmp_path) == find_file(only) == only
    write(tmp_path / "b.csv", "")
    with pytest.raises(DataError, match=r"found: a\.csv, b\.csv"):
        find_file(tmp_path)
