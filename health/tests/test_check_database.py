"""The check of the database, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from health.checks import clock, database
from health.checks.interface import Level
from health.models import Probe
from runs.tests.postgresql import PostgresqlServer, django_on_postgresql, migrate, postgresql_programs


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgresqlServer]:
    if postgresql_programs() is None:
        pytest.fail("PostgreSQL is missing. Type: apt-get install postgresql")
    server = PostgresqlServer()
    try:
        with server:
            server.database_make()
            yield server
    finally:
        server.remove()


@pytest.mark.django_db
def test_it_writes_reads_and_leaves_nothing() -> None:
    left_behind = Probe.objects.create(token="old", written_at=timezone.now() - timedelta(hours=2))
    of_another = Probe.objects.create(token="new")
    outcome = database.ask()
    assert outcome.level is Level.OK
    assert outcome.text.startswith("A row was written and read in ")
    assert dict(outcome.facts)["database"].startswith("SQLite, ")
    assert list(Probe.objects.all()) == [of_another]
    assert left_behind not in Probe.objects.all()


@pytest.mark.django_db
def test_it_finds_a_migration_that_is_not_applied() -> None:
    MigrationRecorder(connection).record_unapplied("health", "0001_initial")
    outcome = database.ask()
    assert outcome.level is Level.FAILED
    assert dict(outcome.facts)["not applied"] == "health.0001_initial"
    assert "`manage.py migrate`" in outcome.fix


@pytest.mark.django_db
def test_it_warns_of_a_slow_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "SLOW_SECONDS", 0.0)
    outcome = database.ask()
    assert outcome.level is Level.WARNING
    assert outcome.text.endswith("which is slow.")


@pytest.mark.django_db
def test_postgresql_is_checked_and_its_absence_found(postgresql: PostgresqlServer) -> None:
    with django_on_postgresql(postgresql):
        unmigrated = database.ask()
        migrate()
        healthy = database.ask()
        agreeing = clock.ask()
        postgresql.stop()
        connection.close()
        away, timeless = database.ask(), clock.ask()
    assert unmigrated.level is Level.FAILED
    assert unmigrated.text == "The database's tables are not those of this version."
    assert healthy.level is Level.OK
    assert dict(healthy.facts)["database"] == f"PostgreSQL, roundtable at 127.0.0.1:{postgresql.port}"
    assert agreeing.level is Level.OK
    assert agreeing.text == "This machine and the database agree on the time."
    assert (away.level, away.text) == (Level.FAILED, "The database cannot be used.")
    assert "Connection refused" in dict(away.facts)["error"]
    assert (timeless.level, timeless.text) == (Level.FAILED, "The database does not tell its time.")
