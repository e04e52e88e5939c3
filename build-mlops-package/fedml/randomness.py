"""Random numbers that a run can repeat."""

from __future__ import annotations

import zlib

import numpy as np


def stream(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """A generator of its own for every purpose (and round, client, ...), so that none depends on who drew before."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *numbers])
