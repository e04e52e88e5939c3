"""Starting and stopping a run."""

from __future__ import annotations

from typing import Any

from runs.models import Run, Stage


def run_start(*, run: Run, user: Any) -> Run:
    raise NotImplementedError


def run_stop(*, run: Run, user: Any, reason: str = "") -> Run:
    raise NotImplementedError


def stage_retry(*, stage: Stage, user: Any) -> Run:
    raise NotImplementedError
