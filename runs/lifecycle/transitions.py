"""Which state may follow which."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

from runs.states import InstanceStatus, RunState, StageState

State = TypeVar("State", RunState, StageState, InstanceStatus)

RUN_TRANSITIONS: Mapping[RunState, frozenset[RunState]] = {
    RunState.CREATED: frozenset({RunState.QUEUED}),
    RunState.QUEUED: frozenset({RunState.STARTING, RunState.STOPPING, RunState.FAILED}),
    # An aggregator that is done very soon ends the run before the last stage is written down.
    RunState.STARTING: frozenset({RunState.RUNNING, RunState.STOPPING, RunState.FINISHED, RunState.FAILED}),
    RunState.RUNNING: frozenset({RunState.STOPPING, RunState.FINISHED, RunState.FAILED}),
    RunState.STOPPING: frozenset({RunState.KILLED}),
    RunState.FINISHED: frozenset(),
    RunState.FAILED: frozenset({RunState.STARTING}),  # a stage is tried again
    RunState.KILLED: frozenset(),
}

STAGE_TRANSITIONS: Mapping[StageState, frozenset[StageState]] = {
    StageState.PENDING: frozenset({StageState.ACTIVE, StageState.CANCELLED}),
    # Back to PENDING: its worker was lost.
    StageState.ACTIVE: frozenset(
        {StageState.DONE, StageState.SKIPPED, StageState.FAILED, StageState.CANCELLED, StageState.PENDING}
    ),
    # Back to PENDING: somebody asked to try again.
    StageState.FAILED: frozenset({StageState.PENDING}),
    StageState.CANCELLED: frozenset({StageState.PENDING}),
    StageState.DONE: frozenset({StageState.PENDING}),
    StageState.SKIPPED: frozenset({StageState.PENDING}),
}

_FORWARD = [
    InstanceStatus.IDLE,
    InstanceStatus.DISPATCHED,
    InstanceStatus.INITIALIZING,
    InstanceStatus.TRAINING,
    InstanceStatus.STOPPING,
]
# An instance only goes forward; as a report may be lost it may skip. What ended becomes IDLE for a new attempt.
INSTANCE_TRANSITIONS: Mapping[InstanceStatus, frozenset[InstanceStatus]] = {
    **{
        status: frozenset(_FORWARD[position + 1 :]) | frozenset(InstanceStatus.ended())
        for position, status in enumerate(_FORWARD)
    },
    **{status: frozenset({InstanceStatus.IDLE}) for status in InstanceStatus.ended()},
}


def sources(table: Mapping[State, Collection[State]], state: State) -> list[State]:
    """Return the states of ``table`` that ``state`` may follow."""
    return [source for source, targets in table.items() if state in targets]
