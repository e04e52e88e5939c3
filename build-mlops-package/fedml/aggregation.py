"""What the aggregator computes: whom a round takes, and the mean of what they return."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedml.randomness import stream
from fedml.weights import Weights


def choose(candidates: Sequence[int], count: int, round_index: int, seed: int) -> list[int]:
    """Draws `count` of the client indices for a round, in ascending order; all of them when `count` is 0 or too many.

    The same seed, round and candidates give the same choice.
    """
    ordered = sorted(candidates)
    if count == 0 or count >= len(ordered):
        return ordered
    rng = stream(seed, "choose", round_index)
    return sorted(int(index) for index in rng.choice(ordered, size=count, replace=False))


def weighted_mean(contributions: Sequence[tuple[int, Weights]]) -> Weights:
    """The mean of weights, each weighted by its number of samples (FedAvg; McMahan et al., 2017, algorithm 1).

    `contributions` are (samples, weights) in the order of the clients; sums are made in that order in float64, so
    that the same contributions give the same bytes. Arrays keep the dtype of the first contribution.
    """
    total = sum(samples for samples, _ in contributions)
    if total <= 0:
        raise ValueError("no samples to weight by")
    mean: Weights = {}
    for name, like in contributions[0][1].items():
        sums, share = np.zeros(like.shape, np.float64), np.empty(like.shape, np.float64)
        for samples, weights in contributions:
            sums += np.multiply(weights[name], samples, out=share, dtype=np.float64)
        sums /= total
        mean[name] = sums.astype(like.dtype)
    return mean


def weighted_metric(pairs: Sequence[tuple[float, float]]) -> float:
    """The mean of (weight, value) pairs; NaN when there is no weight."""
    total = sum(weight for weight, _ in pairs)
    return sum(weight * value for weight, value in pairs) / total if total > 0 else float("nan")
