"""The tasks of alerts: each calls one function."""

from __future__ import annotations

from celery import shared_task

from alerts import delivery
from alerts.evaluation import rules_evaluate


@shared_task(name="alerts.tasks.evaluate")
def evaluate() -> None:
    """Look at every rule, and have tried what is due; every 15 seconds."""
    rules_evaluate()
    delivery.due_send()


@shared_task(name=delivery.DELIVER)
def deliver(*, delivery_id: int) -> None:
    """Try to tell a channel of an alert."""
    delivery.deliver(delivery_id)
