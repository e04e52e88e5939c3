"""A backend that does nothing and says what it is told to say, for tests of what is around backends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from configurations.models import PackageKind
from runs.models import Run
from runs.pipeline.backends.interface import (
    AggregatorSpec,
    FoundAggregator,
    Handle,
    InstanceState,
    StageContext,
    StageResult,
)


class StubBackend:
    """Attributes say what it answers, and what was asked of it.

    Attributes:
        state: the state of every aggregator.
        launched: the specs of the aggregators that were launched.
        stopped, watched: the handles for which that was asked.
        found: what ``aggregators_find`` answers.
        work: called by build and push with the context and the kind.
    """

    name = "process"
    label = "Stub"

    def __init__(self) -> None:
        self.state = InstanceState(None)
        self.launched: list[AggregatorSpec] = []
        self.stopped: list[Handle] = []
        self.watched: list[Handle] = []
        self.cleaned: list[int] = []
        self.found: list[FoundAggregator] = []
        self.work: Callable[[StageContext, PackageKind], StageResult] = lambda context, kind: StageResult({})

    def available(self) -> tuple[bool, str]:
        return True, "It does nothing."

    def recommended(self) -> tuple[bool, str]:
        return True, "It does nothing."

    def build(self, context: StageContext, kind: PackageKind) -> StageResult:
        return self.work(context, kind)

    def push(self, context: StageContext, kind: PackageKind, built: Mapping[str, Any]) -> StageResult:
        return self.work(context, kind)

    def client_image(self, built: Mapping[str, Any], pushed: Mapping[str, Any]) -> dict[str, Any] | None:
        return None

    def launch(
        self, context: StageContext, built: Mapping[str, Any], pushed: Mapping[str, Any], spec: AggregatorSpec
    ) -> Handle:
        self.launched.append(spec)
        return {"stub": spec.run_id}

    def aggregator_find(self, run: Run) -> Handle | None:
        here = any(spec.attempt_id == run.attempt_id for spec in self.launched)
        return {"stub": run.pk} if here else None

    def watch(self, handle: Handle) -> None:
        self.watched.append(handle)

    def aggregator_state(self, handle: Handle) -> InstanceState:
        return self.state

    def stop_aggregator(self, handle: Handle) -> None:
        self.stopped.append(handle)

    def aggregators_find(self) -> list[FoundAggregator]:
        return self.found

    def clean(self, run: Run) -> None:
        self.cleaned.append(run.pk)

    def tidy(self) -> None:
        return
