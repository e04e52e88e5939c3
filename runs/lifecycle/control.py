"""Starting and stopping a run, and trying a stage again."""

from __future__ import annotations

import secrets
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from devices.presence import devices_notify
from runs.lifecycle.effects import stage_send
from runs.lifecycle.ending import instances_tell, part_name, run_settle
from runs.lifecycle.errors import RunRefused
from runs.lifecycle.stages import stages_make
from runs.lifecycle.turn import RunTurn, moment, run_turn
from runs.models import Project, Role, Run, RunDevice, Stage, StageName
from runs.states import InstanceStatus, RunState, StageState


def run_start(*, run: Run, user: Any) -> Run:
    """Start a run: hold its devices, make its stages, and send the first one.

    Two starts of one run, or of two runs that share a device, may come at the same moment; one of them wins.

    Raises:
        RunRefused: the run was started before, or a device is offline or works for another run.
    """
    _check_member(run.project, user)
    with run_turn(run.pk) as turn:
        _check_there(turn)
        now = timezone.now()
        started = turn.move_run(RunState.QUEUED, started_by=user, started_at=now, attempt_id=secrets.token_hex(16))
        if not started:
            raise RunRefused("This run was started already.")
        _hold_devices(turn)
        stages_make(turn.run)
        stages = turn.stages()
        for stage in stages:
            turn.show(stage)
        stage_send(turn, stages[0])
        return turn.run


def run_stop(*, run: Run, user: Any, reason: str = "") -> Run:
    """Stop a run, wherever it is. It is STOPPING until everything that works for it has ended, then KILLED.

    Stopping a run that is being stopped already changes nothing.

    Args:
        run: the run.
        user: who stops it; must be an owner or a member of its project.
        reason: the sentence to show; ``Stopped by NAME.`` when empty.

    Raises:
        RunRefused: the run was not started, or has ended.
    """
    _check_member(run.project, user)
    with run_turn(run.pk) as turn:
        if turn.run.state == RunState.STOPPING:
            return turn.run
        if turn.run.state == RunState.CREATED:
            raise RunRefused("This run was not started, so that there is nothing to stop.")
        if turn.run.state in RunState.ended():
            raise RunRefused("This run has ended already.")
        why = reason.strip() or f"Stopped by {user}."
        turn.move_run(RunState.STOPPING, why)
        instances_tell(turn, why)
        run_settle(turn)
        return turn.run


def stage_retry(*, stage: Stage, user: Any) -> Run:
    """Try a failed stage and those after it again; the run is STARTING again.

    Since the aggregator is stopped when a run fails, it is launched anew even when the stage after it failed.

    Raises:
        RunRefused: the stage did not fail, or what the failed attempt left is still stopping, or a device is not free.
    """
    _check_member(stage.run.project, user)
    with run_turn(stage.run_id) as turn:
        _check_there(turn)
        stages = turn.stages()
        failed = next((row for row in stages if row.pk == stage.pk), None)
        if turn.run.state != RunState.FAILED or failed is None or failed.state != StageState.FAILED:
            raise RunRefused("Only a failed stage of a failed run can be tried again.")
        _check_quiet(turn, stages)
        turn.move_run(
            RunState.STARTING,
            f"Tried again by {user}.",
            ended_at=None,
            cleaned_at=None,
            attempt_id=secrets.token_hex(16),
            aggregator_handle=None,
            aggregator_token_hash="",
        )
        turn.move_aggregator(InstanceStatus.IDLE)
        for part in turn.parts():
            _begin_anew(turn, part)
        _hold_devices(turn)
        launch = next(row for row in stages if row.name == StageName.LAUNCH)
        again = [row for row in stages if row.position >= min(failed.position, launch.position)]
        for row in again:
            fresh: dict[str, Any] = {
                "attempt": 0,
                "claim": "",
                "progress": None,
                "started_at": None,
                "ended_at": None,
                "result": {},
            }
            turn.move_stage(row, StageState.PENDING, **fresh)
        stage_send(turn, again[0])
        return turn.run


def _check_there(turn: RunTurn) -> None:
    if turn.run.deleted_at is not None:
        raise RunRefused("This run was deleted.")


def _check_member(project: Project, user: Any) -> None:
    role = project.role_of(user)
    if role is None or role == Role.VIEWER:
        raise RunRefused("Only owners and members of the project can start and stop its runs.")


def _hold_devices(turn: RunTurn) -> None:
    """Take the run's devices for it alone; the unique constraint decides between two runs that want the same one."""
    parts = turn.parts()
    for part in parts:
        _check_usable(part)
    # In the order of the edge ids, so that two starts never wait for each other.
    for part in sorted(parts, key=lambda part: part.edge_id):
        try:
            with transaction.atomic():
                RunDevice.objects.filter(pk=part.pk).update(holds_device=True)
        except IntegrityError as error:
            raise RunRefused(
                f"{part_name(part)} works for another run. Wait until that has ended, or stop it."
            ) from error
        part.holds_device = True
        turn.show(part)
    devices_notify(part.edge_id for part in parts)


def _check_usable(part: RunDevice) -> None:
    device = part.device
    if device is None or device.unbound_at is not None:
        raise RunRefused(f"{part_name(part)} is not bound any more. Create the run anew with other devices.")
    if not device.online:
        raise RunRefused(
            f"{device.name} is offline since {moment(device.online_since)}. Start its agent, or create the run anew "
            "without it."
        )


def _check_quiet(turn: RunTurn, stages: list[Stage]) -> None:
    """Refuse a new attempt as long as something of the old one may still be there."""
    working = [row.get_name_display() for row in stages if row.state == StageState.ACTIVE]
    if turn.run.aggregator_status not in InstanceStatus.ended():
        working.append("the aggregator")
    working += [part_name(part) for part in turn.parts() if part.status not in InstanceStatus.ended()]
    if working:
        raise RunRefused(f"Still stopping: {', '.join(working[:5])}. Try again in a moment.")


def _begin_anew(turn: RunTurn, part: RunDevice) -> None:
    turn.move_device(
        part,
        InstanceStatus.IDLE,
        phase="",
        progress=None,
        exit_code=None,
        token_hash="",
        command_sent_at=None,
        missing_since=None,
        first_report_at=None,
        phase_times={},
        alive_at=None,
    )
