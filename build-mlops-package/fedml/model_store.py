"""Weights in the platform's model store, over HTTP with the run token."""

from __future__ import annotations

import hashlib
import urllib.parse
from dataclasses import dataclass

import roundtable

from fedml.weights import Weights, WeightsError, from_bytes, to_bytes


@dataclass(frozen=True)
class ModelStore:
    """The store of one run. Calls are repeated for `time_limit` seconds while the platform is away.

    Both methods raise roundtable.PlatformError when the platform refuses or stays away.
    """

    environment: roundtable.Environment
    time_limit: float

    def put(self, weights: Weights, kind: str, round_index: int) -> roundtable.StoredModel:
        """Stores weights; `kind` is "aggregated" or "client". Equal weights get the same key again."""
        return roundtable.store_model(
            self.environment, to_bytes(weights), round_index, kind, time_limit=self.time_limit
        )

    def get(self, key: str, sha256: str, max_bytes: int = roundtable.ANSWER_LIMIT) -> Weights:
        """Fetches weights of at most `max_bytes`. Raises WeightsError when they are not what `sha256` names."""
        path = f"/api/runs/{self.environment.run_id}/models/{urllib.parse.quote(key, safe='')}"
        content = roundtable.request(self.environment, "GET", path, time_limit=self.time_limit, max_bytes=max_bytes)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise WeightsError(f"the object {key:.100} does not have the announced SHA-256")
        return from_bytes(content)
