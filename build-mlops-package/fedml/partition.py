"""How a common data set is split between silos: `homo` (equally) and `hetero` (by a Dirichlet distribution)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fedml.models import Labels
from fedml.randomness import stream

Indices = NDArray[np.int64]

LEAST_SAMPLES = 10  # that a silo gets, where there are enough
ATTEMPTS = 100


def homo(y: Labels, silos: int, alpha: float, rng: np.random.Generator) -> list[Indices]:
    """Splits the samples at random into parts whose sizes differ by at most one. `alpha` is not used."""
    return [np.sort(part) for part in np.array_split(rng.permutation(len(y)), silos)]


def hetero(y: Labels, silos: int, alpha: float, rng: np.random.Generator) -> list[Indices]:
    """Splits the samples of every class by shares drawn from Dirichlet(alpha, ..., alpha) (Hsu et al., 2019).

    A small `alpha` gives silos that know few classes. Drawn anew until every silo has LEAST_SAMPLES samples (or the
    third part of an equal share, when that is less); when chance does not give that, the largest silos hand some over.
    """
    least = min(LEAST_SAMPLES, max(len(y) // (3 * silos), 1))
    parts: list[list[int]] = []
    for _ in range(ATTEMPTS):
        parts = [[] for _ in range(silos)]
        for label in np.unique(y):
            members = rng.permutation(np.flatnonzero(y == label))
            shares = rng.dirichlet(np.full(silos, alpha))
            cuts = (np.cumsum(shares)[:-1] * len(members)).astype(int)
            for part, chunk in zip(parts, np.split(members, cuts), strict=True):
                part.extend(chunk.tolist())
        if min(map(len, parts)) >= least:
            break
    while min(map(len, parts)) < least:
        largest, smallest = max(parts, key=len), min(parts, key=len)
        smallest.append(largest.pop())
    return [np.sort(np.array(part, dtype=np.int64)) for part in parts]


PARTITIONS: dict[str, Callable[[Labels, int, float, np.random.Generator], list[Indices]]] = {
    "homo": homo,
    "hetero": hetero,
}


def split(method: str, y: Labels, silos: int, alpha: float, seed: int) -> list[Indices]:
    """The sample indices of every silo: each sample is in exactly one of them, none is empty.

    Raises ValueError when there are fewer samples than silos.
    """
    if len(y) < silos:
        raise ValueError(f"{len(y)} samples cannot be split between {silos} silos")
    return PARTITIONS[method](y, silos, alpha, stream(seed, "partition", silos))
