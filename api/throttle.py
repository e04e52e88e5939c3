"""How often the API may be called: a count a minute for each user, and a wait for who guesses tokens."""

from __future__ import annotations

import logging
import math
import time

import redis
from django.conf import settings
from django.core.cache import cache

WINDOW_SECONDS = 60
FAILURES_ALLOWED = 20
FAILURES_SECONDS = 600
PREFIX = "api"  # of the keys in the cache

logger = logging.getLogger(__name__)


def calls_wait(user_id: int) -> int:
    """Count a call of the user; return 0, or for how many seconds the user has to wait before the next one.

    Without Redis nobody waits.
    """
    limit = settings.API_CALLS_PER_MINUTE
    if limit <= 0:
        return 0
    now = time.time()
    window = int(now // WINDOW_SECONDS)
    if _count(f"{PREFIX}-calls:{user_id}:{window}", 2 * WINDOW_SECONDS) <= limit:
        return 0
    return max(1, math.ceil((window + 1) * WINDOW_SECONDS - now))


def guessing_is_blocked(address: str) -> bool:
    """Whether ``address`` has sent too many wrong tokens within ten minutes."""
    try:
        return int(cache.get(_failures(address), 0)) >= FAILURES_ALLOWED
    except (redis.RedisError, OSError):
        return False


def guess_failed(address: str) -> None:
    """Count a wrong token from ``address``."""
    _count(_failures(address), FAILURES_SECONDS)


def _failures(address: str) -> str:
    return f"{PREFIX}-token-failures:{address}"


def _count(key: str, seconds: int) -> int:
    """Count one more under ``key`` and return the count, which starts anew after ``seconds``."""
    try:
        if cache.add(key, 1, seconds):
            return 1
        try:
            return int(cache.incr(key))
        except ValueError:  # it expired in between
            cache.set(key, 1, seconds)
            return 1
    except (redis.RedisError, OSError):
        logger.warning("Redis is away: calls of the API are not limited meanwhile")
        return 0
