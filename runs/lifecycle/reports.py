"""What devices and aggregators report of themselves, applied to a run."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runs.telemetry.payloads import RoundPayload, StatusPayload


def device_status_apply(run_id: int, edge_id: int, payload: StatusPayload) -> bool:
    raise NotImplementedError


def aggregator_status_apply(run_id: int, payload: StatusPayload) -> bool:
    raise NotImplementedError


def round_apply(run_id: int, payload: RoundPayload) -> bool:
    raise NotImplementedError


def device_presence_changed(edge_id: int) -> None:
    raise NotImplementedError


def device_runs_reconcile(edge_id: int, run_ids: Collection[int]) -> None:
    raise NotImplementedError
