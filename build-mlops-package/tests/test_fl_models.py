"""Gradients by hand against finite differences, exact optimizer steps, and evaluation."""

from __future__ import annotations

import numpy as np
import pytest

from fedml.models import MODELS, cross_entropy, evaluate
from fedml.optimizers import adam, sgd
from fedml.weights import Weights


def as_float64(weights: Weights) -> Weights:
    return {name: array.astype(np.float64) for name, array in weights.items()}


@pytest.mark.parametrize("name", ["lr", "mlp"])
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    rng = np.random.default_rng(3)
    model = MODELS[name]
    initial = as_float64(model.initial(rng, 5, 4, 7))
    weights: Weights = {key: array + rng.normal(0, 0.1, array.shape) for key, array in initial.items()}
    x, y = rng.normal(size=(9, 5)), rng.integers(0, 4, 9)
    loss, gradients = model.gradients(weights, x, y)
    assert loss == pytest.approx(cross_entropy(model.logits(weights, x), y)[0], abs=1e-12)
    assert gradients.keys() == weights.keys()
    for key, array in weights.items():
        for place in np.ndindex(array.shape):
            sides = []
            for shift in (1e-6, -1e-6):
                moved: Weights = {**weights, key: array.copy()}
                moved[key][place] += shift
                sides.append(cross_entropy(model.logits(moved, x), y)[0])
            assert gradients[key][place] == pytest.approx((sides[0] - sides[1]) / 2e-6, abs=1e-7)


def test_cross_entropy_of_equal_scores_is_the_logarithm_of_the_classes() -> None:
    loss, gradient = cross_entropy(np.zeros((2, 4)), np.array([0, 3]))
    assert loss == pytest.approx(np.log(4))
    np.testing.assert_allclose(gradient, [[-0.375, 0.125, 0.125, 0.125], [0.125, 0.125, 0.125, -0.375]])


def test_cross_entropy_bears_large_scores() -> None:
    loss, gradient = cross_entropy(np.array([[10_000.0, -10_000.0]]), np.array([1]))
    assert loss == 20_000
    np.testing.assert_array_equal(gradient, [[1.0, -1.0]])


def test_evaluation_counts_hits_over_all_batches() -> None:
    weights = {"linear.weight": np.eye(2, dtype=np.float32), "linear.bias": np.zeros(2, np.float32)}
    x = np.tile(np.array([[1, 0], [0, 1], [0, 1], [1, 0]], np.float32), (5_000, 1))
    y = np.tile(np.array([0, 1, 1, 1]), 5_000)
    accuracy, loss = evaluate(MODELS["lr"], weights, x, y)
    assert accuracy == 0.75
    hit = np.log(1 + np.exp(-1))
    assert loss == pytest.approx((3 * hit + hit + 1) / 4, rel=1e-5)
    assert all(np.isnan(evaluate(MODELS["lr"], weights, x[:0], y[:0])))


def test_models_start_in_single_precision_and_by_the_seed() -> None:
    for model in MODELS.values():
        first = model.initial(np.random.default_rng(5), 3, 2, 4)
        again = model.initial(np.random.default_rng(5), 3, 2, 4)
        assert {array.dtype for array in first.values()} == {np.dtype(np.float32)}
        assert all((first[name] == again[name]).all() for name in first)


def test_sgd_steps_against_the_gradient_and_the_decay() -> None:
    step = sgd(learning_rate=0.5, weight_decay=0.1)
    weights = step({"w": np.array([2.0, -4.0])}, {"w": np.array([1.0, 3.0])})
    np.testing.assert_allclose(weights["w"], [2 - 0.5 * 1.2, -4 - 0.5 * 2.6], rtol=1e-15)


def test_adam_takes_the_steps_of_its_paper() -> None:
    step = adam(learning_rate=0.1, weight_decay=0.0)
    weights: Weights = {"w": np.array([1.0])}
    expected, mean, square = 1.0, 0.0, 0.0
    for count, gradient in enumerate([0.5, -2.0, 0.25], start=1):
        weights = step(weights, {"w": np.array([gradient])})
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        expected -= 0.1 * (mean / (1 - 0.9**count)) / (np.sqrt(square / (1 - 0.999**count)) + 1e-8)
        assert weights["w"][0] == pytest.approx(expected, abs=1e-14)
