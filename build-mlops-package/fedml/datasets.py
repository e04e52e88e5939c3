"""The data sets that every device can make for itself: `digits` and `synthetic_1_1`.

Each is the same on every device for the same seed, so that device i trains on part i and nothing is sent around.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fedml.partition import split
from fedml.randomness import stream
from fedml.samples import Samples, Split, hold_out

TEST_FRACTION = 0.2
SYNTHETIC_FEATURES = 60
SYNTHETIC_CLASSES = 10
SYNTHETIC_LARGEST = 10_000  # samples of one device; the log-normal law has no bound


@dataclass(frozen=True)
class Plan:
    """How to divide data: `method` and `alpha` as in fedml.partition, into `silos` parts, by `seed`."""

    method: str
    alpha: float
    silos: int
    seed: int


@dataclass(frozen=True)
class Federated:
    """The parts of all silos and the common test set that only the aggregator measures on."""

    parts: list[Samples]
    test: Samples
    classes: int


def divide(data: Split, plan: Plan) -> Federated:
    """Splits the training samples between the silos; the test samples stay together."""
    parts = [data.train.take(part) for part in split(plan.method, data.train.y, plan.silos, plan.alpha, plan.seed)]
    classes = int(max(data.train.y.max(), data.test.y.max())) + 1
    return Federated(parts, data.test, classes)


def digits(plan: Plan) -> Federated:
    """The 1,797 handwritten digits that scikit-learn ships: 8 x 8 pixels as 64 features from 0 to 1, 10 classes.

    A fifth of them is the test set.
    """
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]  # slow to import, and needed for this data set alone

    bunch = load_digits()
    samples = Samples((bunch.data / 16.0).astype(np.float32), bunch.target.astype(np.int64))
    return divide(hold_out(samples, TEST_FRACTION, stream(plan.seed, "test set")), plan)


def synthetic_1_1(plan: Plan) -> Federated:
    """Synthetic(1, 1) of the FedProx paper (Li et al., 2020, section 5.1): 60 features, 10 classes.

    Device k draws its own softmax regression, W and b from N(u_k, 1) with u_k from N(0, 1), its own mean of the
    features from N(B_k, 1) with B_k from N(0, 1), and lognormal(4, 2) + 50 samples. The division between devices is
    part of the data set: the plan's method and alpha are not used. A tenth of every device's samples is the test set.
    """
    rng = stream(plan.seed, "synthetic_1_1", plan.silos)
    sizes = np.minimum(rng.lognormal(4, 2, plan.silos).astype(int) + 50, SYNTHETIC_LARGEST)
    deviations = np.arange(1, SYNTHETIC_FEATURES + 1) ** -0.6  # square roots of the covariance's diagonal j^-1.2
    model_means = rng.normal(0, 1, plan.silos)
    feature_means = rng.normal(0, 1, plan.silos)
    parts, tests = [], []
    for size, u, b in zip(sizes, model_means, feature_means, strict=True):
        mean = rng.normal(b, 1, SYNTHETIC_FEATURES)
        weight = rng.normal(u, 1, (SYNTHETIC_FEATURES, SYNTHETIC_CLASSES))
        bias = rng.normal(u, 1, SYNTHETIC_CLASSES)
        x = mean + deviations * rng.normal(0, 1, (size, SYNTHETIC_FEATURES))
        y = (x @ weight + bias).argmax(axis=1)
        device = hold_out(Samples(x.astype(np.float32), y.astype(np.int64)), 0.1, rng)
        parts.append(device.train)
        tests.append(device.test)
    test = Samples(np.concatenate([t.x for t in tests]), np.concatenate([t.y for t in tests]))
    return Federated(parts, test, SYNTHETIC_CLASSES)


DATASETS: dict[str, Callable[[Plan], Federated]] = {"digits": digits, "synthetic_1_1": synthetic_1_1}
