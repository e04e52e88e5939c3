"""Finds what was orphaned, goes on with it where that is possible, and else ends it and says why.

Everything here may run twice at the same time and be killed half-way. What is wrong with one run never keeps the
others from being looked at.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TypeVar

from django.conf import settings
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from devices.presence import devices_mark_silent
from runs.lifecycle.aggregator import aggregator_state_apply
from runs.lifecycle.effects import INSTANCES_STOP, RUN_CLEAN, stage_send, task_send
from runs.lifecycle.ending import WORKING_STATES, finish_reason, run_end, run_settle, still_stopping
from runs.lifecycle.reports import device_presence_changed
from runs.lifecycle.stages import PIPELINE_STATES, stage_cancel_in_turn, stage_fail_in_turn
from runs.lifecycle.turn import run_turn
from runs.models import Receipt, Run, RunDevice, Stage
from runs.pipeline.backends import BACKENDS, backend_get
from runs.pipeline.backends.interface import StageFailed, StageTransient
from runs.states import InstanceStatus, RunState, StageState

logger = logging.getLogger(__name__)

Thing = TypeVar("Thing", int, str)

STAGE_ATTEMPTS = 3
RESEND_SECONDS = 30
STOP_RESEND_SECONDS = 15
# After this long the backend's word is taken for the aggregator's end: its own report would have come.
AGGREGATOR_REPORT_SECONDS = 10
RECEIPT_SECONDS = 3600
RECEIPTS_AT_ONCE = 20_000
ORPHAN_SECONDS = 60
RUNS_AT_ONCE = 200


def reap() -> None:
    """Look after everything that is under way. To be called every few seconds.

    1. Devices that fell silent are taken for offline; the parts of those that were unbound end.
    2. Stages whose worker was lost are taken up again, or failed when that happened too often.
    3. Stages that were never sent are sent.
    4. Aggregators are watched; one that ended without a word ends its run.
    5. Runs whose aggregator is done do not wait for their clients for ever.
    6. Runs that are being stopped do not wait for ever.
    """
    unbound = RunDevice.objects.filter(device__unbound_at__isnull=False).exclude(status__in=InstanceStatus.ended())
    unbound = unbound.exclude(run__state=RunState.CREATED)
    gone = {*devices_mark_silent(), *unbound.values_list("edge_id", flat=True)}
    _each(sorted(gone), device_presence_changed, "device %d")
    now = timezone.now()
    late = now - timedelta(seconds=settings.STAGE_HEARTBEAT_SECONDS)
    lost = Stage.objects.filter(state=StageState.ACTIVE, heartbeat_at__lt=late)
    _each(lost.values_list("pk", flat=True), _stage_take_up, "stage %d")
    _each(_run_ids(Q(state__in=PIPELINE_STATES)), _next_stage_send, "run %d")
    watched = Q(state__in=[*WORKING_STATES, RunState.STOPPING], aggregator_handle__isnull=False)
    _each(_run_ids(watched & ~Q(aggregator_status__in=InstanceStatus.ended())), _aggregator_watch, "run %d")
    done_since = now - timedelta(seconds=settings.RUN_FINISH_SECONDS)
    done = Q(aggregator_status=InstanceStatus.FINISHED, aggregator_since__lt=done_since)
    _each(_run_ids(done & Q(state__in=WORKING_STATES)), _clients_wait_no_more, "run %d")
    _each(_run_ids(Q(state=RunState.STOPPING)), _stop_push_on, "run %d")


def sweep() -> None:
    """Remove what ended runs left behind. To be called every minute.

    1. Stop what ended runs still have running.
    2. Clean up after runs that ended a while ago: credentials, folders, containers.
    3. Remove the receipts of their telemetry, which nobody can replay any more.
    4. Stop aggregators that belong to no run, and let backends tidy up.
    """
    now = timezone.now()
    lately = now - timedelta(minutes=15)
    unquiet = ~Q(aggregator_status__in=InstanceStatus.ended()) | Exists(
        RunDevice.objects.filter(run=OuterRef("pk"), status=InstanceStatus.STOPPING)
    )
    _each(_run_ids(unquiet & Q(state__in=RunState.ended(), ended_at__gt=lately)), _stop_send, "run %d")
    settled = Q(
        state__in=RunState.ended(),
        aggregator_status__in=InstanceStatus.ended(),
        ended_at__lt=now - timedelta(seconds=settings.TELEMETRY_GRACE_SECONDS),
        cleaned_at=None,
    )
    for run_id in _run_ids(settled):
        task_send(RUN_CLEAN, run_id=run_id)
    long_ago = now - timedelta(seconds=RECEIPT_SECONDS)
    with_receipts = Run.with_deleted.filter(state__in=RunState.ended(), ended_at__lt=long_ago).filter(
        Exists(Receipt.objects.filter(run=OuterRef("pk")))
    )
    for run in with_receipts[:RUNS_AT_ONCE]:
        _receipts_remove(run)
    for name in BACKENDS:
        _each([name], _orphans_stop, "backend %s")
        _each([name], _backend_tidy, "backend %s")


def _receipts_remove(run: Run) -> None:
    """Remove a run's receipts, so many at once that ingest is not kept waiting for the database."""
    receipts = Receipt.objects.filter(run=run)
    while Receipt.objects.filter(pk__in=receipts.values("pk")[:RECEIPTS_AT_ONCE]).delete()[0] == RECEIPTS_AT_ONCE:
        pass


def _run_ids(condition: Q) -> list[int]:
    return list(Run.with_deleted.filter(condition).order_by("pk").values_list("pk", flat=True)[:RUNS_AT_ONCE])


def _each(things: Iterable[Thing], look: Callable[[Thing], None], name: str) -> None:
    """Look at each; what goes wrong with one is logged and does not keep the others waiting."""
    for thing in things:
        try:
            look(thing)
        except Run.DoesNotExist:
            continue
        except Exception:
            logger.exception("The reaper could not look after " + name, thing)


def _stage_take_up(stage_id: int) -> None:
    run_id = Stage.objects.values_list("run_id", flat=True).get(pk=stage_id)
    late = timezone.now() - timedelta(seconds=settings.STAGE_HEARTBEAT_SECONDS)
    with run_turn(run_id) as turn:
        stage = Stage.objects.get(pk=stage_id)
        if stage.state != StageState.ACTIVE or stage.heartbeat_at is None or stage.heartbeat_at >= late:
            return
        if turn.run.state not in PIPELINE_STATES:
            stage_cancel_in_turn(turn, stage)
        elif stage.attempt >= STAGE_ATTEMPTS:
            stage_fail_in_turn(
                turn,
                stage,
                f"Its worker was lost {stage.attempt} times in a row, perhaps for want of memory; see the worker's "
                "log, then try again.",
            )
        else:
            reason = f"Its worker was lost. Taken up again, attempt {stage.attempt + 1} of {STAGE_ATTEMPTS}."
            turn.move_stage(stage, StageState.PENDING, reason, held_by=stage.claim, claim="", progress=None)
            stage_send(turn, stage)


def _next_stage_send(run_id: int) -> None:
    long_ago = timezone.now() - timedelta(seconds=RESEND_SECONDS)
    with run_turn(run_id) as turn:
        if turn.run.state not in PIPELINE_STATES:
            return
        open_stages = turn.stages(state__in=[StageState.PENDING, StageState.ACTIVE])
        if not open_stages or open_stages[0].state == StageState.ACTIVE:
            return
        stage = open_stages[0]
        if stage.sent_at is None or stage.sent_at < long_ago:
            stage_send(turn, stage)


def _aggregator_watch(run_id: int) -> None:
    run = Run.with_deleted.get(pk=run_id)
    if run.aggregator_handle is None:
        return
    backend = backend_get(run.backend)
    state = backend.aggregator_state(run.aggregator_handle)
    if state.ended is None and run.state != RunState.STOPPING:
        try:
            backend.watch(run.aggregator_handle)
        except StageFailed as error:
            logger.warning("The aggregator of run %d cannot be watched: %s", run_id, error)
        return
    if state.ended is not None and (state.ended_at is None or time.time() - state.ended_at > AGGREGATOR_REPORT_SECONDS):
        aggregator_state_apply(run_id, state)


def _clients_wait_no_more(run_id: int) -> None:
    with run_turn(run_id) as turn:
        if turn.run.aggregator_status == InstanceStatus.FINISHED and turn.run.state in WORKING_STATES:
            run_end(turn, RunState.FINISHED, finish_reason(turn.parts()))


def _stop_push_on(run_id: int) -> None:
    now = timezone.now()
    with run_turn(run_id) as turn:
        if turn.run.state != RunState.STOPPING:
            return
        if now - turn.run.state_since > timedelta(seconds=settings.RUN_STOP_SECONDS):
            silent = still_stopping(turn)
            for stage in turn.stages(state=StageState.ACTIVE):
                stage_cancel_in_turn(turn, stage)
            if turn.run.state == RunState.STOPPING:
                reason = f"{turn.run.reason} No answer within {settings.RUN_STOP_SECONDS} seconds: {', '.join(silent)}."
                run_end(turn, RunState.KILLED, reason)
            return
        run_settle(turn)
    _stop_send(run_id)


def _stop_send(run_id: int) -> None:
    """Send the task that stops what works for the run, unless that was done a moment ago."""
    now = timezone.now()
    due = Q(stop_sent_at=None) | Q(stop_sent_at__lt=now - timedelta(seconds=STOP_RESEND_SECONDS))
    if Run.with_deleted.filter(due, pk=run_id).update(stop_sent_at=now):
        task_send(INSTANCES_STOP, run_id=run_id)


def _orphans_stop(name: str) -> None:
    backend = backend_get(name)
    found = {aggregator.run_id: aggregator for aggregator in backend.aggregators_find()}
    active = Q(state__in=RunState.active()) | Q(ended_at__gt=timezone.now() - timedelta(seconds=ORPHAN_SECONDS))
    wanted = set(Run.with_deleted.filter(active, pk__in=found).values_list("pk", flat=True))
    for run_id in found.keys() - wanted:
        logger.warning("An aggregator of run %d was found, which has ended or is not known; it is stopped", run_id)
        backend.stop_aggregator(found[run_id].handle)


def _backend_tidy(name: str) -> None:
    try:
        backend_get(name).tidy()
    except StageTransient as error:
        logger.warning("What ended runs left cannot be looked for: %s", error)
