"""Run tokens: what an instance shows to the platform. Good for one run and one reporter, until the run ends."""

from __future__ import annotations

from dataclasses import dataclass

from runs.models import Run


@dataclass(frozen=True)
class RunReporter:
    """Who holds a run token: one reporter of one run. Edge 0 is the aggregator."""

    run: Run
    edge_id: int


def run_token_check(token: str) -> RunReporter | None:
    raise NotImplementedError
