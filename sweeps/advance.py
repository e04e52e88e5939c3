"""Runs of sweeps are made and started as devices become free, never more at once than the sweep allows."""

from __future__ import annotations

import logging
from typing import Any

from django.db import transaction
from django.utils import timezone

from devices.models import Device
from runs import lifecycle
from runs.device_choice import devices_now
from runs.models import Run
from runs.states import RunState
from sweeps.models import Sweep, SweepState, Trial

logger = logging.getLogger(__name__)


def sweeps_advance() -> None:
    """Go on with every sweep that is active. One that fails is logged and hurts no other."""
    for sweep_id in Sweep.objects.filter(state=SweepState.ACTIVE).values_list("pk", flat=True):
        try:
            sweep_advance(sweep_id)
        except Exception:
            logger.exception("sweep %d could not go on", sweep_id)


def sweep_advance(sweep_id: int) -> None:
    """Start what may start now, or end the sweep where nothing is left. Of two workers one waits for the other."""
    while _step(sweep_id):
        pass


def sweep_stop(sweep: Sweep, user: Any) -> None:
    """Make no more runs, and stop those that are under way."""
    with transaction.atomic():
        locked = Sweep.objects.select_for_update().get(pk=sweep.pk)
        if locked.state != SweepState.ACTIVE:
            return
        _end(locked, SweepState.STOPPED, f"Stopped by {user}.")
    for run in Run.objects.filter(trial__sweep=sweep, state__in=RunState.active()):
        try:
            lifecycle.run_stop(run=run, user=user, reason=f"The sweep {sweep} was stopped by {user}.")
        except lifecycle.RunRefused:
            continue  # it has ended in the meantime


def _step(sweep_id: int) -> bool:
    """Make and start one run; return whether there may be more to do at once."""
    with transaction.atomic():
        sweep = Sweep.objects.select_for_update().get(pk=sweep_id)
        if sweep.state != SweepState.ACTIVE:
            return False
        active = Run.objects.filter(trial__sweep=sweep, state__in=RunState.active()).count()
        trial = sweep.trials.filter(tried_at=None).first()
        if trial is None:
            if not active:
                _end(sweep, SweepState.DONE, "")
            return False
        if active >= sweep.concurrency:
            return _wait(sweep, "")
        devices = devices_now(Device.objects.of_project(sweep.project).filter(pk__in=sweep.device_ids).order_by("pk"))
        free = [now.device.pk for now in devices if now.free]
        if len(free) < sweep.devices_per_run:
            return _wait(sweep, f"Waiting for devices: {len(free)} of the {sweep.devices_per_run} of a run are idle.")
        source = sweep.base_run or sweep.configuration
        if source is None:
            _end(sweep, SweepState.STOPPED, "Its configuration was deleted.")
            return False
        try:
            with transaction.atomic():
                run = lifecycle.run_create(
                    project=sweep.project,
                    user=sweep.created_by,
                    configuration=source,
                    device_ids=free[: sweep.devices_per_run],
                    name=f"{sweep.name} {trial.position + 1}",
                    overrides=trial.values,
                )
                lifecycle.run_start(run=run, user=sweep.created_by)
        except lifecycle.RunRefused as refused:
            Trial.objects.filter(pk=trial.pk).update(tried_at=timezone.now(), problem=str(refused))
            return True
        Trial.objects.filter(pk=trial.pk).update(tried_at=timezone.now(), run=run)
        if sweep.base_run is None:
            sweep.base_run = run
        return not _wait(sweep, "")


def _wait(sweep: Sweep, reason: str) -> bool:
    sweep.reason = reason
    sweep.save(update_fields=["reason", "base_run"])
    return False


def _end(sweep: Sweep, state: SweepState, reason: str) -> None:
    sweep.state, sweep.reason, sweep.ended_at = state, reason, timezone.now()
    sweep.save(update_fields=["state", "reason", "ended_at"])
