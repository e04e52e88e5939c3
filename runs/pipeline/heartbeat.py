"""When the reaper last ran, for the health page. Redis keeps it: with Redis away the reaper does not run either."""

from __future__ import annotations

import time
from typing import cast

import redis

from runs.live.frames import redis_client

KEY = "pipeline:reaped_at"


def reap_noted() -> None:
    """Note that the reaper has run; with Redis away this is skipped."""
    try:
        redis_client().set(KEY, repr(time.time()))
    except (redis.RedisError, OSError):
        return


def reap_last() -> float | None:
    """Return when the reaper last ran, in seconds since the epoch; None: never.

    Raises:
        redis.RedisError: Redis is away.
    """
    value = cast("bytes | None", redis_client().get(KEY))
    return None if value is None else float(value)
