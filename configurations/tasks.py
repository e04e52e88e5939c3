"""The periodic task of the store."""

from __future__ import annotations

from celery import shared_task

from configurations.services import packages_prune, synthetic_data_prune


@shared_task(name="configurations.tasks.store_prune")
def store_prune() -> None:
    """Remove packages and uploaded data that nothing has used for a day."""
    packages_prune()
    synthetic_data_prune()
