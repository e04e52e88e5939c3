"""The only writer of the states of runs, stages, aggregators and devices in runs.

Every change is one conditional UPDATE within a transaction that holds the run's row; frames for the live page are
recorded in the same transaction, and effects (tasks, commands, notices) start after it is committed.
"""

from runs.lifecycle.control import run_start, run_stop, stage_retry
from runs.lifecycle.creation import run_create
from runs.lifecycle.errors import RunRefused
from runs.lifecycle.reaper import reap
from runs.lifecycle.rendering import run_preview, run_render
from runs.lifecycle.reports import (
    aggregator_status_apply,
    device_presence_changed,
    device_runs_reconcile,
    device_status_apply,
    round_apply,
)
from runs.lifecycle.stages import stage_claim, stage_done, stage_fail, stage_heartbeat, stage_progress
from runs.tokens import RunReporter, run_token_check

__all__ = [
    "RunRefused",
    "RunReporter",
    "aggregator_status_apply",
    "device_presence_changed",
    "device_runs_reconcile",
    "device_status_apply",
    "reap",
    "round_apply",
    "run_create",
    "run_preview",
    "run_render",
    "run_start",
    "run_stop",
    "run_token_check",
    "stage_claim",
    "stage_done",
    "stage_fail",
    "stage_heartbeat",
    "stage_progress",
    "stage_retry",
]
