"""What each stage of a run's pipeline does, and how its end is told."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.db import DatabaseError

from configurations.models import PackageKind
from devices.broker import BrokerError, BrokerUnavailable, aggregator_credential_create, commands_publish
from runs import lifecycle
from runs.lifecycle import StageStanding
from runs.models import Stage, StageName
from runs.pipeline.backends import backend_get
from runs.pipeline.backends.interface import (
    AggregatorSpec,
    StageCancelled,
    StageFailed,
    StageResult,
    StageTimedOut,
    StageTransient,
)
from runs.pipeline.context import WorkerContext

logger = logging.getLogger(__name__)

TRANSIENT = (StageTransient, BrokerUnavailable)
TRIES = 6
FIRST_PAUSE_SECONDS = 1.0
COMMANDS_AT_ONCE = 50


def stage_work(stage: Stage) -> None:
    """Do a stage that this worker has claimed, and write down how it ended.

    Named errors that pass (the broker is away) are tried again with growing pauses. Every other error fails the stage
    with a sentence. A stage that its run no longer wants is let go of; one that another worker has taken over is left
    to it.
    """
    with WorkerContext(stage, settings.STAGE_TIMEOUT_SECONDS) as context:
        try:
            result = _with_patience(context, WORK[StageName(stage.name)])
        except StageCancelled:
            if context.standing is StageStanding.LOST:
                logger.warning("stage %d: another worker has taken it over", stage.pk)
            else:
                context.log("Cancelled.", "stderr")
                lifecycle.stage_cancelled(stage_id=stage.pk, claim=stage.claim)
            return
        except (StageFailed, StageTransient, StageTimedOut, BrokerError, lifecycle.ExpressionError) as error:
            _fail(context, str(error))
            return
        except SoftTimeLimitExceeded:
            _fail(context, f"It took longer than {settings.STAGE_TIMEOUT_SECONDS} seconds.")
            return
        except DatabaseError:
            raise  # nothing can be written down now; the reaper takes the stage up again
        except Exception as error:
            logger.exception("stage %d", stage.pk)
            _fail(context, f"An unexpected error: {type(error).__name__}: {error}")
            return
        if result.unchanged:
            context.log(result.unchanged)
    lifecycle.stage_done(
        stage_id=stage.pk, claim=stage.claim, result=result.data, unchanged=result.unchanged, note=result.note
    )


def _fail(context: WorkerContext, reason: str) -> None:
    context.log(reason, "stderr")
    lifecycle.stage_fail(stage_id=context.stage.pk, claim=context.stage.claim, reason=reason)


def _with_patience(context: WorkerContext, work: Callable[[WorkerContext], StageResult]) -> StageResult:
    """Do the work; where a named passing error comes, pause and do it again, up to ``TRIES`` times."""
    pause = FIRST_PAUSE_SECONDS
    for attempt in range(1, TRIES):
        try:
            context.check()
            return work(context)
        except TRANSIENT as error:
            seconds = pause * random.uniform(0.5, 1.5)  # noqa: S311 - spreads load, hides nothing
            context.log(f"{error} Trying again in {seconds:.1f} s ({attempt} of {TRIES - 1}).", "stderr")
            context.pause(seconds)
            pause *= 2
    return work(context)


def _build(kind: PackageKind) -> Callable[[WorkerContext], StageResult]:
    def work(context: WorkerContext) -> StageResult:
        return backend_get(context.run.backend).build(context, kind)

    return work


def _push(kind: PackageKind, build: StageName) -> Callable[[WorkerContext], StageResult]:
    def work(context: WorkerContext) -> StageResult:
        return backend_get(context.run.backend).push(context, kind, context.result_of(build))

    return work


def _launch(context: WorkerContext) -> StageResult:
    """Launch the aggregator, or find the one that a worker launched which was killed before it could say so."""
    run, backend = context.run, backend_get(context.run.backend)
    handle = backend.aggregator_find(run)
    if handle is not None:
        context.log("The aggregator is there already.")
        lifecycle.aggregator_launched(run.pk, handle)
        backend.watch(handle)
        return StageResult({})
    token = lifecycle.aggregator_token(run.pk)
    if token is None:
        raise StageCancelled
    rendered = lifecycle.run_render(run, 0)
    username, password = aggregator_credential_create(run.pk)
    spec = AggregatorSpec(
        run_id=run.pk,
        attempt_id=run.attempt_id,
        token=token,
        mqtt_username=username,
        mqtt_password=password,
        entry_file=rendered.file,
        entry_arguments=rendered.arguments,
        config=rendered.config,
        limits=run.limits.get("server", {}),
        placement=run.limits.get("placement", []),
        reservations=run.limits.get("reservations", {}),
        package_name=run.server_package.file_name,
        package_url=f"{settings.PUBLIC_URL}/api/edge/packages/{run.server_package.sha256}",
    )
    context.check()
    built, pushed = context.result_of(StageName.BUILD_SERVER), context.result_of(StageName.PUSH_SERVER)
    lifecycle.aggregator_launched(run.pk, backend.launch(context, built, pushed, spec))
    return StageResult({})


def _dispatch(context: WorkerContext) -> StageResult:
    """Send each device its command; a command that was sent before is the same command again."""
    built, pushed = context.result_of(StageName.BUILD_CLIENT), context.result_of(StageName.PUSH_CLIENT)
    image = backend_get(context.run.backend).client_image(built, pushed)
    commands = lifecycle.dispatch_prepare(context.run.pk, image=image)
    sent = 0
    while batch := commands[sent : sent + COMMANDS_AT_ONCE]:
        context.check()
        commands_publish(batch)
        edge_ids = [edge_id for edge_id, _ in batch]
        lifecycle.dispatch_sent(context.run.pk, edge_ids)
        context.log(f"Sent to device {', '.join(map(str, edge_ids))}.")
        sent += len(batch)
        context.progress(sent / len(commands))
    return StageResult({})


WORK: dict[StageName, Callable[[WorkerContext], StageResult]] = {
    StageName.BUILD_SERVER: _build(PackageKind.SERVER),
    StageName.PUSH_SERVER: _push(PackageKind.SERVER, StageName.BUILD_SERVER),
    StageName.BUILD_CLIENT: _build(PackageKind.CLIENT),
    StageName.PUSH_CLIENT: _push(PackageKind.CLIENT, StageName.BUILD_CLIENT),
    StageName.LAUNCH: _launch,
    StageName.DISPATCH: _dispatch,
}


def client_image_of(run_id: int, backend: str) -> dict[str, Any] | None:
    """Return the container image of a run's clients, once its client stages are done."""
    results = dict(Stage.objects.filter(run_id=run_id).values_list("name", "result"))
    return backend_get(backend).client_image(results[StageName.BUILD_CLIENT], results[StageName.PUSH_CLIENT])
