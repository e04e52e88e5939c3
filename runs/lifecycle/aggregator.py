"""The run's aggregator, as the pipeline launches it and as its backend sees it."""

from __future__ import annotations

from runs.lifecycle.effects import INSTANCES_STOP, task_send
from runs.lifecycle.reports import aggregator_apply
from runs.lifecycle.stages import PIPELINE_STATES
from runs.lifecycle.turn import run_turn
from runs.models import StageName
from runs.pipeline.backends.interface import Handle, InstanceState
from runs.states import InstanceStatus, RunState, StageState
from runs.tokens import run_token_digest, run_token_make


def aggregator_token(run_id: int) -> str | None:
    """Give the aggregator its run token; return it, or None where the run no longer wants an aggregator.

    The same attempt of the run gets the same token again.
    """
    with run_turn(run_id) as turn:
        if turn.run.state not in PIPELINE_STATES:
            return None
        token = run_token_make(turn.run, 0)
        turn.write(turn.run, aggregator_token_hash=run_token_digest(token))
        return token


def aggregator_launched(run_id: int, handle: Handle) -> None:
    """Keep how the backend finds the aggregator again. Where the run was stopped meanwhile, it is told to stop."""
    with run_turn(run_id) as turn:
        turn.write(turn.run, aggregator_handle=handle)
        if turn.run.aggregator_status == InstanceStatus.IDLE:
            turn.move_aggregator(InstanceStatus.INITIALIZING)
        if turn.run.state not in PIPELINE_STATES:
            task_send(INSTANCES_STOP, run_id=run_id)


def aggregator_state_apply(run_id: int, state: InstanceState) -> bool:
    """Apply what the backend knows of an aggregator that has ended without its own word; return whether it was news."""
    if state.ended is None:
        return False
    with run_turn(run_id) as turn:
        return aggregator_apply(turn, state.ended, state.reason)


def aggregator_absent(run_id: int) -> bool:
    """Say that the backend knows of no aggregator of a run that is ending; return whether that was news.

    As long as a worker is at the launch it is not believed: the aggregator may appear yet.
    """
    with run_turn(run_id) as turn:
        if turn.run.state not in (RunState.STOPPING, *RunState.ended()):
            return False
        if turn.stages(name=StageName.LAUNCH, state=StageState.ACTIVE):
            return False
        return aggregator_apply(turn, InstanceStatus.KILLED, "It was not started.")
