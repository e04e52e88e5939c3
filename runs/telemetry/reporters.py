"""Who may report in which run: what the broker's access list cannot see."""

from __future__ import annotations

import time
from typing import NamedTuple

from django.conf import settings

from runs.models import Run, RunDevice
from runs.states import RunState
from runs.telemetry.refusals import Reason, Refused


class _RunFacts(NamedTuple):
    read_at: float
    edges: frozenset[int]
    ended_at: float | None


class Reporters:
    """Answers from memory for a few seconds, so that a message costs no query of its own."""

    KEPT_SECONDS = 2.0
    KEPT_RUNS = 10_000

    def __init__(self) -> None:
        self._facts: dict[int, _RunFacts | None] = {}
        self._swept_at = time.monotonic()

    def check(self, run_id: int, edge_id: int, *, ended_too: bool = False) -> None:
        """Make sure that the edge may report in the run now.

        Args:
            run_id: the run of the topic.
            edge_id: the sender of the topic; 0 is the aggregator.
            ended_too: accept reports of a run that ended long ago.

        Raises:
            Refused: there is no such run, the device takes no part in it, or it ended more than two minutes ago
                (``TELEMETRY_GRACE_SECONDS``).
        """
        facts = self._read(run_id)
        if facts is None:
            raise Refused(Reason.UNKNOWN_RUN, f"there is no run {run_id}")
        if edge_id and edge_id not in facts.edges:
            raise Refused(Reason.NO_PART, f"device {edge_id} takes no part in run {run_id}")
        if ended_too or facts.ended_at is None:
            return
        if time.time() - facts.ended_at > settings.TELEMETRY_GRACE_SECONDS:
            raise Refused(
                Reason.RUN_ENDED, f"run {run_id} ended more than {settings.TELEMETRY_GRACE_SECONDS} seconds ago"
            )

    def forget(self) -> None:
        """Read everything anew the next time."""
        self._facts.clear()

    def _read(self, run_id: int) -> _RunFacts | None:
        now = time.monotonic()
        if now - self._swept_at > self.KEPT_SECONDS or len(self._facts) > self.KEPT_RUNS:
            self._facts.clear()
            self._swept_at = now
        if run_id not in self._facts:
            self._facts[run_id] = self._query(run_id, now)
        return self._facts[run_id]

    @staticmethod
    def _query(run_id: int, now: float) -> _RunFacts | None:
        run = Run.objects.filter(pk=run_id).values_list("state", "ended_at").first()
        if run is None:
            return None
        edges = frozenset(RunDevice.objects.filter(run_id=run_id).values_list("edge_id", flat=True))
        ended = run[1].timestamp() if run[0] in RunState.ended() and run[1] else None
        return _RunFacts(now, edges, ended)
