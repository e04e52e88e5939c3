"""Local training, FedProx against FedAvg, and federated against central training."""

from __future__ import annotations

import numpy as np
import pytest

from fedml.aggregation import weighted_mean
from fedml.datasets import Plan, digits
from fedml.models import MODELS, evaluate
from fedml.randomness import stream
from fedml.samples import Samples, Split, hold_out
from fedml.training import EpochReport, Recipe, train
from fedml.weights import Weights, to_bytes


def some_data(count: int = 40) -> Split:
    rng = np.random.default_rng(8)
    y = rng.integers(0, 3, count)
    x = (rng.normal(0, 0.5, (count, 4)) + np.eye(3, 4)[y]).astype(np.float32)
    return hold_out(Samples(x, y), 0.2, rng)


def trained(recipe: Recipe, data: Split | None = None, seed: int = 1) -> tuple[Weights, Weights, list[EpochReport]]:
    """(start, result, reports) of one local training."""
    start = MODELS["mlp"].initial(np.random.default_rng(2), 4, 3, 8)
    reports: list[EpochReport] = []
    data = data or some_data()
    return start, train(MODELS["mlp"], start, data, recipe, np.random.default_rng(seed), reports.append), reports


def distance(a: Weights, b: Weights) -> float:
    return float(np.sqrt(sum(((a[name] - b[name]) ** 2).sum() for name in a)))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_same_seed_gives_the_same_bytes(optimizer: str) -> None:
    recipe = Recipe(epochs=3, batch_size=8, optimizer=optimizer, learning_rate=0.05)
    first, again, other = trained(recipe)[1], trained(recipe)[1], trained(recipe, seed=2)[1]
    assert to_bytes(first) == to_bytes(again) != to_bytes(other)
    assert {array.dtype for array in first.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_fedprox_with_mu_0_is_fedavg(optimizer: str) -> None:
    plain = Recipe(epochs=3, batch_size=8, optimizer=optimizer, learning_rate=0.05, weight_decay=0.01)
    proximal = Recipe(
        epochs=3, batch_size=8, optimizer=optimizer, learning_rate=0.05, weight_decay=0.01, proximal_mu=0.0
    )
    assert to_bytes(trained(plain)[1]) == to_bytes(trained(proximal)[1])


def test_fedprox_takes_the_steps_of_its_objective() -> None:
    data = some_data()
    recipe = Recipe(epochs=2, batch_size=1_000, optimizer="sgd", learning_rate=0.1, proximal_mu=0.7)
    start, result, _ = trained(recipe, data)
    model, expected = MODELS["mlp"], dict(start)
    for _ in range(2):  # one batch an epoch: F(w) + mu/2 ||w - start||^2 by full gradients
        _, gradients = model.gradients(expected, data.train.x, data.train.y)
        expected = {
            name: weight - 0.1 * (gradients[name] + 0.7 * (weight - start[name])) for name, weight in expected.items()
        }
    for name in expected:
        np.testing.assert_allclose(result[name], expected[name], rtol=1e-4, atol=1e-6)


def test_a_larger_mu_keeps_a_client_nearer_to_the_start() -> None:
    drifts = []
    for mu in (0.0, 0.1, 1.0, 10.0):
        recipe = Recipe(epochs=20, batch_size=8, optimizer="sgd", learning_rate=0.05, proximal_mu=mu)
        start, result, _ = trained(recipe)
        drifts.append(distance(start, result))
    assert drifts == sorted(drifts, reverse=True)
    assert drifts[-1] < drifts[0] / 4


def test_every_epoch_is_reported() -> None:
    recipe = Recipe(epochs=30, batch_size=8, optimizer="sgd", learning_rate=0.2)
    data = some_data()
    _, result, reports = trained(recipe, data)
    assert [report.epoch for report in reports] == list(range(30))
    assert reports[-1].train_loss < reports[0].train_loss
    assert (reports[-1].val_accuracy, reports[-1].val_loss) == evaluate(MODELS["mlp"], result, data.test.x, data.test.y)


def test_training_leaves_its_start_as_it_was() -> None:
    start, _, _ = trained(Recipe(epochs=2, batch_size=8, optimizer="adam", learning_rate=0.1))
    assert to_bytes(start) == to_bytes(MODELS["mlp"].initial(np.random.default_rng(2), 4, 3, 8))


@pytest.mark.parametrize(("model_name", "mu"), [("lr", 0.0), ("mlp", 0.0), ("lr", 0.01)])
def test_federated_training_on_hetero_digits_comes_near_central_training(model_name: str, mu: float) -> None:
    seed, rounds, epochs = 0, 10, 2
    model = MODELS[model_name]
    federated = digits(Plan("hetero", 0.5, 4, seed))
    start = model.initial(stream(seed, "initial weights"), 64, 10, 64)
    parts = [hold_out(part, 0.1, stream(seed, "validation", i)) for i, part in enumerate(federated.parts, start=1)]
    recipe = Recipe(epochs, 16, "sgd", 0.1, 0.0001, mu)

    def quiet(report: EpochReport) -> None: ...

    weights = start
    for round_index in range(rounds):
        weights = weighted_mean(
            [
                (len(part.train), train(model, weights, part, recipe, stream(seed, "training", i, round_index), quiet))
                for i, part in enumerate(parts, start=1)
            ]
        )
    accuracy, _ = evaluate(model, weights, federated.test.x, federated.test.y)

    everything = Samples(
        np.concatenate([part.train.x for part in parts]), np.concatenate([part.train.y for part in parts])
    )
    central_recipe = Recipe(rounds * epochs, 16, "sgd", 0.1, 0.0001)
    central = train(model, start, Split(everything, federated.test), central_recipe, stream(seed, "central"), quiet)
    central_accuracy, _ = evaluate(model, central, federated.test.x, federated.test.y)
    assert central_accuracy > 0.94
    assert accuracy >= 0.95 * central_accuracy
