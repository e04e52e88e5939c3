"""The Celery application: tasks of every app, and what runs periodically."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlops_site.settings")

app = Celery("roundtable")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["runs.pipeline", "configurations", "health"])
app.conf.beat_schedule = {
    "reap": {"task": "runs.pipeline.tasks.reap", "schedule": 5.0, "options": {"expires": 5.0}},
    "store_prune": {"task": "configurations.tasks.store_prune", "schedule": 3600.0, "options": {"expires": 3600.0}},
    "sweep": {"task": "runs.pipeline.tasks.sweep", "schedule": 60.0, "options": {"expires": 60.0}},
}
