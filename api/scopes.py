"""What a personal access token may be used for."""

from __future__ import annotations

from django.db import models


class Scope(models.TextChoices):
    """Every operation of the API asks for exactly one of these; a session in the browser has them all."""

    READ = "read", "Read"
    WRITE = "write", "Write"
    RUN = "run", "Runs"
    DEVICES = "devices", "Devices"

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    Scope.READ: "See what you see: projects, runs, results, logs, models, configurations and devices.",
    Scope.WRITE: "Change projects, members, packages and configurations.",
    Scope.RUN: "Create, rename, start and stop runs, and try their stages again.",
    Scope.DEVICES: "Bind, rename and unbind devices.",
}
