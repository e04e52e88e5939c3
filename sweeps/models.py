"""Sweeps: many runs of one configuration, each with other values."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.urls import reverse
from django.utils import timezone


class SweepState(models.TextChoices):
    ACTIVE = "active", "Active"
    DONE = "done", "Done"
    STOPPED = "stopped", "Stopped"


class Sweep(models.Model):
    """A plan of runs. ``base_run`` is the first of them: the others repeat its frozen copy with their own values."""

    project = models.ForeignKey("runs.Project", on_delete=models.CASCADE, related_name="sweeps")
    name = models.CharField(max_length=100)
    configuration = models.ForeignKey(
        "configurations.Configuration", on_delete=models.SET_NULL, null=True, related_name="+"
    )
    base_run = models.ForeignKey("runs.Run", on_delete=models.SET_NULL, null=True, related_name="+")
    parameters = models.JSONField(help_text="names of the values that differ, as section.name")
    device_ids = models.JSONField(help_text="devices that runs of the sweep may take")
    devices_per_run = models.PositiveIntegerField()
    concurrency = models.PositiveIntegerField(help_text="at most so many runs at once")
    state = models.CharField(max_length=10, choices=SweepState, default=SweepState.ACTIVE)
    reason = models.TextField(blank=True, help_text="why it is in this state, or what it waits for")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("sweep_detail", args=[self.project_id, self.pk])


class Trial(models.Model):
    """One run of a sweep, made when its turn comes. ``problem`` says why it never will be."""

    sweep = models.ForeignKey(Sweep, on_delete=models.CASCADE, related_name="trials")
    position = models.PositiveIntegerField()
    values = models.JSONField(help_text="section.name -> what was typed")
    run = models.OneToOneField("runs.Run", on_delete=models.SET_NULL, null=True, related_name="trial")
    tried_at = models.DateTimeField(null=True, help_text="when its run was made, or refused for good")
    problem = models.TextField(blank=True)

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["sweep", "position"], name="a_trial_once_per_sweep")]

    def __str__(self) -> str:
        return f"trial {self.position + 1} of {self.sweep}"
