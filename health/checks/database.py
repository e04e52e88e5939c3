"""The database: is it reached, are all migrations applied, can it be written and read?"""

from __future__ import annotations

import secrets
import time
from datetime import timedelta

from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Q
from django.utils import timezone

from health.checks.interface import Check, Level, Outcome, milliseconds, some
from health.models import Probe

SLOW_SECONDS = 0.25


def ask() -> Outcome:
    """Connect, look for migrations that are not applied, then write a row, read it and remove it."""
    try:
        connection.ensure_connection()
        unapplied = _unapplied()
        if unapplied:
            return Outcome(
                Level.FAILED,
                "The database's tables are not those of this version.",
                fix="Stop the platform's processes, run `manage.py migrate`, and start them again.",
                facts=(*_where(), ("not applied", some(unapplied))),
            )
        seconds = _write_and_read()
    except Error as error:
        return Outcome(
            Level.FAILED,
            "The database cannot be used.",
            fix="Start the database, and see that ROUNDTABLE_DATABASE_URL names the right host, user and password, and "
            "that its disk has room.",
            facts=(*_where(), ("error", str(error).strip())),
        )
    facts = (*_where(), ("version", _version()), ("write and read", milliseconds(seconds)))
    if seconds > SLOW_SECONDS:
        return Outcome(
            Level.WARNING,
            f"A row was written and read in {milliseconds(seconds)}, which is slow.",
            fix="Look at the load and the disk of the database's machine; live pages fall behind with it.",
            facts=facts,
        )
    return Outcome(Level.OK, f"A row was written and read in {milliseconds(seconds)}.", facts=facts)


def _unapplied() -> list[str]:
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]


def _write_and_read() -> float:
    """Return how long writing, reading and removing a row took, in seconds."""
    began = time.perf_counter()
    token = secrets.token_hex(16)
    Probe.objects.create(token=token)
    Probe.objects.get(token=token)
    # Also what checks left behind that were killed.
    Probe.objects.filter(Q(token=token) | Q(written_at__lt=timezone.now() - timedelta(hours=1))).delete()
    return time.perf_counter() - began


def _where() -> tuple[tuple[str, str], ...]:
    values = connection.settings_dict
    if connection.vendor == "sqlite":
        return (("database", f"SQLite, {values['NAME']}"),)
    port = f":{values['PORT']}" if values["PORT"] else ""
    return (("database", f"{connection.display_name}, {values['NAME']} at {values['HOST'] or 'local socket'}{port}"),)


def _version() -> str:
    return ".".join(map(str, connection.get_database_version()))


CHECK = Check(
    name="database",
    title="Database",
    question="Are its tables up to date, and can it be written and read?",
    ask=ask,
)
