"""How a run comes to its end: what must have stopped before it is over, and what is told to stop when it is."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils import timezone

from devices.presence import devices_notify
from runs.lifecycle.effects import INSTANCES_STOP, task_send
from runs.lifecycle.turn import RunTurn
from runs.models import RunDevice, StageName
from runs.states import InstanceStatus, RunState, StageState

WORKING_STATES = (RunState.STARTING, RunState.RUNNING)
OFFLINE_STOPPING = "offline; it will be told to stop when it returns"


def run_end(turn: RunTurn, state: RunState, reason: str) -> bool:
    """Bring a run to FINISHED, FAILED or KILLED, and tell everything that still works for it to stop.

    Returns:
        Whether this call ended it.
    """
    if not turn.move_run(state, reason):
        return False
    instances_tell(turn, f"The run is {state.label.lower()}.")
    edge_ids = [part.edge_id for part in turn.parts()]
    turn.run.run_devices.filter(holds_device=True).update(holds_device=False)
    devices_notify(edge_ids)
    return True


def run_fail(turn: RunTurn, reason: str) -> bool:
    """Fail a run that is under way; return whether this call did it. A run that is being stopped is not failed."""
    return run_end(turn, RunState.FAILED, reason)


def instances_tell(turn: RunTurn, reason: str) -> None:
    """Cancel the stages that wait, mark what runs as stopping, and send the task that stops it.

    A stage that is being worked on is left to its worker, which looks at its run every second.
    """
    for stage in turn.stages(state=StageState.PENDING):
        turn.move_stage(stage, StageState.CANCELLED, reason, ended_at=timezone.now())
    if turn.run.aggregator_status not in InstanceStatus.ended():
        launch_began = turn.run.stages.filter(name=StageName.LAUNCH, attempt__gt=0).exists()
        if launch_began:
            turn.move_aggregator(InstanceStatus.STOPPING, reason)
        else:
            turn.move_aggregator(InstanceStatus.KILLED, "It was not started.")
    for part in turn.parts():
        if part.status in InstanceStatus.ended():
            continue
        if not part.token_hash:
            turn.move_device(part, InstanceStatus.KILLED, "It was not told of the run before the run ended.")
        elif part.status != InstanceStatus.STOPPING:
            turn.move_device(part, InstanceStatus.STOPPING, reason if is_online(part) else OFFLINE_STOPPING)
    turn.write(turn.run, stop_sent_at=timezone.now())
    task_send(INSTANCES_STOP, run_id=turn.run.pk)


def run_settle(turn: RunTurn) -> None:
    """End the run where what was awaited has come about. To be called after every report and every change of a part.

    - A run that is STOPPING is KILLED once no stage is worked on, the aggregator is gone, and every device that can
      be reached has reported its end.
    - A run whose aggregator has FINISHED is FINISHED once every device that can be reached has reported its end.
    - A run of which no client is left while its aggregator still waits for them has FAILED.
    """
    run = turn.run
    if run.state == RunState.STOPPING:
        if not still_stopping(turn):
            run_end(turn, RunState.KILLED, _with_unreachable(run.reason, turn.parts()))
        return
    if run.state not in WORKING_STATES:
        return
    parts = turn.parts()
    if run.aggregator_status == InstanceStatus.FINISHED:
        waiting = [part for part in parts if _is_awaited(part)]
        if not waiting:
            run_end(turn, RunState.FINISHED, finish_reason(parts))
        else:
            turn.write(run, reason=f"The aggregator is done. Waiting for {names(waiting)}.")
    elif all(part.status in (InstanceStatus.FAILED, InstanceStatus.KILLED) for part in parts):
        causes = "; ".join(f"{part_name(part)}: {part.reason or part.get_status_display()}" for part in parts)
        run_fail(turn, f"No client is left. {causes}")


def still_stopping(turn: RunTurn) -> list[str]:
    """Return what a run that is being stopped waits for, in words."""
    waiting = [f"the stage {stage.get_name_display()!r}" for stage in turn.stages(state=StageState.ACTIVE)]
    if turn.run.aggregator_status not in InstanceStatus.ended():
        waiting.append("the aggregator")
    return waiting + [part_name(part) for part in turn.parts() if _is_awaited(part)]


def finish_reason(parts: Iterable[RunDevice]) -> str:
    """Return what is to be said of a run that finished although not every client did."""
    parts = list(parts)
    failed = [part for part in parts if part.status == InstanceStatus.FAILED]
    sentences = [f"{len(failed)} of {len(parts)} clients failed: {names(failed)}."] if failed else []
    return _with_unreachable(" ".join(sentences), parts)


def part_name(part: RunDevice) -> str:
    """Return how a device's part is named in reasons."""
    return part.device.name if part.device else f"device {part.edge_id}"


def names(parts: Iterable[RunDevice]) -> str:
    """Return the names of devices, the first few of them."""
    listed = [part_name(part) for part in parts]
    return ", ".join(listed) if len(listed) <= 5 else f"{', '.join(listed[:4])} and {len(listed) - 4} more"


def is_online(part: RunDevice) -> bool:
    """Return whether the part's device can be reached, as far as is known."""
    return part.device is not None and part.device.online and part.device.unbound_at is None


def _is_awaited(part: RunDevice) -> bool:
    return part.status not in InstanceStatus.ended() and is_online(part)


def _with_unreachable(reason: str, parts: Iterable[RunDevice]) -> str:
    away = [part for part in parts if part.status not in InstanceStatus.ended() and not is_online(part)]
    if not away:
        return reason
    sentence = f"Offline, to be told to stop on return: {names(away)}."
    return f"{reason} {sentence}".strip()
