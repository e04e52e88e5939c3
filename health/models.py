"""What the checks themselves keep in the database."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class Probe(models.Model):
    """A row that the check of the database writes, reads and removes again."""

    token = models.CharField(max_length=32, unique=True)
    written_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.token
