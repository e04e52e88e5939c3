"""Why messages were not stored: counted by reason, and logged without flooding the log."""

from __future__ import annotations

import enum
import logging
import time
from collections import Counter

logger = logging.getLogger(__name__)


class Reason(enum.StrEnum):
    """Why a message was refused. The value is the name of its counter."""

    SCHEMA = "schema"
    UNKNOWN_TOPIC = "unknown_topic"
    UNKNOWN_RUN = "unknown_run"
    NO_PART = "no_part"
    RUN_ENDED = "run_ended"
    TOO_MANY_SERIES = "too_many_series"
    ERROR = "error"


class Refused(Exception):
    """A message that is not stored; ``str(error)`` says why."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class RefusalLog:
    """Logs the first few refusals of each reason in every window of time, and how many were like them."""

    WINDOW_SECONDS = 30.0
    SHOWN = 5

    def __init__(self) -> None:
        self.counts: Counter[Reason] = Counter()
        self._window_start = time.monotonic()
        self._in_window: Counter[Reason] = Counter()

    def add(self, reason: Reason, topic: str, text: str) -> None:
        """Count a refusal, and log it unless many like it were."""
        self._turn_window()
        self.counts[reason] += 1
        self._in_window[reason] += 1
        if self._in_window[reason] <= self.SHOWN:
            logger.warning("Refused (%s) a message on %.200r: %s", reason, topic, text)

    def _turn_window(self) -> None:
        if time.monotonic() - self._window_start < self.WINDOW_SECONDS:
            return
        for reason, count in self._in_window.items():
            if count > self.SHOWN:
                logger.warning("Refused (%s) %d more messages", reason, count - self.SHOWN)
        self._in_window.clear()
        self._window_start = time.monotonic()
