"""What the ingest workers say of themselves, for the health page: one entry a slot in a Redis hash."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import orjson
import redis

from runs.live.frames import redis_client

logger = logging.getLogger(__name__)

KEY = "ingest:workers"
STALE_SECONDS = 30.0


@dataclass
class Counters:
    """What one worker did since it started, and how it is."""

    slot: int
    started_at: float = field(default_factory=time.time)
    received: int = 0  # messages
    stored: int = 0  # messages of telemetry that were new
    duplicate: int = 0  # messages that had been stored before
    points: int = 0
    lines: int = 0
    statuses: int = 0
    presences: int = 0
    refused: dict[str, int] = field(default_factory=dict)  # messages by reason
    batches: int = 0
    batch_seconds: float = 0.0  # what the last batch took to store
    lag_seconds: float = 0.0  # from the arrival of the last batch's first message until it was stored
    waiting: int = 0  # messages in the buffer
    connected: bool = False
    database_away_since: float | None = None


def health_publish(counters: Counters) -> None:
    """Show the counters; with Redis away this is skipped."""
    entry = orjson.dumps({**asdict(counters), "at": time.time()})
    try:
        redis_client().hset(KEY, str(counters.slot), entry)
    except (redis.RedisError, OSError):
        logger.debug("Redis is away: counters are not shown")


def ingest_health() -> list[dict[str, Any]]:
    """Return the counters of every worker, by slot, with ``at`` and ``alive`` (heard of within 30 seconds).

    Raises:
        redis.RedisError: Redis is away.
    """
    entries = cast("dict[bytes, bytes]", redis_client().hgetall(KEY))
    workers = [orjson.loads(entry) for entry in entries.values()]
    for worker in workers:
        worker["alive"] = time.time() - worker["at"] < STALE_SECONDS
    return sorted(workers, key=lambda worker: cast(int, worker["slot"]))


def health_forget(slot: int) -> None:
    """Take a slot that was given up off the health page."""
    try:
        redis_client().hdel(KEY, str(slot))
    except (redis.RedisError, OSError):
        logger.debug("Redis is away: counters are not shown")
