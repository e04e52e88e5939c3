"""Slow down who guesses passwords: after ten failures for one name from one address, five minutes' wait."""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.cache import cache
from redis import RedisError

logger = logging.getLogger(__name__)

FAILURES_ALLOWED = 10
WAIT_SECONDS = 300


def _key(username: str, address: str) -> str:
    # A digest, as names are the visitor's words: the cache need not hold them, and keys have a length limit.
    return "login-failures:" + hashlib.sha256(f"{address}\0{username.casefold()}".encode()).hexdigest()


@contextmanager
def _cache_may_be_away() -> Iterator[None]:
    """Sign-in goes on without the limit while Redis is away: nobody should be locked out by its failure."""
    try:
        yield
    except (RedisError, OSError):
        logger.warning("Redis is away: failed sign-ins are not counted")


def login_is_blocked(username: str, address: str) -> bool:
    """Whether ``username`` has to wait before the next attempt from ``address``."""
    failures = 0
    with _cache_may_be_away():
        failures = int(cache.get(_key(username, address), 0))
    return failures >= FAILURES_ALLOWED


def login_failed(username: str, address: str) -> None:
    """Count a failed attempt. Each failure starts the wait anew."""
    key = _key(username, address)
    with _cache_may_be_away():
        if cache.add(key, 1, WAIT_SECONDS):
            return
        try:
            cache.incr(key)
            cache.touch(key, WAIT_SECONDS)
        except ValueError:  # it expired in between
            cache.set(key, 1, WAIT_SECONDS)


def login_succeeded(username: str, address: str) -> None:
    """Forget the failures."""
    with _cache_may_be_away():
        cache.delete(_key(username, address))
