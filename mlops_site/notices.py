"""Short notices to every open page of a user: a device went offline, a run changed its state."""

import logging
from collections.abc import Iterable
from typing import Any

import redis
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction

logger = logging.getLogger(__name__)


def user_group(user_id: int) -> str:
    """Return the name of the channel group that all open pages of the user listen to."""
    return f"user.{user_id}"


def notice_send(user_ids: Iterable[int], notice: dict[str, Any]) -> None:
    """Send ``notice`` to every open page of the users once the current transaction is committed.

    A notice is a hint that a page shows at once; what it says can always be read from the database, so that a Redis
    that is away costs the hint and nothing else.

    Args:
        user_ids: who may see what the notice says; the caller has checked that.
        notice: ``{"kind": "device"|"run"|"project"|"toast", ...}``, JSON values only.
    """
    recipients = sorted(set(user_ids))

    def send() -> None:
        layer = get_channel_layer()
        if layer is None:
            return
        try:
            for user_id in recipients:
                async_to_sync(layer.group_send)(user_group(user_id), {"type": "notice", "notice": notice})
        except (redis.RedisError, OSError):
            logger.warning("Redis is away: a notice to %d pages was not sent", len(recipients))

    transaction.on_commit(send)
