"""Labelled samples and their split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedml.models import Labels
from fedml.partition import Indices
from fedml.weights import Array


@dataclass(frozen=True)
class Samples:
    """`x` float32 (n, features) and `y` int64 (n,), classes counted from 0."""

    x: Array
    y: Labels

    def take(self, indices: Indices) -> Samples:
        """The samples at these indices."""
        return Samples(self.x[indices], self.y[indices])

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Split:
    """What is trained on and what is only measured on."""

    train: Samples
    test: Samples


def hold_out(samples: Samples, fraction: float, rng: np.random.Generator) -> Split:
    """Holds a random fraction out for measuring, at least one sample; with a single sample both parts are that one."""
    if len(samples) < 2:
        return Split(samples, samples)
    count = min(max(round(len(samples) * fraction), 1), len(samples) - 1)
    order = rng.permutation(len(samples))
    return Split(samples.take(np.sort(order[count:])), samples.take(np.sort(order[:count])))
