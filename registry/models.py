"""Models that were promoted: under a name, in versions, each with a stage and the history of who changed what."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.urls import reverse

from runs.models import Project, StoredModel


class ModelStage(models.TextChoices):
    CANDIDATE = "candidate", "Candidate"
    STAGING = "staging", "Staging"
    PRODUCTION = "production", "Production"
    ARCHIVED = "archived", "Archived"

    @property
    def colour(self) -> str:
        """The colour in which it is shown everywhere."""
        return {"candidate": "blue", "staging": "amber", "production": "green", "archived": "grey"}[self.value]


class RegisteredModel(models.Model):
    """A name in a project's registry."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="registered_models")
    name = models.CharField(max_length=120)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["project", "name"], name="a_registered_name_once_per_project")]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("registered_model", args=[self.project_id, self.pk])


class ModelVersion(models.Model):
    """A stored model under a name. Its bytes are a copy, so that it outlives the run that it came from."""

    registered = models.ForeignKey(RegisteredModel, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    stage = models.CharField(max_length=12, choices=ModelStage, default=ModelStage.CANDIDATE)
    notes = models.TextField(blank=True, max_length=4000)
    source = models.ForeignKey(StoredModel, on_delete=models.SET_NULL, null=True, related_name="versions")
    origin = models.CharField(max_length=300, help_text="where it came from, in words that outlive the run")
    sha256 = models.CharField(max_length=64)
    size = models.BigIntegerField(help_text="bytes")
    metrics = models.JSONField(default=dict)
    storage_name = models.CharField(max_length=255)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["registered", "number"], name="a_version_number_once_per_name")]

    def __str__(self) -> str:
        return f"{self.registered} v{self.number}"

    @property
    def colour(self) -> str:
        """The colour of its stage."""
        return ModelStage(self.stage).colour


class VersionChange(models.Model):
    """What somebody did to a version."""

    version = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="changes")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    at = models.DateTimeField(auto_now_add=True)
    text = models.CharField(max_length=300)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return self.text


def shown_metrics(*each: dict[str, Any]) -> list[str]:
    """The names of all metrics of some models, in their order."""
    return sorted({name for metrics in each for name in metrics})
