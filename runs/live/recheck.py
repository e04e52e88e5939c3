"""Telling open run pages that somebody may have lost access: each asks at once whether it is still allowed."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import redis
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction

from runs.live.frames import run_group
from runs.models import Run

logger = logging.getLogger(__name__)


def access_recheck(project_ids: Iterable[int]) -> None:
    """Once the transaction is committed, let the sockets of the projects' active runs read their access anew.

    Every socket does so by itself every few seconds, so that a Redis that is away costs no more than those.
    """
    project_ids = list(project_ids)

    def send() -> None:
        layer = get_channel_layer()
        if layer is None:
            return
        runs = Run.objects.active().filter(project__in=project_ids).values_list("pk", flat=True)
        try:
            for run_id in runs:
                async_to_sync(layer.group_send)(run_group(run_id), {"type": "access.recheck"})
        except (redis.RedisError, OSError):
            logger.warning("Redis is away: open pages notice within seconds by themselves who may see them")

    transaction.on_commit(send)
