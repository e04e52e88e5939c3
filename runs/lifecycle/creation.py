"""Making a run: a frozen copy of a configuration, and the devices that take part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from configurations.models import Configuration
from runs.models import Project, Run


def run_create(
    *,
    project: Project,
    user: Any,
    configuration: Configuration,
    device_ids: Iterable[int],
    name: str = "",
    overrides: Mapping[str, Any] | None = None,
    limits: Mapping[str, Any] | None = None,
    backend: str | None = None,
) -> Run:
    raise NotImplementedError
