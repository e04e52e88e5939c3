"""The only way by which states are written: a run's turn.

``run_turn`` opens a transaction that holds the run's row, so that all that is done to one run happens in one order.
Within it a change of state is one UPDATE that names the states it may leave; its row count says whether this caller
made the change or somebody else did before. What changed goes into one live frame in the same transaction, so that the
order of frames is the order of changes; tasks and notices follow the commit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Model
from django.utils import timezone

from mlops_site.notices import notice_send
from runs.lifecycle.transitions import INSTANCE_TRANSITIONS, RUN_TRANSITIONS, STAGE_TRANSITIONS, sources
from runs.live.broadcast import frame_record
from runs.live.payloads import Item, device_item, run_item, stage_item
from runs.models import Membership, Run, RunDevice, Stage
from runs.states import InstanceStatus, RunState, StageState

REASON_MAX = 2000


class RunTurn:
    """One caller's turn at a run. ``run`` was read when the turn began and is kept up to date by every change."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._run_changed = False
        self._state_changed = False
        self._stages: dict[int, Stage] = {}
        self._parts: dict[int, RunDevice] = {}

    def move_run(self, state: RunState, reason: str = "", **fields: Any) -> bool:
        """Change the run's state where the table allows it.

        Args:
            state: the new state.
            reason: a sentence for people, or empty.
            fields: further columns to write in the same UPDATE.

        Returns:
            Whether this call made the change.
        """
        now = timezone.now()
        values: dict[str, Any] = {"state": state, "state_since": now, "reason": sentence(reason), **fields}
        if state in RunState.ended():
            values["ended_at"] = now
        changed = Run.with_deleted.filter(pk=self.run.pk, state__in=sources(RUN_TRANSITIONS, state)).update(**values)
        if changed:
            _refresh(self.run, values)
            self._run_changed = self._state_changed = True
        return bool(changed)

    def move_aggregator(self, status: InstanceStatus, reason: str = "", **fields: Any) -> bool:
        """Change the status of the run's aggregator where the table allows it; return whether this call did it."""
        values: dict[str, Any] = {
            "aggregator_status": status,
            "aggregator_since": timezone.now(),
            "aggregator_reason": sentence(reason),
            **fields,
        }
        rows = Run.with_deleted.filter(pk=self.run.pk, aggregator_status__in=sources(INSTANCE_TRANSITIONS, status))
        changed = rows.update(**values)
        if changed:
            _refresh(self.run, values)
            self._run_changed = True
        return bool(changed)

    def move_stage(
        self, stage: Stage, state: StageState, reason: str = "", *, held_by: str | None = None, **fields: Any
    ) -> bool:
        """Change a stage's state where the table allows it; return whether this call did it.

        Args:
            stage: brought up to date when the change was made.
            state: the new state.
            reason: a sentence for people, or empty.
            held_by: where given, only the holder of this claim may make the change.
            fields: further columns to write in the same UPDATE.
        """
        values: dict[str, Any] = {"state": state, "reason": sentence(reason), **fields}
        rows = Stage.objects.filter(pk=stage.pk, state__in=sources(STAGE_TRANSITIONS, state))
        if held_by is not None:
            rows = rows.filter(claim=held_by)
        changed = rows.update(**values)
        if changed:
            _refresh(stage, values)
            self.show(stage)
        return bool(changed)

    def move_device(self, part: RunDevice, status: InstanceStatus, reason: str = "", **fields: Any) -> bool:
        """Change the status of a device's part in the run where the table allows it; return whether this call did it.

        A part that has ended lets go of its device.
        """
        values: dict[str, Any] = {"status": status, "since": timezone.now(), "reason": sentence(reason), **fields}
        if status in InstanceStatus.ended():
            values |= {"holds_device": False, "progress": None}
        rows = RunDevice.objects.filter(pk=part.pk, status__in=sources(INSTANCE_TRANSITIONS, status))
        changed = rows.update(**values)
        if changed:
            _refresh(part, values)
            self.show(part)
        return bool(changed)

    def write(self, row: Run | Stage | RunDevice, **fields: Any) -> None:
        """Write columns that hold no state (reason, progress, token) and show the row on the page."""
        type(row).objects.filter(pk=row.pk).update(**fields)
        _refresh(row, fields)
        self.show(row)

    def show(self, row: Run | Stage | RunDevice) -> None:
        """Put ``row``, as it is when the turn ends, into the turn's live frame."""
        if isinstance(row, Run):
            self._run_changed = True
        elif isinstance(row, Stage):
            self._stages[row.pk] = row
        else:
            self._parts[row.pk] = row

    def parts(self, **conditions: Any) -> list[RunDevice]:
        """Return the run's devices' parts, by client index."""
        rows = self.run.run_devices.filter(**conditions).select_related("device")
        return [self._parts.get(row.pk, row) for row in rows]

    def stages(self, **conditions: Any) -> list[Stage]:
        """Return the run's stages, in their order."""
        return [self._stages.get(row.pk, row) for row in self.run.stages.filter(**conditions)]

    def finish(self) -> None:
        """Record the turn's frame, and tell the lists of the project's members of a change of the run's state."""
        items: list[Item] = []
        if self._run_changed:
            items.append(run_item(self.run))
        items += [stage_item(stage) for stage in sorted(self._stages.values(), key=lambda stage: stage.position)]
        items += [device_item(part) for part in sorted(self._parts.values(), key=lambda part: part.client_index)]
        if items:
            frame_record(self.run.pk, items)
        if self._state_changed:
            run_notice_send(self.run)


@contextmanager
def run_turn(run_id: int) -> Iterator[RunTurn]:
    """Open a transaction in which nobody else changes this run, its stages or its devices' part in it.

    Raises:
        Run.DoesNotExist: there is no such run.
    """
    with transaction.atomic():
        turn = RunTurn(Run.with_deleted.select_for_update(no_key=True).get(pk=run_id))
        yield turn
        turn.finish()


def run_notice_send(run: Run) -> None:
    """Tell the open lists of the project's members what the run does now."""
    members = Membership.objects.filter(project=run.project_id).values_list("user_id", flat=True)
    state = RunState(run.state)
    notice = {
        "kind": "run",
        "id": run.pk,
        "name": run.name,
        "project": run.project_id,
        "state": state.value,
        "label": state.label,
        "colour": state.colour,
        "reason": run.reason,
        "since": run.state_since.timestamp(),
        "rounds": {"round_index": run.round_index, "total_rounds": run.total_rounds},
    }
    notice_send(members, notice)


def sentence(text: str) -> str:
    """Return a reason as it is kept: what others wrote may be of any length."""
    text = text.replace("\x00", " ").strip()
    return text if len(text) <= REASON_MAX else text[: REASON_MAX - 4] + " ..."


def moment(when: datetime) -> str:
    """Return a time as reasons show it."""
    return f"{when:%Y-%m-%d %H:%M:%S} UTC"


def _refresh(row: Model, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        setattr(row, name, value)
