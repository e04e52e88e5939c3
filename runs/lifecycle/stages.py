"""The stages of a run's pipeline: claimed by one worker at a time, kept alive by a heartbeat, done in their order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

from django.utils import timezone

from runs.lifecycle.effects import INSTANCES_STOP, stage_send, task_send
from runs.lifecycle.ending import run_fail, run_settle
from runs.lifecycle.turn import RunTurn, run_turn
from runs.models import Run, Stage, StageName
from runs.states import RunState, StageState

PIPELINE_STATES = (RunState.QUEUED, RunState.STARTING)


class StageStanding(Enum):
    """What became of a stage while a worker works on it."""

    WANTED = "wanted"
    STOPPED = "stopped"  # its run no longer wants it
    LOST = "lost"  # another worker has it, or it was ended


def stages_make(run: Run) -> None:
    """Make the six stages of a run that was started."""
    Stage.objects.bulk_create(Stage(run=run, position=index, name=name) for index, name in enumerate(StageName))


def stage_claim(*, run_id: int, name: str, claim: str) -> Stage | None:
    """Take a stage to work on it. The first claim of a run's pipeline brings the run from QUEUED to STARTING.

    Args:
        run_id: the run.
        name: one of ``StageName``.
        claim: random text that names this claim.

    Returns:
        The stage, or None where it is not there to be taken: somebody has it, it is done, an earlier one is not, or its
        run was stopped.
    """
    try:
        with run_turn(run_id) as turn:
            if turn.run.state not in PIPELINE_STATES:
                return None
            stages = turn.stages()
            stage = next((stage for stage in stages if stage.name == name), None)
            if stage is None or any(
                earlier.state not in (StageState.DONE, StageState.SKIPPED) for earlier in stages[: stage.position]
            ):
                return None
            now = timezone.now()
            taken = turn.move_stage(
                stage,
                StageState.ACTIVE,
                claim=claim,
                attempt=stage.attempt + 1,
                progress=None,
                heartbeat_at=now,
                started_at=stage.started_at or now,
            )
            if not taken:
                return None
            if turn.run.state == RunState.QUEUED:
                turn.move_run(RunState.STARTING)
            stage.run = turn.run
            return stage
    except Run.DoesNotExist:
        return None


def stage_heartbeat(*, stage_id: int, claim: str) -> StageStanding:
    """Say that a worker still works on its stage, and learn whether it should."""
    Stage.objects.filter(pk=stage_id, claim=claim, state=StageState.ACTIVE).update(heartbeat_at=timezone.now())
    return stage_standing(stage_id=stage_id, claim=claim)


def stage_standing(*, stage_id: int, claim: str) -> StageStanding:
    """Return whether a worker should go on with its stage."""
    rows = Stage.objects.filter(pk=stage_id, claim=claim, state=StageState.ACTIVE)
    run_state = rows.values_list("run__state", flat=True).first()
    if run_state is None:
        return StageStanding.LOST
    return StageStanding.WANTED if run_state in PIPELINE_STATES else StageStanding.STOPPED


def stage_progress(*, stage_id: int, claim: str, progress: float | None) -> bool:
    """Store how much of a stage is done, 0 to 1; return whether the claim still holds."""
    with _stage_turn(stage_id) as (turn, stage):
        if stage.claim != claim or stage.state != StageState.ACTIVE:
            return False
        turn.write(stage, progress=progress)
    return True


def stage_done(*, stage_id: int, claim: str, result: dict[str, Any], unchanged: str = "", note: str = "") -> bool:
    """End a stage well, and send the next one; after the last one the run is RUNNING.

    A stage that a stop overtook is cancelled, however far it came: what it started is stopped with the run.

    Args:
        stage_id: the stage.
        claim: the worker's claim.
        result: what later stages need.
        unchanged: where nothing had to be done, the sentence that says why; ``unchanged:`` before it is left out.
        note: what to show of it otherwise.

    Returns:
        False where the claim no longer held, so that nothing was changed.
    """
    with _stage_turn(stage_id) as (turn, stage):
        if turn.run.state not in PIPELINE_STATES:
            return stage_cancel_in_turn(turn, stage, claim=claim)
        state = StageState.SKIPPED if unchanged else StageState.DONE
        reason = _beside_state(unchanged) if unchanged else note
        if not turn.move_stage(
            stage, state, reason, held_by=claim, result=result, progress=1.0, ended_at=timezone.now()
        ):
            return False
        following = turn.stages(position__gt=stage.position)
        if following:
            stage_send(turn, following[0])
        else:
            turn.move_run(RunState.RUNNING)
        run_settle(turn)
    return True


def stage_fail(*, stage_id: int, claim: str, reason: str) -> bool:
    """End a stage badly, and its run with it; return whether the claim still held."""
    with _stage_turn(stage_id) as (turn, stage):
        return stage_fail_in_turn(turn, stage, reason, claim=claim)


def stage_fail_in_turn(turn: RunTurn, stage: Stage, reason: str, claim: str | None = None) -> bool:
    """Do what ``stage_fail`` does within a turn that is open already."""
    if not turn.move_stage(stage, StageState.FAILED, reason, held_by=claim, ended_at=timezone.now()):
        return False
    run_fail(turn, f"{stage.get_name_display()}: {reason}")
    run_settle(turn)
    return True


def stage_cancelled(*, stage_id: int, claim: str) -> bool:
    """Say that a worker has let go of a stage that its run no longer wants; return whether the claim still held."""
    with _stage_turn(stage_id) as (turn, stage):
        return stage_cancel_in_turn(turn, stage, claim=claim)


def stage_cancel_in_turn(turn: RunTurn, stage: Stage, claim: str | None = None) -> bool:
    """Do what ``stage_cancelled`` does within a turn that is open already."""
    reason = f"The run is {RunState(turn.run.state).label.lower()}."
    if not turn.move_stage(stage, StageState.CANCELLED, reason, held_by=claim, progress=None, ended_at=timezone.now()):
        return False
    state = turn.run.state
    run_settle(turn)
    if turn.run.state == state:  # the end of a run tells its instances to stop
        task_send(INSTANCES_STOP, run_id=turn.run.pk)  # the stage may have started something before it let go
    return True


def _beside_state(unchanged: str) -> str:
    """Return the sentence as it stands beside the state, whose label says "Unchanged" already."""
    reason = unchanged.removeprefix("unchanged:").strip()
    first_word = reason.partition(" ")[0]
    return reason[:1].upper() + reason[1:] if first_word.isalpha() else reason


@contextmanager
def _stage_turn(stage_id: int) -> Iterator[tuple[RunTurn, Stage]]:
    """Take the turn of the stage's run, with the stage as it is in that turn.

    Raises:
        Stage.DoesNotExist: the run was deleted.
    """
    run_id = Stage.objects.values_list("run_id", flat=True).get(pk=stage_id)
    with run_turn(run_id) as turn:
        yield turn, Stage.objects.get(pk=stage_id)
