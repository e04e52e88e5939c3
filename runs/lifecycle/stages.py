"""The states of a run's pipeline stages."""

from __future__ import annotations

from typing import Any

from runs.models import Stage


def stage_claim(*, run_id: int, name: str, claim: str) -> Stage | None:
    raise NotImplementedError


def stage_heartbeat(*, stage_id: int, claim: str) -> bool:
    raise NotImplementedError


def stage_progress(*, stage_id: int, claim: str, progress: float | None) -> bool:
    raise NotImplementedError


def stage_done(*, stage_id: int, claim: str, result: dict[str, Any], unchanged: str = "") -> bool:
    raise NotImplementedError


def stage_fail(*, stage_id: int, claim: str, reason: str) -> bool:
    raise NotImplementedError
