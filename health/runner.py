"""Making checks beside each other, each within its time, however many people ask.

A check is made once at a time in a process: who asks while it is made gets the same answer, and an answer is good for a
second. One that hangs is left to itself, and is not made again before it is back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

import redis
from django.db import connections
from kombu.exceptions import OperationalError

from health.checks.interface import Check, Level, Outcome, outcome_of
from health.worker_answers import worker_outcome

FRESH_SECONDS = 1.0
WORKER_GRACE_SECONDS = 1.0  # so that waiting for a worker ends before the time of the check does


@dataclass(frozen=True)
class Finding:
    """A check and its outcome, with the seconds that it took."""

    check: Check
    outcome: Outcome
    seconds: float


class _Flight:
    """A check that is being made in a thread of its own."""

    def __init__(self, check: Check, here: bool) -> None:
        self._check = check
        self._here = here
        self._began = time.monotonic()
        self._ended: float | None = None
        self._done = threading.Event()
        self._outcome: Outcome | None = None
        threading.Thread(target=self._fly, name=f"check-{check.name}", daemon=True).start()

    @property
    def stale(self) -> bool:
        return self._ended is not None and time.monotonic() - self._ended > FRESH_SECONDS

    def finding(self) -> Finding:
        """Wait for the outcome, as long as the check may take."""
        limit = self._check.seconds + (WORKER_GRACE_SECONDS if self._check.in_worker else 0.0)
        self._done.wait(max(0.0, self._began + limit - time.monotonic()))
        if self._outcome is None or self._ended is None:
            waited = time.monotonic() - self._began
            return Finding(self._check, _silence(waited), waited)
        return Finding(self._check, self._outcome, self._ended - self._began)

    def _fly(self) -> None:
        try:
            self._outcome = _outcome(self._check, self._here)
        finally:
            self._ended = time.monotonic()
            self._done.set()
            connections.close_all()


_flights: dict[tuple[str, bool], _Flight] = {}
_lock = threading.Lock()


def checks_start(checks: Iterable[Check], *, here: bool = False) -> None:
    """Begin to make checks, without waiting for any."""
    for check in checks:
        _flight(check, here)


def check_finding(check: Check, *, here: bool = False) -> Finding:
    """Make a check and return what it found; returns within the time that the check may take.

    Args:
        here: make it in this process also where it should be made by a worker.
    """
    return _flight(check, here).finding()


def _flight(check: Check, here: bool) -> _Flight:
    with _lock:
        flight = _flights.get((check.name, here))
        if flight is None or flight.stale:
            flight = _flights[check.name, here] = _Flight(check, here)
        return flight


def _outcome(check: Check, here: bool) -> Outcome:
    if here or not check.in_worker:
        return outcome_of(check)
    try:
        return worker_outcome(check)
    except (OperationalError, redis.RedisError, OSError) as error:
        return Outcome(
            Level.FAILED,
            "This is looked at by a worker, and the task queue cannot be reached.",
            fix="See the check of Redis: it holds the queue.",
            facts=(("error", str(error)),),
        )


def _silence(seconds: float) -> Outcome:
    return Outcome(
        Level.FAILED,
        f"There is no answer after {seconds:.0f} s.",
        fix="What is asked hangs: look at its log and load, and whether a firewall swallows the connection.",
    )
