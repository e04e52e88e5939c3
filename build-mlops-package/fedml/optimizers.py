"""What a client does with a gradient: `sgd` and `adam`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fedml.weights import Weights

Step = Callable[[Weights, Weights], Weights]


def sgd(learning_rate: float, weight_decay: float) -> Step:
    """Stochastic gradient descent. `weight_decay` times the weights is added to the gradient (an L2 penalty)."""

    def step(weights: Weights, gradients: Weights) -> Weights:
        return {
            name: weight - learning_rate * (gradients[name] + weight_decay * weight) for name, weight in weights.items()
        }

    return step


def adam(
    learning_rate: float, weight_decay: float, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
) -> Step:
    """Adam (Kingma and Ba, 2015), with the L2 penalty in the gradient as in `sgd`."""
    first: Weights = {}
    second: Weights = {}
    count = 0

    def step(weights: Weights, gradients: Weights) -> Weights:
        nonlocal count
        count += 1
        updated = {}
        for name, weight in weights.items():
            gradient = gradients[name] + weight_decay * weight
            zero = np.zeros_like(weight)
            first[name] = beta1 * first.get(name, zero) + (1 - beta1) * gradient
            second[name] = beta2 * second.get(name, zero) + (1 - beta2) * gradient**2
            mean = first[name] / (1 - beta1**count)
            deviation = np.sqrt(second[name] / (1 - beta2**count))
            updated[name] = weight - learning_rate * mean / (deviation + epsilon)
        return updated

    return step


OPTIMIZERS: dict[str, Callable[[float, float], Step]] = {"sgd": sgd, "adam": adam}
