"""What devices and aggregators report of themselves, applied to a run."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import TYPE_CHECKING

from django.utils import timezone

from devices.presence import devices_notify
from runs.lifecycle.effects import DEVICES_DISPATCH, INSTANCES_STOP, task_send
from runs.lifecycle.ending import OFFLINE_STOPPING, WORKING_STATES, run_fail, run_settle
from runs.lifecycle.turn import RunTurn, moment, run_notice_send, run_turn, sentence
from runs.models import Run, RunDevice
from runs.states import InstanceStatus, RunState

if TYPE_CHECKING:
    from runs.telemetry.payloads import RoundPayload, StatusPayload

OFFLINE_PREFIX = "offline"
# How long a device may go without naming a run that it should hold: the command, or the report of its end, may be on
# its way. A presence message is repeated every 30 s.
MISSING_SECONDS = 20.0
UNBOUND_REASON = "The device was unbound."
LOST_REASON = "The device came back without this run's client; its agent was set up anew or its files were lost."


def device_status_apply(run_id: int, edge_id: int, payload: StatusPayload) -> bool:
    """Apply what a device's agent says of its client in a run.

    A client that fails does not fail the run: the aggregator decides whether it goes on with the others. Reports go
    forward only, so that a repeated or a late one changes nothing.

    Returns:
        Whether something changed. False also for a run or a part that is not there, and for a report of an earlier
        attempt.
    """
    status = InstanceStatus(payload.status)
    try:
        with run_turn(run_id) as turn:
            part = next(iter(turn.parts(edge_id=edge_id)), None)
            if part is None or not part.token_hash:
                return False
            told_to_stop = part.status == InstanceStatus.STOPPING or part.status in InstanceStatus.ended()
            if told_to_stop and status not in InstanceStatus.ended() and status != InstanceStatus.STOPPING:
                # It was told before it began, or it was taken for lost: it has to be told again.
                task_send(INSTANCES_STOP, run_id=run_id, edge_ids=[edge_id])
            if not _part_apply(turn, part, status, payload):
                return False
            if status in InstanceStatus.ended():
                devices_notify([edge_id])
                run_settle(turn)
            return True
    except Run.DoesNotExist:
        return False


def _part_apply(turn: RunTurn, part: RunDevice, status: InstanceStatus, payload: StatusPayload) -> bool:
    now = timezone.now()
    phase = "" if status in InstanceStatus.ended() else payload.phase[:20]
    reason = sentence(payload.reason)
    first = part.first_report_at or now
    heard = {
        "first_report_at": first,
        "phase_times": _phase_times(part, payload, now.timestamp()),
        "clock_offset": part.device.clock_offset if part.device else None,
    }
    if part.status != status:
        return turn.move_device(
            part,
            status,
            reason,
            phase=phase,
            progress=payload.progress,
            exit_code=payload.exit_code,
            **heard,
        )
    if status in InstanceStatus.ended():
        return False
    if status == InstanceStatus.STOPPING and not reason:
        reason = part.reason
    if (part.phase, part.progress, part.reason) == (phase, payload.progress, reason):
        return False
    turn.write(part, phase=phase, progress=payload.progress, reason=reason, **heard)
    return True


def _phase_times(part: RunDevice, payload: StatusPayload, now: float) -> dict[str, float]:
    """When each phase of the opening was first heard of, and when its progress last changed."""
    times = dict(part.phase_times)
    if payload.phase:
        times.setdefault(payload.phase[:20], now)
    if (payload.phase, payload.progress) != (part.phase, part.progress):
        times["progress"] = now
    return times


def aggregator_status_apply(run_id: int, payload: StatusPayload) -> bool:
    """Apply what the aggregator's launcher says of it.

    FINISHED finishes the run once its clients have ended; FAILED and KILLED fail it, unless it is being stopped.

    Returns:
        Whether something changed.
    """
    try:
        with run_turn(run_id) as turn:
            if not turn.run.aggregator_token_hash:
                return False
            return aggregator_apply(turn, InstanceStatus(payload.status), payload.reason)
    except Run.DoesNotExist:
        return False


def aggregator_apply(turn: RunTurn, status: InstanceStatus, reason: str) -> bool:
    """Do what ``aggregator_status_apply`` does within a turn that is open already."""
    if turn.run.aggregator_status == status or not turn.move_aggregator(status, reason):
        return False
    if status not in InstanceStatus.ended():
        return True
    task_send(INSTANCES_STOP, run_id=turn.run.pk)  # its credential ends with it
    if status != InstanceStatus.FINISHED and turn.run.state in WORKING_STATES:
        run_fail(turn, f"The aggregator did not finish. {reason}".strip())
    run_settle(turn)
    return True


def round_apply(run_id: int, payload: RoundPayload) -> bool:
    """Apply what the aggregator says of its rounds to the run: the last finished one, how many, and for how long.

    Rounds only go forward. A round that arrives just after the end of its run still counts.

    Returns:
        Whether something changed.
    """
    try:
        with run_turn(run_id) as turn:
            run = turn.run
            if not run.attempt_id:
                return False
            if payload.round_index > run.round_index:
                turn.write(
                    run,
                    round_index=payload.round_index,
                    total_rounds=payload.total_rounds,
                    running_time=payload.running_time,
                )
            elif payload.round_index < 0 and run.total_rounds != payload.total_rounds:
                turn.write(run, total_rounds=payload.total_rounds)
            else:
                return False
            run_notice_send(run)
            return True
    except Run.DoesNotExist:
        return False


def device_presence_changed(edge_id: int) -> None:
    """Show in every run of a device that it went offline or came back. The run goes on without it.

    A device that was unbound does not come back: its part is over. To be called after the device's presence was stored.
    """
    for run_id in _open_parts(edge_id):
        with run_turn(run_id) as turn:
            part = next(iter(turn.parts(edge_id=edge_id)), None)
            if part is None or part.status in InstanceStatus.ended():
                continue
            stopping = part.status == InstanceStatus.STOPPING
            if part.device is None or part.device.unbound_at is not None:
                turn.move_device(
                    part, InstanceStatus.KILLED if stopping else InstanceStatus.FAILED, UNBOUND_REASON, phase=""
                )
                run_settle(turn)
                continue
            online = part.device.online
            reason = part.reason
            if online:
                if reason.startswith(OFFLINE_PREFIX):
                    reason = "It was told to stop." if stopping else ""
            elif stopping:
                reason = OFFLINE_STOPPING
            else:
                reason = f"{OFFLINE_PREFIX} since {moment(part.device.online_since)}"
            turn.write(part, reason=reason)
            run_settle(turn)


def device_runs_reconcile(edge_id: int, run_ids: Collection[int]) -> None:
    """Compare the runs that an agent says it holds with those that it should hold.

    - It holds a run that is being stopped, has ended or was deleted: it is told to stop again.
    - It does not hold one that it should: the command is sent again where it was never answered; otherwise the client
      was lost with the agent's files, and has failed (or, where it was to be stopped, has stopped).

    To be called for each presence message of a device that is online.

    Args:
        edge_id: the device.
        run_ids: ``runs`` of the presence message.
    """
    held = set(run_ids)
    parts = RunDevice.objects.filter(edge_id=edge_id)
    parts.filter(run_id__in=held).exclude(missing_since=None).update(missing_since=None)
    known = list(parts.filter(run_id__in=held).select_related("run"))
    for run_id in sorted(held - {part.run_id for part in known}):
        task_send(INSTANCES_STOP, run_id=run_id, edge_ids=[edge_id])
    for part in known:
        ended = part.status in InstanceStatus.ended() or part.status == InstanceStatus.STOPPING
        if ended or part.run.state not in WORKING_STATES:
            task_send(INSTANCES_STOP, run_id=part.run_id, edge_ids=[edge_id])
    unheld = parts.exclude(run_id__in=held).exclude(status__in=InstanceStatus.ended()).exclude(token_hash="")
    for run_id in unheld.values_list("run_id", flat=True):
        _part_missing(run_id, edge_id)


def _part_missing(run_id: int, edge_id: int) -> None:
    """Deal with a part that its device does not know of: at the second time, a while after the first."""
    now = timezone.now()
    with run_turn(run_id) as turn:
        part = next(iter(turn.parts(edge_id=edge_id)), None)
        if part is None or part.status in InstanceStatus.ended():
            return
        if part.missing_since is None:
            RunDevice.objects.filter(pk=part.pk, missing_since=None).update(missing_since=now)
            return
        if now - max(part.missing_since, part.since) < timedelta(seconds=MISSING_SECONDS):
            return
        if part.status in (InstanceStatus.IDLE, InstanceStatus.DISPATCHED) and turn.run.state in WORKING_STATES:
            if part.command_sent_at is None:
                return  # the pipeline is at it
            turn.write(part, missing_since=None, reason="The command was sent again: the device did not have it.")
            task_send(DEVICES_DISPATCH, run_id=run_id, edge_ids=[edge_id])
            return
        if part.status == InstanceStatus.STOPPING:
            turn.move_device(part, InstanceStatus.KILLED, "The device has no client of this run any more.", phase="")
        else:
            turn.move_device(part, InstanceStatus.FAILED, LOST_REASON, phase="")
        devices_notify([edge_id])
        run_settle(turn)


def _open_parts(edge_id: int) -> list[int]:
    """Return the runs in which the device's part has begun and not ended."""
    parts = RunDevice.objects.filter(edge_id=edge_id).exclude(status__in=InstanceStatus.ended())
    return list(parts.exclude(run__state=RunState.CREATED).values_list("run_id", flat=True))
