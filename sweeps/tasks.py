"""The tasks of sweeps: each calls one function."""

from __future__ import annotations

from celery import shared_task

from sweeps.advance import sweeps_advance

ADVANCE = "sweeps.tasks.advance"


@shared_task(name=ADVANCE)
def advance() -> None:
    """Go on with every sweep; every five seconds, and when one is made."""
    sweeps_advance()
