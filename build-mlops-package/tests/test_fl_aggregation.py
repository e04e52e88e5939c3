"""The weighted mean, the choice of clients, and the files of weights."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedml.aggregation import choose, weighted_mean, weighted_metric
from fedml.weights import Weights, WeightsError, check_like, from_bytes, to_bytes


@given(
    st.lists(
        st.tuples(st.integers(1, 10**6), st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3)),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=80, deadline=None)
def test_the_mean_is_the_exact_one_rounded(clients: list[tuple[int, list[float]]]) -> None:
    contributions = [(samples, {"w": np.array(values, np.float32)}) for samples, values in clients]
    mean = weighted_mean(contributions)["w"]
    assert mean.dtype == np.float32
    total = sum(samples for samples, _ in clients)
    for place in range(3):
        exact = sum((samples * Fraction(values[place]) for samples, values in clients), Fraction()) / total
        largest = max(abs(values[place]) for _, values in clients)
        # float32 rounds once, at the end; the float64 sums before are far more exact than that
        assert abs(Fraction(float(mean[place])) - exact) <= Fraction(float(np.spacing(np.float32(largest) + 1)))


def test_clients_weigh_as_much_as_they_have_samples() -> None:
    mean = weighted_mean([(1, {"w": np.array([0.0, 4.0])}), (3, {"w": np.array([4.0, 0.0])})])
    np.testing.assert_array_equal(mean["w"], [3.0, 1.0])


def test_one_client_is_returned_as_it_is() -> None:
    weights = {"w": np.array([0.1, 1e-30, 3.4e38], np.float32)}
    assert to_bytes(weighted_mean([(123, weights)])) == to_bytes(weights)


def test_no_samples_have_no_mean() -> None:
    with pytest.raises(ValueError, match="no samples"):
        weighted_mean([(0, {"w": np.zeros(1)})])


def test_metrics_are_weighted_too() -> None:
    assert weighted_metric([(1, 0.5), (3, 1.0)]) == 0.875
    assert np.isnan(weighted_metric([]))


@given(st.sets(st.integers(1, 500), min_size=1), st.integers(0, 20), st.integers(0, 1000), st.integers(0, 2**31))
@settings(max_examples=80, deadline=None)
def test_a_choice_is_of_the_right_size_and_repeatable(
    candidates: set[int], count: int, round_index: int, seed: int
) -> None:
    chosen = choose(list(candidates), count, round_index, seed)
    assert chosen == choose(sorted(candidates, reverse=True), count, round_index, seed)
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= candidates
    assert len(chosen) == (min(count, len(candidates)) or len(candidates))


def test_over_the_rounds_everybody_is_chosen_about_as_often() -> None:
    chosen = [index for round_index in range(400) for index in choose([1, 2, 3, 4], 2, round_index, 0)]
    assert all(160 < chosen.count(index) < 240 for index in (1, 2, 3, 4))


ARRAYS = st.dictionaries(
    st.text(min_size=1, max_size=12).filter(lambda name: name != "__metadata__"),
    hnp.arrays(
        st.sampled_from([np.float16, np.float32, np.float64]), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)
    ),
    max_size=5,
)


@given(ARRAYS)
@settings(max_examples=80, deadline=None)
def test_the_safetensors_package_reads_what_is_written_and_the_other_way(weights: dict[str, np.ndarray]) -> None:
    content = to_bytes(weights)
    theirs, ours = safetensors.numpy.load(content), from_bytes(safetensors.numpy.save(weights))
    assert theirs.keys() == ours.keys() == weights.keys()
    for name, array in weights.items():
        for read in (theirs[name], ours[name], from_bytes(content)[name]):
            assert read.dtype == array.dtype
            np.testing.assert_array_equal(read, array)
    assert to_bytes(dict(reversed(weights.items()))) == content


def test_what_is_read_may_be_changed_and_byte_order_does_not_matter() -> None:
    content = to_bytes({"w": np.array([1, 2], ">f4")})
    assert content == to_bytes({"w": np.array([1, 2], "<f4")})
    from_bytes(content)["w"][0] = 5


@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_broken_files_are_refused_and_break_nothing(noise: bytes, place: int, byte: int) -> None:
    whole = bytearray(to_bytes({"a": np.ones((2, 3), np.float32), "b": np.zeros(4)}))
    whole[place % len(whole)] = byte
    for content in (noise, bytes(whole), bytes(whole[: place % len(whole)]), len(noise).to_bytes(8, "little") + noise):
        try:
            arrays = from_bytes(content)
        except WeightsError:
            continue
        assert all(isinstance(array, np.ndarray) for array in arrays.values())


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]},
        {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [True, 2], "data_offsets": [0, 8]},
        {"shape": [2], "data_offsets": [0, 8]},
        [],
    ],
)
def test_headers_that_lie_are_refused(entry: object) -> None:
    header = json.dumps({"w": entry}).encode()
    with pytest.raises(WeightsError):
        from_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 8)


def test_weights_of_another_model_or_without_a_number_are_refused() -> None:
    like: Weights = {"w": np.zeros((2, 2), np.float32)}
    check_like({"w": np.ones((2, 2), np.float32)}, like)
    cases: list[tuple[Weights, str]] = [
        ({"v": like["w"]}, "instead of"),
        ({"w": np.zeros((2, 3))}, r"shape \(2, 3\) instead of \(2, 2\)"),
        ({"w": np.zeros((2, 2))}, "type float64 instead of float32"),
        ({"w": np.full((2, 2), np.nan, np.float32)}, "NaN or infinity"),
    ]
    for weights, sentence in cases:
        with pytest.raises(WeightsError, match=sentence):
            check_like(weights, like)
