"""The Celery application: tasks of every app, the two queues, and what runs periodically.

Builds and pushes can take hours, so they stand in a queue of their own: a process that takes them (the builder) keeps
nothing else waiting. All other tasks take seconds. A worker without ``-Q`` takes both kinds.
"""

import os

from celery import Celery
from kombu import Queue

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlops_site.settings")

TASKS_QUEUE = "tasks"  # of the worker
BUILDS_QUEUE = "builds"  # of the builder

app = Celery("roundtable")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["runs.pipeline", "configurations", "health"])
app.conf.task_default_queue = TASKS_QUEUE
app.conf.task_queues = (Queue(TASKS_QUEUE), Queue(BUILDS_QUEUE))
app.conf.beat_schedule = {
    "reap": {"task": "runs.pipeline.tasks.reap", "schedule": 5.0, "options": {"expires": 5.0}},
    "store_prune": {"task": "configurations.tasks.store_prune", "schedule": 3600.0, "options": {"expires": 3600.0}},
    "sweep": {"task": "runs.pipeline.tasks.sweep", "schedule": 60.0, "options": {"expires": 60.0}},
}
