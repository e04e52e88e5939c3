"""A stage context without a worker, for tests of backends."""

from __future__ import annotations

import time

from runs.models import Run
from runs.pipeline.backends.interface import StageCancelled, StageTimedOut


class TestContext:
    """Keeps what is said, and ends the work when told to."""

    __test__ = False

    def __init__(self, run: Run, *, seconds: float = 60) -> None:
        self.run = run
        self.attempt = 1
        self.lines: list[str] = []
        self.fractions: list[float | None] = []
        self.unwanted = False
        self._deadline = time.monotonic() + seconds

    def log(self, line: str, stream: str = "stdout") -> None:
        self.lines.append(line)

    def progress(self, fraction: float | None) -> None:
        self.fractions.append(fraction)

    def cancelled(self) -> bool:
        return self.unwanted

    def check(self) -> None:
        if self.unwanted:
            raise StageCancelled
        if time.monotonic() >= self._deadline:
            raise StageTimedOut("It took too long.")

    def seconds_left(self) -> float:
        return self._deadline - time.monotonic()

    def pause(self, seconds: float) -> None:
        """Wait as a worker does."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check()
            time.sleep(0.02)
