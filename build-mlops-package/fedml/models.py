"""The models: softmax regression (`lr`) and a perceptron with one hidden layer (`mlp`), gradients by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedml.weights import Array, Weights

Labels = NDArray[np.int64]

EVALUATION_BATCH = 8_192


@dataclass(frozen=True)
class Model:
    """A kind of model as functions of its weights.

    `initial(rng, features, classes, hidden_units)` makes float32 weights; matrices are (outputs, inputs).
    `logits(weights, x)` maps samples (n, features) to scores (n, classes).
    `gradients(weights, x, y)` gives the mean cross-entropy of a batch and its gradient, named as the weights.
    """

    initial: Callable[[np.random.Generator, int, int, int], Weights]
    logits: Callable[[Weights, Array], Array]
    gradients: Callable[[Weights, Array, Labels], tuple[float, Weights]]


def cross_entropy(logits: Array, y: Labels) -> tuple[float, Array]:
    """The mean cross-entropy of softmax scores (n, classes) and its gradient with respect to them."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=1, keepdims=True)
    rows = np.arange(len(y))
    loss = float(np.mean(np.log(sums[:, 0]) - shifted[rows, y]))
    gradient = exponentials / sums
    gradient[rows, y] -= 1
    return loss, gradient / len(y)


def evaluate(model: Model, weights: Weights, x: Array, y: Labels) -> tuple[float, float]:
    """Accuracy (0 to 1) and mean cross-entropy over all samples. NaN for no samples."""
    if len(y) == 0:
        return float("nan"), float("nan")
    right, loss = 0, 0.0
    for start in range(0, len(y), EVALUATION_BATCH):
        labels = y[start : start + EVALUATION_BATCH]
        logits = model.logits(weights, x[start : start + EVALUATION_BATCH])
        right += int((logits.argmax(axis=1) == labels).sum())
        loss += cross_entropy(logits, labels)[0] * len(labels)
    return right / len(y), loss / len(y)


def _dense(rng: np.random.Generator, inputs: int, outputs: int) -> tuple[Array, Array]:
    """He-normal weights (outputs, inputs) and zero biases."""
    weight = rng.normal(0.0, np.sqrt(2.0 / inputs), (outputs, inputs)).astype(np.float32)
    return weight, np.zeros(outputs, np.float32)


def _lr_initial(rng: np.random.Generator, features: int, classes: int, hidden_units: int) -> Weights:
    """Zeros: the loss is convex, so that no start is better."""
    return {
        "linear.weight": np.zeros((classes, features), np.float32),
        "linear.bias": np.zeros(classes, np.float32),
    }


def _lr_logits(weights: Weights, x: Array) -> Array:
    return x @ weights["linear.weight"].T + weights["linear.bias"]


def _lr_gradients(weights: Weights, x: Array, y: Labels) -> tuple[float, Weights]:
    loss, d_logits = cross_entropy(_lr_logits(weights, x), y)
    return loss, {"linear.weight": d_logits.T @ x, "linear.bias": d_logits.sum(axis=0)}


def _mlp_initial(rng: np.random.Generator, features: int, classes: int, hidden_units: int) -> Weights:
    hidden_weight, hidden_bias = _dense(rng, features, hidden_units)
    output_weight, output_bias = _dense(rng, hidden_units, classes)
    return {
        "hidden.weight": hidden_weight,
        "hidden.bias": hidden_bias,
        "output.weight": output_weight,
        "output.bias": output_bias,
    }


def _mlp_hidden(weights: Weights, x: Array) -> Array:
    activations: Array = np.maximum(x @ weights["hidden.weight"].T + weights["hidden.bias"], 0)
    return activations


def _mlp_logits(weights: Weights, x: Array) -> Array:
    return _mlp_hidden(weights, x) @ weights["output.weight"].T + weights["output.bias"]


def _mlp_gradients(weights: Weights, x: Array, y: Labels) -> tuple[float, Weights]:
    hidden = _mlp_hidden(weights, x)
    loss, d_logits = cross_entropy(hidden @ weights["output.weight"].T + weights["output.bias"], y)
    d_hidden = (d_logits @ weights["output.weight"]) * (hidden > 0)
    return loss, {
        "hidden.weight": d_hidden.T @ x,
        "hidden.bias": d_hidden.sum(axis=0),
        "output.weight": d_logits.T @ hidden,
        "output.bias": d_logits.sum(axis=0),
    }


MODELS = {
    "lr": Model(_lr_initial, _lr_logits, _lr_gradients),
    "mlp": Model(_mlp_initial, _mlp_logits, _mlp_gradients),
}
