"""Giving a run another name."""

from __future__ import annotations

from django.db import transaction

from runs.lifecycle.errors import RunRefused
from runs.live.broadcast import frame_record
from runs.live.payloads import run_item
from runs.models import Run

NAME_MAX_LENGTH = 120


def run_rename(*, run: Run, name: str) -> None:
    """Give the run another name, in every open page. Spaces around and between words are made one.

    Raises:
        RunRefused: the name is empty, longer than 120 characters, or holds a NUL character.
    """
    name = " ".join(name.split())
    if not name or len(name) > NAME_MAX_LENGTH or "\0" in name:
        raise RunRefused(f"A run's name has 1 to {NAME_MAX_LENGTH} characters.")
    with transaction.atomic():
        Run.objects.filter(pk=run.pk).update(name=name)
        run.refresh_from_db()  # under the lock of the update: the frame tells of the run as it is now
        frame_record(run.pk, [run_item(run)])
