"""Local training of a client: epochs of mini-batches, with FedProx's proximal term where it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fedml.models import Model, evaluate
from fedml.optimizers import OPTIMIZERS
from fedml.samples import Samples, Split
from fedml.weights import Weights


@dataclass(frozen=True)
class Recipe:
    """How to train. `proximal_mu` 0 is FedAvg's local training, above 0 FedProx's."""

    epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float
    weight_decay: float = 0.0
    proximal_mu: float = 0.0


@dataclass(frozen=True)
class EpochReport:
    """The curves of one local epoch; `epoch` is 0-based, accuracies are 0 to 1, losses mean cross-entropies."""

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float


def train(
    model: Model,
    start: Weights,
    data: Split,
    recipe: Recipe,
    rng: np.random.Generator,
    on_epoch: Callable[[EpochReport], None],
) -> Weights:
    """Trains from `start` on `data.train` and returns new weights. The same arguments give the same bytes.

    With `recipe.proximal_mu` = mu, mu (w - start) is added to every gradient: the objective of Li et al., 2020,
    F(w) + mu/2 ||w - start||^2. `on_epoch` is told the curves after every epoch.
    """
    step = OPTIMIZERS[recipe.optimizer](recipe.learning_rate, recipe.weight_decay)
    weights = dict(start)
    for epoch in range(recipe.epochs):
        order = rng.permutation(len(data.train.y))
        for begin in range(0, len(order), recipe.batch_size):
            batch = order[begin : begin + recipe.batch_size]
            _, gradients = model.gradients(weights, data.train.x[batch], data.train.y[batch])
            if recipe.proximal_mu:
                gradients = {
                    name: gradient + recipe.proximal_mu * (weights[name] - start[name])
                    for name, gradient in gradients.items()
                }
            weights = step(weights, gradients)
        on_epoch(_report(model, weights, data.train, data.test, epoch))
    return weights


def _report(model: Model, weights: Weights, train_samples: Samples, validation: Samples, epoch: int) -> EpochReport:
    train_accuracy, train_loss = evaluate(model, weights, train_samples.x, train_samples.y)
    val_accuracy, val_loss = evaluate(model, weights, validation.x, validation.y)
    return EpochReport(epoch, train_loss, train_accuracy, val_loss, val_accuracy)
