"""What workers do for the checks."""

from __future__ import annotations

from celery import shared_task

from health.checks import CHECKS
from health.checks.interface import outcome_of
from health.worker_answers import TASK, answer_put


@shared_task(name=TASK)
def answer(*, key: str, check_name: str) -> None:
    """Make a check and put the outcome where it is waited for.

    Args:
        key: under which the answer is waited for.
        check_name: which check; empty for a mere sign of life.
    """
    answer_put(key, outcome_of(CHECKS[check_name]) if check_name else None)
