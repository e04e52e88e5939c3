"""The Celery application: tasks of every app, the two queues, and what runs periodically.

Builds, pushes and copies of whole runs can take hours. They stand in a queue of their own, so that the process that
takes them (the builder) keeps nothing else waiting. All other tasks take seconds. A worker without ``-Q`` takes both.
"""

import os
from typing import Any

from celery import Celery
from celery.signals import worker_ready
from kombu import Queue

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlops_site.settings")

TASKS_QUEUE = "tasks"  # of the worker
BUILDS_QUEUE = "builds"  # of the builder
BACKENDS_LOOK = "runs.pipeline.tasks.backends_look"

app = Celery("roundtable")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["runs.pipeline", "runs.telemetry", "configurations", "health", "alerts", "exports", "sweeps"])
app.conf.task_default_queue = TASKS_QUEUE
app.conf.task_queues = (Queue(TASKS_QUEUE), Queue(BUILDS_QUEUE))
app.conf.beat_schedule = {
    "reap": {"task": "runs.pipeline.tasks.reap", "schedule": 5.0, "options": {"expires": 5.0}},
    "alerts": {"task": "alerts.tasks.evaluate", "schedule": 15.0, "options": {"expires": 15.0}},
    "sweeps": {"task": "sweeps.tasks.advance", "schedule": 5.0, "options": {"expires": 5.0}},
    "backends_look": {"task": BACKENDS_LOOK, "schedule": 30.0, "options": {"expires": 30.0}},
    "store_prune": {"task": "configurations.tasks.store_prune", "schedule": 3600.0, "options": {"expires": 3600.0}},
    "points_pack": {"task": "runs.telemetry.tasks.points_pack", "schedule": 10.0, "options": {"expires": 10.0}},
    "runs_purge": {"task": "runs.telemetry.tasks.runs_purge", "schedule": 30.0, "options": {"expires": 30.0}},
    "retain": {"task": "runs.telemetry.tasks.retain", "schedule": 600.0, "options": {"expires": 600.0}},
    "sweep": {"task": "runs.pipeline.tasks.sweep", "schedule": 60.0, "options": {"expires": 60.0}},
}


@worker_ready.connect
def worker_began(**_: Any) -> None:
    """Have the backends looked at as soon as there is a worker, instead of at beat's next turn."""
    app.send_task(BACKENDS_LOOK, expires=30.0, retry=False)
