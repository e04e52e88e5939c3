"""The only writer of the states of runs, stages, aggregators and devices in runs.

Every change is one conditional UPDATE within a transaction that holds the run's row (``turn``); what it may change to
stands in a table (``transitions``); frames for the live page are recorded in the same transaction; tasks, commands and
notices start after it is committed (``effects``).
"""

from configurations.expressions import ExpressionError
from runs.lifecycle.aggregator import (
    aggregator_absent,
    aggregator_launched,
    aggregator_state_apply,
    aggregator_token,
)
from runs.lifecycle.control import run_start, run_stop, stage_retry
from runs.lifecycle.creation import run_create, run_preview
from runs.lifecycle.deletion import run_archive, run_delete, run_is_quiet, run_may_delete
from runs.lifecycle.dispatching import dispatch_prepare, dispatch_sent, stop_commands
from runs.lifecycle.errors import RunRefused
from runs.lifecycle.naming import run_rename
from runs.lifecycle.reaper import reap, sweep
from runs.lifecycle.rendering import run_render
from runs.lifecycle.reports import (
    aggregator_status_apply,
    device_presence_changed,
    device_runs_reconcile,
    device_status_apply,
    round_apply,
)
from runs.lifecycle.stages import (
    StageStanding,
    stage_cancelled,
    stage_claim,
    stage_done,
    stage_fail,
    stage_heartbeat,
    stage_progress,
    stage_standing,
)
from runs.tokens import RunReporter, run_token_check

__all__ = [
    "ExpressionError",
    "RunRefused",
    "RunReporter",
    "StageStanding",
    "aggregator_absent",
    "aggregator_launched",
    "aggregator_state_apply",
    "aggregator_status_apply",
    "aggregator_token",
    "device_presence_changed",
    "device_runs_reconcile",
    "device_status_apply",
    "dispatch_prepare",
    "dispatch_sent",
    "reap",
    "round_apply",
    "run_archive",
    "run_create",
    "run_delete",
    "run_is_quiet",
    "run_may_delete",
    "run_preview",
    "run_rename",
    "run_render",
    "run_start",
    "run_stop",
    "run_token_check",
    "stage_cancelled",
    "stage_claim",
    "stage_done",
    "stage_fail",
    "stage_heartbeat",
    "stage_progress",
    "stage_retry",
    "stage_standing",
    "stop_commands",
    "sweep",
]
