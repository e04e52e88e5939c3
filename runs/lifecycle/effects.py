"""What follows a change of state, once it is committed: tasks on the queue."""

from __future__ import annotations

import logging
from typing import Any

from django.db import transaction
from django.utils import timezone
from kombu.exceptions import OperationalError

from mlops_site.celery import BUILDS_QUEUE, TASKS_QUEUE, app
from runs.lifecycle.turn import RunTurn
from runs.models import Stage, StageName

logger = logging.getLogger(__name__)

STAGE_RUN = "runs.pipeline.tasks.stage_run"
INSTANCES_STOP = "runs.pipeline.tasks.instances_stop"
RUN_CLEAN = "runs.pipeline.tasks.run_clean"
DEVICES_DISPATCH = "runs.pipeline.tasks.devices_dispatch"
RUNS_PURGE = "runs.telemetry.tasks.runs_purge"
# What may take long, and therefore waits for a builder.
BUILDS = (StageName.BUILD_SERVER, StageName.PUSH_SERVER, StageName.BUILD_CLIENT, StageName.PUSH_CLIENT)


def task_send(name: str, *, queue: str = TASKS_QUEUE, **arguments: Any) -> None:
    """Put a task on the queue once the current transaction is committed.

    A queue that is away costs time and nothing else: the reaper finds what was not sent.

    Args:
        name: the task's full name.
        queue: the queue that it stands in.
        arguments: ids alone; a task reads the rest from the database.
    """

    def send() -> None:
        try:
            app.send_task(name, kwargs=arguments, queue=queue, retry=False)
        except (OperationalError, OSError) as error:
            logger.warning("the task queue is away: %s %s will be sent later (%s)", name, arguments, error)

    transaction.on_commit(send)


def stage_send(turn: RunTurn, stage: Stage) -> None:
    """Put a stage on the queue, and note when."""
    turn.write(stage, sent_at=timezone.now())
    queue = BUILDS_QUEUE if stage.name in BUILDS else TASKS_QUEUE
    task_send(STAGE_RUN, queue=queue, run_id=turn.run.pk, stage=stage.name)
