"""The tasks of the worker: each fetches, checks and calls one function.

Arguments are ids, by keyword. Every task may be delivered twice, also at the same time, and be killed half-way; a row
that is gone means a clean exit.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from devices.broker import BrokerUnavailable, aggregator_credential_revoke, commands_publish
from runs import lifecycle
from runs.models import Run, Stage
from runs.pipeline.backend_choice import backends_tell
from runs.pipeline.backends import backend_get
from runs.pipeline.heartbeat import reap_noted
from runs.pipeline.stages import client_image_of, stage_work
from runs.states import InstanceStatus, RunState

AWAY: dict[str, Any] = {
    "autoretry_for": (BrokerUnavailable,),
    "retry_backoff": 1,
    "retry_backoff_max": 30,
    "retry_jitter": True,
    "max_retries": 6,
}


@shared_task(
    name="runs.pipeline.tasks.stage_run",
    soft_time_limit=settings.STAGE_TIMEOUT_SECONDS + 60,
    time_limit=settings.STAGE_TIMEOUT_SECONDS + 120,
)
def stage_run(*, run_id: int, stage: str) -> None:
    """Work on one stage of a run's pipeline, if it is there to be taken."""
    claimed = lifecycle.stage_claim(run_id=run_id, name=stage, claim=secrets.token_hex(16))
    if claimed is None:
        return
    try:
        stage_work(claimed)
    except (Run.DoesNotExist, Stage.DoesNotExist):
        return


@shared_task(name="runs.pipeline.tasks.instances_stop", **AWAY)
def instances_stop(*, run_id: int, edge_ids: Sequence[int] | None = None) -> None:
    """Stop what works for a run that is being stopped or has ended: its aggregator and its clients.

    Args:
        run_id: the run; it may have been deleted.
        edge_ids: tell these devices and leave the rest as it is.
    """
    run = Run.with_deleted.filter(pk=run_id).first()
    try:
        commands_publish(lifecycle.stop_commands(run, run_id, edge_ids))
    finally:  # also while the broker is away
        if edge_ids is None and run is not None:
            _aggregator_stop(run)


def _aggregator_stop(run: Run) -> None:
    if run.state not in (RunState.STOPPING, *RunState.ended()):
        return
    if run.aggregator_status in InstanceStatus.ended():
        return
    backend = backend_get(run.backend)
    handle = run.aggregator_handle or backend.aggregator_find(run)
    if handle is None:
        lifecycle.aggregator_absent(run.pk)
        return
    backend.stop_aggregator(handle)
    lifecycle.aggregator_state_apply(run.pk, backend.aggregator_state(handle))


@shared_task(name="runs.pipeline.tasks.devices_dispatch", **AWAY)
def devices_dispatch(*, run_id: int, edge_ids: Sequence[int]) -> None:
    """Send devices their command again, where they were found not to have it."""
    run = Run.with_deleted.filter(pk=run_id).first()
    if run is None:
        return
    image = client_image_of(run_id, run.backend)
    commands = lifecycle.dispatch_prepare(run_id, image=image, edge_ids=edge_ids)
    commands_publish(commands)
    lifecycle.dispatch_sent(run_id, [edge_id for edge_id, _ in commands])


@shared_task(name="runs.pipeline.tasks.run_clean", **AWAY)
def run_clean(*, run_id: int) -> None:
    """Remove what an ended run leaves behind: its aggregator's credential, and what its backend keeps of it."""
    run = Run.with_deleted.filter(pk=run_id, state__in=RunState.ended(), cleaned_at=None).first()
    if run is None:
        return
    aggregator_credential_revoke(run_id)
    backend_get(run.backend).clean(run)
    Run.with_deleted.filter(pk=run_id, attempt_id=run.attempt_id, state__in=RunState.ended()).update(
        cleaned_at=timezone.now()
    )


@shared_task(name="runs.pipeline.tasks.reap")
def reap() -> None:
    """Look after what is under way, every few seconds."""
    lifecycle.reap()
    reap_noted()


@shared_task(name="runs.pipeline.tasks.sweep")
def sweep() -> None:
    """Remove what ended runs left behind, every minute."""
    lifecycle.sweep()


@shared_task(name="runs.pipeline.tasks.backends_look")
def backends_look() -> None:
    """Look which backends can be used here, every half minute, for the form of a new run."""
    backends_tell()
