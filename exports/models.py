"""Runs on their way to an MLflow server."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class ExportState(models.TextChoices):
    WAITING = "waiting", "Waiting"
    SENDING = "sending", "Sending"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"


class MlflowExport(models.Model):
    """A copy of a run that is made on an MLflow server.

    ``token`` is there only while the copy is being made.
    """

    run = models.ForeignKey("runs.Run", on_delete=models.CASCADE, related_name="mlflow_exports")
    url = models.CharField(max_length=300, help_text="address of the server")
    experiment = models.CharField(max_length=200, help_text="name of the experiment there")
    token = models.CharField(max_length=500, blank=True)
    mlflow_run_id = models.CharField(max_length=64, blank=True)
    experiment_id = models.CharField(max_length=64, blank=True)
    state = models.CharField(max_length=10, choices=ExportState, default=ExportState.WAITING)
    points_sent = models.BigIntegerField(default=0)
    points_total = models.BigIntegerField(default=0)
    problem = models.TextField(blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    heard_at = models.DateTimeField(null=True, help_text="when the server last took something")

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"run {self.run_id} at {self.url}"
