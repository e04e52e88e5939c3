"""Bulk writes of telemetry, in each database's fastest way. One module a database, all with the same functions.

Every function runs in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast

from django.db import connection

from runs.live.payloads import PointRow


class ReceiptKey(NamedTuple):
    """What makes a telemetry message the same as another."""

    run_id: int
    edge_id: int
    instance: str
    topic: str
    seq: int


@dataclass(slots=True)
class SeriesChange:
    """New points of a series: how many, and the latest of them."""

    series_id: int
    added: int
    step: float
    time: float
    value: float | None


class LogLineRow(NamedTuple):
    """A log line as it is stored."""

    id: int
    run_id: int
    reporter: str
    time: float
    stream: str
    level: str
    line: str


class Bulk(Protocol):
    """What a module of this package offers."""

    def receipts_insert(self, keys: Collection[ReceiptKey]) -> set[ReceiptKey]:
        """Store the receipts; return those that were not there before. Who writes the same ones waits."""

    def ids_reserve(self, table: str, count: int) -> Sequence[int]:
        """Return ``count`` ascending ids of a table that nobody else gets."""

    def points_insert(self, rows: Sequence[PointRow]) -> None:
        """Store points under their ids."""

    def series_update(self, changes: Sequence[SeriesChange]) -> None:
        """Add to the counts of series and bring their latest values up to date. The run's row must be locked."""

    def log_lines_insert(self, rows: Sequence[LogLineRow]) -> None:
        """Store log lines under their ids."""


def bulk() -> Bulk:
    """Return the functions for the database in use."""
    if connection.vendor == "postgresql":
        from runs.telemetry.bulk import postgresql

        return cast(Bulk, postgresql)
    from runs.telemetry.bulk import sqlite

    return cast(Bulk, sqlite)
