"""The entry command of each reporter of a run, with every expression resolved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from configurations.models import Configuration
from runs.models import Project, Run

if TYPE_CHECKING:
    from configurations.expressions import RenderedEntry


def run_render(run: Run, edge_id: int) -> RenderedEntry:
    raise NotImplementedError


def run_preview(
    *,
    project: Project,
    user: Any,
    configuration: Configuration,
    device_ids: Iterable[int],
    overrides: Mapping[str, Any] | None = None,
) -> list[tuple[str, list[str]]]:
    raise NotImplementedError
