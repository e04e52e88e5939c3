"""Slow down who tries enrolment codes: after a number of failures from one address, a wait."""

from __future__ import annotations

import logging

import redis
from django.core.cache import cache

FAILURES_ALLOWED = 20
WINDOW_SECONDS = 600

logger = logging.getLogger(__name__)


def enrolment_is_blocked(address: str) -> bool:
    """Whether ``address`` has failed too often within the window. Successes are not counted.

    Without Redis nobody is blocked: a code cannot be guessed in its lifetime, and binding does not need the cache.
    """
    try:
        return int(cache.get(_key(address), 0)) >= FAILURES_ALLOWED
    except redis.RedisError:
        logger.warning("Redis is away: enrolment attempts are not limited meanwhile")
        return False


def enrolment_failed(address: str) -> None:
    """Count a failed attempt of ``address``."""
    try:
        if not cache.add(_key(address), 1, WINDOW_SECONDS):
            cache.incr(_key(address))
    except ValueError:  # the count expired in between
        cache.set(_key(address), 1, WINDOW_SECONDS)
    except redis.RedisError:
        logger.warning("Redis is away: a failed enrolment attempt was not counted")


def _key(address: str) -> str:
    return f"enrolment-failures:{address}"
