"""The states of runs, stages and instances, with the label and colour that every page shows them in.

Colours are names of the palette in ``static/css/roundtable.css`` (``--state-<name>``).
"""

from __future__ import annotations

from django.db import models


class _Coloured(models.TextChoices):
    """Text choices with a colour each."""

    @property
    def colour(self) -> str:
        return _COLOURS[self.value]


class RunState(_Coloured):
    CREATED = "CREATED", "Created"
    QUEUED = "QUEUED", "Queued"
    STARTING = "STARTING", "Starting"
    RUNNING = "RUNNING", "Running"
    STOPPING = "STOPPING", "Stopping"
    FINISHED = "FINISHED", "Finished"
    FAILED = "FAILED", "Failed"
    KILLED = "KILLED", "Stopped"

    @classmethod
    def active(cls) -> list[RunState]:
        """States in which a run holds its devices."""
        return [cls.QUEUED, cls.STARTING, cls.RUNNING, cls.STOPPING]

    @classmethod
    def ended(cls) -> list[RunState]:
        return [cls.FINISHED, cls.FAILED, cls.KILLED]


class StageState(_Coloured):
    PENDING = "PENDING", "Waiting"
    ACTIVE = "ACTIVE", "Working"
    DONE = "DONE", "Done"
    SKIPPED = "SKIPPED", "Unchanged"
    FAILED = "FAILED", "Failed"
    CANCELLED = "CANCELLED", "Cancelled"


class InstanceStatus(_Coloured):
    """What a reporter (a device's client, or the aggregator) says of its instance in one run."""

    IDLE = "IDLE", "Waiting"
    DISPATCHED = "DISPATCHED", "Command sent"
    INITIALIZING = "INITIALIZING", "Initializing"
    TRAINING = "TRAINING", "Training"
    STOPPING = "STOPPING", "Stopping"
    FINISHED = "FINISHED", "Finished"
    FAILED = "FAILED", "Failed"
    KILLED = "KILLED", "Stopped"

    @classmethod
    def ended(cls) -> list[InstanceStatus]:
        return [cls.FINISHED, cls.FAILED, cls.KILLED]


class DeviceState(_Coloured):
    """What a device does as a whole: presence, and the work that it has."""

    OFFLINE = "OFFLINE", "Offline"
    IDLE = "IDLE", "Idle"
    BUSY = "BUSY", "Busy"
    UNBOUND = "UNBOUND", "Unbound"


_COLOURS = {
    "CREATED": "grey",
    "QUEUED": "grey",
    "PENDING": "grey",
    "OFFLINE": "grey",
    "UNBOUND": "grey",
    "SKIPPED": "grey",
    "CANCELLED": "grey",
    "DISPATCHED": "amber",
    "STARTING": "amber",
    "INITIALIZING": "amber",
    "STOPPING": "amber",
    "ACTIVE": "blue",
    "RUNNING": "blue",
    "TRAINING": "blue",
    "BUSY": "blue",
    "IDLE": "green",
    "DONE": "green",
    "FINISHED": "green",
    "FAILED": "red",
    "KILLED": "purple",
}
