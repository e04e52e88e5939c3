"""Deleting a run, and putting it aside.

Deletion is one UPDATE: from then on the run is nowhere to be found, and ``runs.purge`` removes what it held.
"""

from __future__ import annotations

from typing import Any

from django.db.models import Q
from django.utils import timezone

from runs.lifecycle.effects import RUNS_PURGE, task_send
from runs.lifecycle.errors import RunRefused
from runs.models import Role, Run
from runs.states import RunState

STOP_FIRST = "A run that is under way cannot be deleted. Stop it first, and wait until it has ended."


def run_is_quiet(run: Run) -> bool:
    """Whether nothing works for the run: it has ended, or was never started."""
    return run.state == RunState.CREATED or run.state in RunState.ended()


def run_may_delete(run: Run, user: Any, role: Role | None) -> bool:
    """Whether ``user``, who has ``role`` in the run's project, may delete it: owners any run, members their own."""
    return role == Role.OWNER or (role == Role.MEMBER and user.pk in (run.created_by_id, run.started_by_id))


def run_delete(*, run: Run, user: Any) -> None:
    """Delete a run with all that it holds. Deleting it again changes nothing.

    Raises:
        RunRefused: it is under way, or ``user`` may not delete it.
    """
    if not run_may_delete(run, user, run.project.role_of(user)):
        raise RunRefused("Owners of the project delete any run, members those that they created or started.")
    quiet = Q(state__in=RunState.ended()) | Q(state=RunState.CREATED)
    deleted = Run.objects.filter(quiet, pk=run.pk).update(deleted_at=timezone.now())
    if not deleted and Run.objects.filter(pk=run.pk).exists():
        raise RunRefused(STOP_FIRST)
    task_send(RUNS_PURGE)


def run_archive(*, run: Run, archived: bool) -> None:
    """Leave a run out of lists unless they are asked for archived ones, or bring it back.

    Raises:
        RunRefused: it is under way.
    """
    if not archived:
        Run.objects.filter(pk=run.pk).update(archived_at=None)
        return
    quiet = Q(state__in=RunState.ended()) | Q(state=RunState.CREATED)
    if not Run.objects.filter(quiet, pk=run.pk).update(archived_at=timezone.now()):
        raise RunRefused("A run that is under way cannot be archived.")
