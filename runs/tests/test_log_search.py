"""Searching log lines: every way of finding them finds the same, on both databases."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from runs import log_search
from runs.log_search import LogQuery, Row, lines_count, lines_matching, lines_page, trigrams
from runs.models import LogLine, Run
from runs.telemetry.bulk import LogLineRow, bulk
from runs.tests.postgresql import PostgresqlServer, django_on_postgresql, empty_tables, migrate, postgresql_programs
from runs.tests.rows import run_make

WORDS = [
    "loss",
    "Loss",
    "100%",
    "a_b",
    "c\\d",
    'say "hi"',
    "NEAR(x y)",
    "Größe",
    "round",
    "OR",
    "*",
    "日本語の行",
    "-x:",
]


@pytest.fixture(scope="module")
def postgresql(django_db_blocker: Any) -> Iterator[PostgresqlServer]:
    if postgresql_programs() is None:
        pytest.skip("PostgreSQL is not installed")
    server = PostgresqlServer()
    server.start()
    try:
        server.database_make()
        with django_db_blocker.unblock(), django_on_postgresql(server):
            migrate()
        yield server
    finally:
        server.stop()
        server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, django_db_blocker: Any) -> Iterator[str]:
    if request.param == "sqlite":
        request.getfixturevalue("db")
        yield "sqlite"
        return
    server = request.getfixturevalue("postgresql")
    with django_db_blocker.unblock(), django_on_postgresql(server):
        yield "postgresql"
        empty_tables()


@pytest.fixture(params=["few lines", "many lines"])
def scale(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Take the ways that are for many lines with few."""
    if request.param == "many lines":
        monkeypatch.setattr(log_search, "FEW_LINES", 3)
        monkeypatch.setattr(log_search, "LATEST_LINES", 7)
        monkeypatch.setattr(log_search, "_AT_ONCE", 5)
    return str(request.param)


def write(run: Run, texts: list[str], *, seed: int = 1) -> list[Row]:
    """Store lines the way that ingest does; return them as a search answers them."""
    chance = random.Random(seed)  # noqa: S311
    ids = bulk().ids_reserve("runs_logline", len(texts))
    rows = [
        LogLineRow(
            line_id, run.pk, chance.choice(["server", "edge:1"]), float(place), "stdout",
            chance.choice(["", "INFO", "WARNING", "ERROR"]), text,
        )
        for place, (line_id, text) in enumerate(zip(ids, texts, strict=True))
    ]  # fmt: skip
    bulk().log_lines_insert(rows)
    return [(row.id, *row[2:]) for row in rows]


def expected(rows: list[Row], query: LogQuery) -> list[Row]:
    levels = log_search.LEVELS[log_search.LEVELS.index(query.level) :] if query.level else None
    return [
        row
        for row in rows
        if (query.text.lower() in row[5].lower())
        and (not query.reporter or row[1] == query.reporter)
        and (levels is None or row[4] in levels)
        and (query.since is None or row[2] >= query.since)
        and (query.until is None or row[2] <= query.until)
    ]


def test_a_line_has_its_trigrams() -> None:
    assert trigrams("abcd") == ["abc", "bcd"]
    assert trigrams("ab") == []


@pytest.mark.usefixtures("database", "scale")
def test_every_search_finds_what_is_there_page_by_page() -> None:
    run, other = run_make(devices=0), run_make(devices=0)
    chance = random.Random(7)  # noqa: S311
    texts = [" ".join(chance.choices(WORDS, k=3)) for _ in range(60)]
    rows = write(run, texts[:30])
    write(other, texts)
    rows += write(run, texts[30:], seed=2)
    queries = [LogQuery(text=text) for text in ["", "a", *WORDS, "LOSS", "loss 100%", "nowhere", "s l"]]
    queries += [LogQuery(text="loss", level="WARNING"), LogQuery(text="loss", reporter="edge:1", level="ERROR")]
    queries += [LogQuery(level="ERROR"), LogQuery(level="WARNING", reporter="server"), LogQuery(level="INFO")]
    queries += [LogQuery(text="loss", since=5.0, until=20.0), LogQuery(since=5.0, until=20.0, level="WARNING")]
    queries += [LogQuery(since=1e9)]
    for query in queries:
        wanted = expected(rows, query)
        assert sorted(lines_matching(run.pk, query).values_list("pk", flat=True)) == [row[0] for row in wanted]
        assert lines_count(run.pk, query) == (len(wanted), False), query
        backwards: list[Row] = []
        page = lines_page(run.pk, query, limit=4)
        backwards[:0] = page.lines
        while page.more:
            page = lines_page(run.pk, query, limit=4, before=page.lines[0][0])
            backwards[:0] = page.lines
        assert backwards == wanted, query
        forwards: list[Row] = []
        page = lines_page(run.pk, query, limit=4, after=0)
        forwards += page.lines
        while page.more:
            page = lines_page(run.pk, query, limit=4, after=page.lines[-1][0])
            forwards += page.lines
        assert forwards == wanted, query


@pytest.mark.usefixtures("database")
def test_a_text_without_trigrams_is_looked_for_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_search, "FEW_LINES", 3)
    monkeypatch.setattr(log_search, "WALK_LINES", 10)
    run = run_make(devices=0)
    rows = write(run, ["xy", *["nothing"] * 24])
    page = lines_page(run.pk, LogQuery(text="xy"), limit=4)
    assert (page.lines, page.more, page.next_id) == ([], True, rows[15][0])
    page = lines_page(run.pk, LogQuery(text="xy"), limit=4, before=page.next_id)
    assert (page.lines, page.next_id) == ([], rows[5][0])
    page = lines_page(run.pk, LogQuery(text="xy"), limit=4, before=page.next_id)
    assert (page.lines, page.more, page.next_id) == (rows[:1], False, None)
    assert lines_count(run.pk, LogQuery(text="xy")) == (0, True)


@pytest.mark.usefixtures("database")
def test_more_than_a_bound_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_search, "COUNT_MAX", 5)
    monkeypatch.setattr(log_search, "FEW_LINES", 3)
    run = run_make(devices=0)
    write(run, ["loss"] * 5)
    assert lines_count(run.pk, LogQuery(text="loss")) == (5, False)
    write(run, ["loss"])
    assert lines_count(run.pk, LogQuery(text="loss")) == (5, True)
    assert lines_count(run.pk, LogQuery()) == (5, True)


@pytest.mark.usefixtures("database", "scale")
def test_deleted_and_changed_lines_are_found_as_they_are() -> None:
    run = run_make(devices=0)
    rows = write(run, ["first loss", "second loss", "third loss", "fourth loss"])
    LogLine.objects.filter(pk=rows[0][0]).delete()
    LogLine.objects.filter(pk=rows[1][0]).update(line="changed")
    LogLine.objects.create(run=run, reporter="server", time=time.time(), stream="stdout", level="", line="fifth loss")
    found = lines_page(run.pk, LogQuery(text="loss"), limit=10).lines
    assert [row[5] for row in found] == ["third loss", "fourth loss", "fifth loss"]
    assert [row[5] for row in lines_page(run.pk, LogQuery(text="chang"), limit=10).lines] == ["changed"]
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO runs_logline_search(runs_logline_search, rank) VALUES ('integrity-check', 1)")
