"""Log lines asked for by the Logs tab."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from runs.models import LogLine, Run
from runs.tests.rows import run_make, user_make

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> User:
    return user_make("ada")


@pytest.fixture
def run(ada: User) -> Run:
    return run_make(user=ada)


def write(run: Run, *lines: tuple[str, str, str]) -> list[int]:
    """Store lines (reporter, level, text) and return their ids."""
    return [
        LogLine.objects.create(
            run=run, reporter=reporter, time=float(number), stream="stdout", level=level, line=text
        ).pk
        for number, (reporter, level, text) in enumerate(lines)
    ]


def ask(user: User, run: Run, **query: Any) -> Any:
    client = Client()
    client.force_login(user)
    return client.get(reverse("run_log_lines", args=[run.pk]), query)


def texts(user: User, run: Run, **query: Any) -> list[str]:
    return [line[5] for line in ask(user, run, **query).json()["lines"]]


def test_lines_come_in_the_order_in_which_they_arrived(ada: User, run: Run) -> None:
    first, second = write(run, ("server", "INFO", "one"), ("edge:1", "", "two"))
    assert ask(ada, run).json() == {
        "lines": [
            [first, "server", 0.0, "stdout", "INFO", "one"],
            [second, "edge:1", 1.0, "stdout", "", "two"],
        ],
        "more": False,
    }


def test_a_run_without_lines_has_none(ada: User, run: Run) -> None:
    assert ask(ada, run).json() == {"lines": [], "more": False}


def test_lines_are_chosen_by_reporter_text_and_level(ada: User, run: Run) -> None:
    write(
        run,
        ("server", "DEBUG", "Loss 1"),
        ("server", "ERROR", "lost 100% of_it"),
        ("edge:1", "WARNING", "loss 2"),
        ("edge:1", "", "loss 3"),
    )
    assert texts(ada, run, reporter="edge:1") == ["loss 2", "loss 3"]
    assert texts(ada, run, q="LOSS") == ["Loss 1", "loss 2", "loss 3"]
    assert texts(ada, run, q="100%") == ["lost 100% of_it"]
    assert texts(ada, run, q="l_ss") == []
    assert texts(ada, run, level="WARNING") == ["lost 100% of_it", "loss 2"]
    assert texts(ada, run, level="INFO", reporter="server", q="lost") == ["lost 100% of_it"]


def test_older_lines_come_a_thousand_at_a_time(ada: User, run: Run) -> None:
    ids = write(run, *(("server", "", str(number)) for number in range(1_005)))
    last = ask(ada, run).json()
    assert ([line[5] for line in last["lines"]], last["more"]) == ([str(number) for number in range(5, 1_005)], True)
    older = ask(ada, run, before=ids[5]).json()
    assert ([line[5] for line in older["lines"]], older["more"]) == (["0", "1", "2", "3", "4"], False)


def test_lines_of_other_runs_stay_out(ada: User, run: Run) -> None:
    write(run_make(user=ada), ("server", "", "elsewhere"))
    assert texts(ada, run) == []


@pytest.mark.parametrize("query", [{"level": "LOUD"}, {"before": "x"}, {"before": "-1"}, {"before": "9" * 40}])
def test_a_query_that_makes_no_sense_is_refused(ada: User, run: Run, query: dict[str, str]) -> None:
    assert ask(ada, run, **query).status_code == 400


def test_a_search_is_counted_where_that_is_asked_for(ada: User, run: Run) -> None:
    write(run, ("server", "INFO", "loss 1"), ("server", "", "other"), ("edge:1", "ERROR", "loss 2"))
    assert ask(ada, run, q="loss", count="1").json()["count"] == {"lines": 2, "more": False}
    assert ask(ada, run, count="1").json()["count"] == {"lines": 3, "more": False}
    assert "count" not in ask(ada, run, q="loss").json()


def test_lines_are_chosen_by_their_time_both_ends_included(ada: User, run: Run) -> None:
    write(run, *(("server", "", f"line {number}") for number in range(5)))
    assert texts(ada, run, since="1", until="3.0") == ["line 1", "line 2", "line 3"]
    assert texts(ada, run, since="4.5") == []


def test_later_lines_come_first_after_an_id(ada: User, run: Run) -> None:
    ids = write(run, *(("server", "", f"line {number}") for number in range(205)))
    page = ask(ada, run, q="line", after=ids[1]).json()
    assert ([line[0] for line in page["lines"]], page["more"]) == (ids[2:202], True)
    page = ask(ada, run, q="line", after=ids[201], before=ids[204]).json()
    assert ([line[0] for line in page["lines"]], page["more"]) == (ids[202:204], False)


@pytest.mark.parametrize(
    "query", [{"since": "soon"}, {"until": "nan"}, {"after": "-1"}, {"limit": "many"}, {"q": "x" * 501}]
)
def test_a_search_that_makes_no_sense_is_refused(ada: User, run: Run, query: dict[str, str]) -> None:
    assert ask(ada, run, **query).status_code == 400


def test_a_stranger_finds_nothing(run: Run) -> None:
    write(run, ("server", "", "secret"))
    assert ask(user_make("mallory"), run, q="secret").status_code == 404


def test_no_more_lines_come_than_are_asked_for(ada: User, run: Run) -> None:
    ids = write(run, *(("server", "ERROR" if number % 2 else "INFO", str(number)) for number in range(6)))
    answer = ask(ada, run, after=ids[1], limit=2).json()
    assert ([line[5] for line in answer["lines"]], answer["more"]) == (["2", "3"], True)
    assert texts(ada, run, before=ids[4], level="ERROR", limit=1) == ["3"]
    assert texts(ada, run, after=ids[5]) == []


def errors(user: User, run: Run) -> Any:
    client = Client()
    client.force_login(user)
    return client.get(reverse("run_log_errors", args=[run.pk])).json()


def test_errors_that_differ_in_numbers_alone_are_of_one_group(ada: User, run: Run) -> None:
    ids = write(
        run,
        ("edge:1", "ERROR", "2026-01-02 03:04:05,678 ERROR out of memory: tried to allocate 12.5 MiB at 0x7fe1"),
        ("edge:2", "INFO", "all is well"),
        ("edge:2", "ERROR", "2026-01-02 03:04:09,111 ERROR out of memory: tried to allocate 800 MiB at 0x11"),
        ("server", "ERROR", "ERROR no answer of device 3"),
    )
    write(run_make(user=ada), ("server", "ERROR", "elsewhere"))
    answer = errors(ada, run)
    assert (answer["total"], answer["more"]) == (3, False)
    assert [(group["count"], group["reporters"], group["last_id"]) for group in answer["groups"]] == [
        (1, ["server"], ids[3]),
        (2, ["edge:2", "edge:1"], ids[2]),
    ]
    assert (answer["groups"][1]["first_time"], answer["groups"][1]["last_time"]) == (0.0, 2.0)
    assert answer["groups"][1]["line"].endswith("tried to allocate 800 MiB at 0x11")


def test_strangers_find_no_errors(run: Run) -> None:
    client = Client()
    client.force_login(user_make("stranger"))
    assert client.get(reverse("run_log_errors", args=[run.pk])).status_code == 404
