"""The log of a stage: lines are kept with the run's other log lines and are live on its page."""

from __future__ import annotations

import logging
import threading
import time

from django.db import DatabaseError

from runs.live.broadcast import log_lines_record
from runs.models import Run

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 0.2
WAITING_MAX = 20_000


class StageLog:
    """Collects the lines of one stage and stores them in batches. ``line`` may be called from any thread.

    Args:
        run_id: the run.
        stage: name of the stage; the lines' reporter is ``stage:<name>``.
    """

    def __init__(self, run_id: int, stage: str) -> None:
        self._run_id = run_id
        self._reporter = f"stage:{stage}"
        self._lock = threading.Lock()
        self._waiting: list[tuple[float, str, str]] = []
        self._dropped = 0

    def line(self, text: str, stream: str = "stdout") -> None:
        """Add one line; text with line ends becomes several."""
        now = time.time()
        with self._lock:
            for part in text.splitlines() or [""]:
                if len(self._waiting) < WAITING_MAX:
                    self._waiting.append((now, stream, part))
                else:
                    self._dropped += 1

    def flush(self) -> None:
        """Store what has come in. While the database is away, lines wait for the next call."""
        with self._lock:
            lines, self._waiting = self._waiting, []
            dropped, self._dropped = self._dropped, 0
        if dropped:
            lines.append((time.time(), "stderr", f"... {dropped} lines came too fast and were left out"))
        if not lines:
            return
        try:
            log_lines_record(self._run_id, self._reporter, lines)
        except Run.DoesNotExist:
            return
        except DatabaseError as error:
            logger.warning("%d lines of %s of run %d wait: %s", len(lines), self._reporter, self._run_id, error)
            with self._lock:
                self._waiting = lines + self._waiting
