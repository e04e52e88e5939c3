"""The checks, in the order of the page. Adding one: a module beside this one with a ``CHECK``, and its name here."""

from __future__ import annotations

from health.checks import (
    backend,
    beat,
    broker,
    builder,
    clock,
    database,
    disk,
    engine,
    ingest,
    redis_server,
    registry,
    static_files,
    worker,
)
from health.checks.interface import Check

_MODULES = (
    database,
    clock,
    redis_server,
    broker,
    worker,
    builder,
    beat,
    ingest,
    backend,
    engine,
    registry,
    disk,
    static_files,
)
CHECKS: dict[str, Check] = {module.CHECK.name: module.CHECK for module in _MODULES}
