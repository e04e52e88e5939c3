"""The checks, in the order of the page. Adding one: a module beside this one with a ``CHECK``, and its name here."""

from __future__ import annotations

from health.checks import backend, beat, broker, clock, database, disk, ingest, redis_server, static_files, worker
from health.checks.interface import Check

CHECKS: dict[str, Check] = {
    module.CHECK.name: module.CHECK
    for module in (database, clock, redis_server, broker, worker, beat, ingest, backend, disk, static_files)
}
