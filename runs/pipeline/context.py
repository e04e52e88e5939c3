"""What keeps a stage alive while a worker works on it: heartbeat, log, progress, cancelling and time-out."""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType
from typing import Self

from django.conf import settings
from django.db import DatabaseError, connection

from runs import lifecycle
from runs.lifecycle import StageStanding
from runs.models import Run, Stage, StageName
from runs.pipeline.backends.interface import StageCancelled, StageTimedOut
from runs.pipeline.stage_log import FLUSH_SECONDS, StageLog

logger = logging.getLogger(__name__)

STANDING_SECONDS = 1.0
HEARTBEATS_BEFORE_LATE = 5


class WorkerContext:
    """The ``StageContext`` that a worker hands to a backend.

    A thread of its own stores log lines and progress, renews the heartbeat, and looks whether the stage is still wanted
    and still this worker's; the work itself only asks ``check``.

    Args:
        stage: the claimed stage.
        timeout: seconds after which the stage fails.
    """

    def __init__(self, stage: Stage, timeout: float) -> None:
        self.run: Run = stage.run
        self.stage = stage
        self.attempt = stage.attempt
        self.standing = StageStanding.WANTED
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._log = StageLog(stage.run_id, stage.name)
        self._fraction: float | None = stage.progress
        self._fraction_stored: float | None = stage.progress
        self._leave = threading.Event()
        self._unwanted = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name=f"stage-{stage.pk}", daemon=True)

    def log(self, line: str, stream: str = "stdout") -> None:
        self._log.line(line, stream)

    def progress(self, fraction: float | None) -> None:
        self._fraction = None if fraction is None else min(max(fraction, 0.0), 1.0)

    def cancelled(self) -> bool:
        return self._unwanted.is_set()

    def check(self) -> None:
        if self._unwanted.is_set():
            raise StageCancelled
        if time.monotonic() >= self._deadline:
            raise StageTimedOut(
                f"It took longer than {self._timeout:.0f} seconds. Try again, or raise "
                "ROUNDTABLE_STAGE_TIMEOUT_SECONDS."
            )

    def seconds_left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond cancelling and time-out."""
        self._unwanted.wait(min(seconds, self.seconds_left()))
        self.check()

    def result_of(self, name: StageName) -> dict[str, object]:
        """Return what an earlier stage of the run made."""
        return dict(Stage.objects.values_list("result", flat=True).get(run=self.run, name=name))

    def __enter__(self) -> Self:
        self._keeper.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave.set()
        self._keeper.join()
        self._log.flush()

    def _keep(self) -> None:
        """Keep the stage until the work is done.

        1. Store the log lines that came in.
        2. Store the progress when it changed.
        3. Each second: renew the heartbeat when it is due, and look whether the stage is still wanted.
        """
        heartbeat_seconds = settings.STAGE_HEARTBEAT_SECONDS / HEARTBEATS_BEFORE_LATE
        looked = beat = time.monotonic()
        try:
            while not self._leave.wait(FLUSH_SECONDS):
                self._log.flush()
                now = time.monotonic()
                try:
                    self._store_progress()
                    if now - looked >= STANDING_SECONDS:
                        looked = now
                        beats = now - beat >= heartbeat_seconds
                        beat = now if beats else beat
                        self._look(beats)
                except DatabaseError as error:
                    logger.warning("stage %d: the database cannot be reached: %s", self.stage.pk, error)
                    connection.close()
        finally:
            connection.close()

    def _store_progress(self) -> None:
        fraction = self._fraction
        if fraction != self._fraction_stored:
            self._fraction_stored = fraction
            lifecycle.stage_progress(stage_id=self.stage.pk, claim=self.stage.claim, progress=fraction)

    def _look(self, beats: bool) -> None:
        look = lifecycle.stage_heartbeat if beats else lifecycle.stage_standing
        self.standing = look(stage_id=self.stage.pk, claim=self.stage.claim)
        if self.standing is not StageStanding.WANTED:
            self._unwanted.set()
