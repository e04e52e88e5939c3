"""Slow down who guesses passwords: after ten failures for one name from one address, five minutes' wait."""

import hashlib

from django.core.cache import cache

FAILURES_ALLOWED = 10
WAIT_SECONDS = 300


def _key(username: str, address: str) -> str:
    # A digest, as names are the visitor's words: the cache need not hold them, and keys have a length limit.
    return "login-failures:" + hashlib.sha256(f"{address}\0{username.casefold()}".encode()).hexdigest()


def login_is_blocked(username: str, address: str) -> bool:
    """Whether ``username`` has to wait before the next attempt from ``address``."""
    return int(cache.get(_key(username, address), 0)) >= FAILURES_ALLOWED


def login_failed(username: str, address: str) -> None:
    """Count a failed attempt. Each failure starts the wait anew."""
    key = _key(username, address)
    if not cache.add(key, 1, WAIT_SECONDS):
        try:
            cache.incr(key)
            cache.touch(key, WAIT_SECONDS)
        except ValueError:  # it expired in between
            cache.set(key, 1, WAIT_SECONDS)


def login_succeeded(username: str, address: str) -> None:
    """Forget the failures."""
    cache.delete(_key(username, address))
