"""What a backend is: the place where packages are built and published and where aggregators run.

A backend is one module with one class that has the methods of ``Backend``, registered in the table of
``runs.pipeline.backends``. Its methods run in the worker, outside transactions. They may be called twice for the same
work, and again after they were killed half-way: each looks first for what is there already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from configurations.models import PackageKind
from runs.models import Run
from runs.states import InstanceStatus


class StageFailed(Exception):
    """The stage cannot be done; ``str(error)`` is a sentence that says why and what to do."""


class StageTransient(Exception):
    """The stage cannot be done at this moment (a server is away). It is tried again a few times, then failed."""


class StageCancelled(Exception):
    """The stage is no longer wanted: the run was stopped, or another worker has taken the stage over."""


class StageTimedOut(Exception):
    """The stage took longer than it may."""


@dataclass(frozen=True)
class StageResult:
    """What a stage made.

    Attributes:
        data: JSON values that later stages need; kept in ``Stage.result``.
        unchanged: where nothing had to be done, a sentence that says why.
        note: what people want to see of the stage when it is done, such as an image's digest.
    """

    data: dict[str, Any]
    unchanged: str = ""
    note: str = ""


class StageContext(Protocol):
    """What a backend tells and asks while it works on a stage. Every method may be called from any thread."""

    run: Run
    attempt: int

    def log(self, line: str, stream: str = "stdout") -> None:
        """Add a line to the stage's log, which is live on the run's page."""

    def progress(self, fraction: float | None) -> None:
        """Say how much is done, 0 to 1; None where that cannot be told."""

    def cancelled(self) -> bool:
        """Return whether the work should end now. Does not block."""

    def check(self) -> None:
        """Raise ``StageCancelled`` or ``StageTimedOut`` when the work should end now. Call at least every second."""

    def seconds_left(self) -> float:
        """Return the time until the stage's time-out."""


@dataclass(frozen=True)
class AggregatorSpec:
    """What an aggregator is started with.

    Attributes:
        token: the run token of edge 0.
        mqtt_username, mqtt_password: its own credential at the broker.
        entry_file, entry_arguments, config: the rendered entry command and ``fedml.yaml``.
        limits: ``memory_mb``, ``cpus``, ``pids``.
        placement: conditions on the node that runs it, such as ``node.labels.zone==a``; for a swarm.
        reservations: what the node must have free, ``memory_mb`` and ``cpus``; for a swarm.
    """

    run_id: int
    attempt_id: str
    token: str = field(repr=False)
    mqtt_username: str
    mqtt_password: str = field(repr=False)
    entry_file: str
    entry_arguments: list[str]
    config: dict[str, Any]
    limits: Mapping[str, Any]
    package_name: str
    package_url: str
    placement: Sequence[str] = ()
    reservations: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class InstanceState:
    """What a backend knows of an aggregator.

    Attributes:
        ended: None while it runs; else FINISHED (exit code 0), KILLED (it was stopped) or FAILED (everything else, also
            where it is gone and nobody knows how it ended).
        exit_code: where it ended by itself and the code is known.
        reason: how it ended, as a sentence: exit code, out of memory, which signal.
        ended_at: when, in seconds since the epoch, where that is known.
    """

    ended: InstanceStatus | None
    exit_code: int | None = None
    reason: str = ""
    ended_at: float | None = None

    @property
    def runs(self) -> bool:
        return self.ended is None


Handle = dict[str, Any]
"""How a backend finds an aggregator again: JSON values, no secrets. Kept in ``Run.aggregator_handle``."""


@dataclass(frozen=True)
class FoundAggregator:
    """An aggregator that a backend found running."""

    run_id: int
    handle: Handle


class Backend(Protocol):
    """Where packages are built and published, and where aggregators run."""

    name: str
    label: str

    def available(self) -> tuple[bool, str]:
        """Return whether the backend can be used here, and a sentence that says why not or what was found. Quick."""

    def recommended(self) -> tuple[bool, str]:
        """Return whether ``auto`` should take this backend, and a sentence that says why. Quick."""

    def build(self, context: StageContext, kind: PackageKind) -> StageResult:
        """Build what an instance of this kind is opened from.

        Raises:
            StageFailed, StageTransient, StageCancelled, StageTimedOut
        """

    def push(self, context: StageContext, kind: PackageKind, built: Mapping[str, Any]) -> StageResult:
        """Publish what was built where those who open it can fetch it, named by its digest.

        Args:
            built: ``data`` of the build stage's result.
        """

    def client_image(self, built: Mapping[str, Any], pushed: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return ``image`` of the ``start_train`` command (``docs/protocol.md``), or None where there is none.

        It may hold the login of the registry: it goes into commands and is neither kept nor logged.
        """

    def launch(
        self, context: StageContext, built: Mapping[str, Any], pushed: Mapping[str, Any], spec: AggregatorSpec
    ) -> Handle:
        """Start the run's aggregator and return once it is there. Those of earlier attempts are stopped first.

        Called only where ``aggregator_find`` found none. What an aggregator needs is written down before it is
        started, in one step, so that from then on ``aggregator_find`` finds it and ``watch`` can go on.
        """

    def aggregator_find(self, run: Run) -> Handle | None:
        """Return the handle of the aggregator of the run's present attempt: starting, running or ended. None: never."""

    def watch(self, handle: Handle) -> None:
        """See to it that the aggregator was started and that somebody watches it and reports its status and output.

        Called after the launch, when a launch was killed half-way, and every few seconds as long as the run goes on.

        Raises:
            StageFailed: it cannot be started.
        """

    def aggregator_state(self, handle: Handle) -> InstanceState:
        """Return whether the aggregator runs, and how it ended. Quick."""

    def stop_aggregator(self, handle: Handle) -> None:
        """Ask the aggregator to end, kill it after ten seconds, return when it is gone. Gone already is fine."""

    def aggregators_find(self) -> list[FoundAggregator]:
        """Return every aggregator that runs here, so that those of ended runs can be found and stopped."""

    def clean(self, run: Run) -> None:
        """Remove what an ended run leaves: folders, containers, services. May be called again."""

    def tidy(self) -> None:
        """Remove what no run of this installation needs any more, beyond what ``clean`` removes: images, orphans."""
