"""Going on when the database is away."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import InterfaceError, OperationalError, connection

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_FIRST_WAIT_SECONDS = 0.1
_LONGEST_WAIT_SECONDS = 5.0
_PROGRAM_LIMIT = "54"  # class of PostgreSQL's errors that come of what was sent, not of its state


class Stopping(Exception):
    """The worker was asked to stop while it waited."""


class Database:
    """Does work in the database, and again when the database was away or gave the work up (a lock, a deadlock).

    Args:
        stop: set when the worker is to stop.
        while_away: called before each new attempt.
    """

    def __init__(self, stop: threading.Event, while_away: Callable[[], None]) -> None:
        self._stop = stop
        self._while_away = while_away
        self.away_since: float | None = None

    def work(self, function: Callable[[], Result]) -> Result:
        """Call ``function`` until the database does its part. It must be good to be called again.

        Raises:
            Stopping: the worker is to stop and the database is still away.
        """
        wait = _FIRST_WAIT_SECONDS
        while True:
            try:
                result = function()
            except (OperationalError, InterfaceError) as error:
                if _is_of_the_input(error):
                    raise
                connection.close()
                if self.away_since is None:
                    self.away_since = time.time()
                    logger.warning("The database does not take it (%s); trying again", str(error).strip())
                self._while_away()
                if self._stop.wait(wait):
                    raise Stopping from error
                wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
            else:
                if self.away_since is not None:
                    logger.warning("The database is back after %.1f seconds", time.time() - self.away_since)
                    self.away_since = None
                return result


def _is_of_the_input(error: Exception) -> bool:
    state = getattr(error.__cause__, "sqlstate", None) or ""
    return str(state).startswith(_PROGRAM_LIMIT)
