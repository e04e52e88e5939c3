"""Charts across runs and projects: who may ask, the binary form, relative times, and the cache."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
import pytest
from django.test import Client
from pytest_django import Settings

from runs.models import Membership, Point, Role, Run, Series, ValueFlag
from runs.telemetry.packing import series_pack
from runs.tests.rows import run_end, run_make, user_make
from runs.views import chart_answer

pytestmark = pytest.mark.django_db

URL = "/charts/points"
STARTED = 1_700_000_000.0


def series_make(run: Run, values: list[float], name: str = "loss") -> Series:
    series = Series.objects.create(run=run, edge_id=0, name=name, count=len(values))
    flags = {math.inf: ValueFlag.POSITIVE_INFINITY, -math.inf: ValueFlag.NEGATIVE_INFINITY}
    Point.objects.bulk_create(
        Point(
            series=series,
            step=step,
            round=None if step % 2 else step // 10,
            time=STARTED + 2 * step + 5,
            value=value if math.isfinite(value) else None,
            flag=0 if math.isfinite(value) else flags.get(value, ValueFlag.NAN),
        )
        for step, value in enumerate(values)
    )
    return series


@pytest.fixture
def runs() -> list[Run]:
    ada = user_make("ada")
    started = datetime.fromtimestamp(STARTED, UTC)
    return [run_make(user=ada, devices=0, started_at=started) for _ in range(2)]


@pytest.fixture
def member(runs: list[Run], client: Client) -> Client:
    assert runs[0].created_by is not None
    client.force_login(runs[0].created_by)
    return client


@pytest.fixture
def answers_made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Each answer that was read from the database."""
    made: list[Any] = []
    make = chart_answer.answer_make

    def counted(*arguments: Any) -> bytes:
        made.append(arguments[0])
        return make(*arguments)

    monkeypatch.setattr(chart_answer, "answer_make", counted)
    return made


def ask(client: Client, *series: Series, headers: Any = None, **query: Any) -> Any:
    ids = ",".join(str(one.pk) for one in series)
    return client.get(URL, {"series": ids, **query}, headers=headers)


def binary(response: Any) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Read the binary form as the description has it."""
    content = response.content
    end = content.index(b"\n") + 1
    assert end % 8 == 0
    head = orjson.loads(content[:end])
    total = sum(count for _, count in head["series"])
    numbers = np.frombuffer(content, "<f8", offset=end)
    assert len(numbers) == total * len(head["columns"])
    columns = {name: numbers[place * total :][:total].tolist() for place, name in enumerate(head["columns"])}
    return head, columns


def test_series_of_several_runs_are_answered_together(member: Client, runs: list[Run]) -> None:
    first, second = series_make(runs[0], [1.0, 2.0]), series_make(runs[1], [3.0, 4.0])
    points = orjson.loads(ask(member, second, first, **{"from": "1"}).content)["points"]
    assert {key: columns["value"] for key, columns in points.items()} == {str(first.pk): [2.0], str(second.pk): [4.0]}


def test_one_series_that_is_not_the_users_hides_the_answer(member: Client, runs: list[Run]) -> None:
    mine, foreign = series_make(runs[0], [1.0]), series_make(run_make(devices=0), [2.0])
    assert ask(member, mine).status_code == 200
    assert ask(member, mine, foreign).status_code == 404
    assert ask(member, foreign).status_code == 404
    foreign.pk += 1_000
    assert ask(member, mine, foreign).status_code == 404
    assert member.post(URL).status_code == 405
    viewer = user_make("vera")
    Membership.objects.create(project=runs[0].project, user=viewer, role=Role.VIEWER)
    member.force_login(viewer)
    assert ask(member, mine).status_code == 200
    assert ask(member, series_make(runs[1], [1.0])).status_code == 404
    member.logout()
    assert ask(member, mine).status_code == 302


@pytest.mark.parametrize("packed", [False, True])
def test_the_binary_form_holds_the_same_points(member: Client, runs: list[Run], packed: bool) -> None:
    series = [series_make(run, [0.5, math.nan, math.inf, -math.inf, 1e300], str(run.pk)) for run in runs]
    for one in series if packed else []:
        assert series_pack(one.pk, whole=True) == 5
    response = ask(member, *series, format="binary", columns="round,time")
    assert response.headers["Content-Type"] == chart_answer.BINARY_TYPE
    head, columns = binary(response)
    assert head == {
        "x": "step",
        "columns": ["x", "value", "round", "time"],
        "series": [[series[0].pk, 5], [series[1].pk, 5]],
    }
    assert columns["x"] == [0, 1, 2, 3, 4] * 2
    assert repr(columns["value"]) == repr([0.5, math.nan, math.inf, -math.inf, 1e300] * 2)
    assert repr(columns["round"]) == repr([0.0, math.nan, 0.0, math.nan, 0.0] * 2)
    assert columns["time"] == [STARTED + 2 * step + 5 for step in range(5)] * 2


@pytest.mark.parametrize("packed", [False, True])
def test_relative_times_count_from_the_start_of_each_run(member: Client, runs: list[Run], packed: bool) -> None:
    Run.objects.filter(pk=runs[1].pk).update(started_at=datetime.fromtimestamp(STARTED + 4, UTC))
    series = [series_make(run, [1.0, 2.0, 3.0, 4.0]) for run in runs]
    for one in series if packed else []:
        series_pack(one.pk, whole=True)
    window = {"x": "relative", "from": "5", "to": "7"}
    answer = orjson.loads(ask(member, *series, **window).content)
    assert answer["origins"] == {str(series[0].pk): STARTED, str(series[1].pk): STARTED + 4}
    assert [answer["points"][str(one.pk)]["value"] for one in series] == [[1.0, 2.0], [3.0, 4.0]]
    head, columns = binary(ask(member, *series, format="binary", **window))
    assert (head["x"], columns["x"], columns["value"]) == ("relative", [5, 7, 5, 7], [1, 2, 3, 4])


def test_all_series_together_have_a_limit(member: Client, runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chart_answer, "ANSWER_POINTS", 60)
    series = [series_make(run, [float(step % 17) for step in range(300)], str(run.pk)) for run in runs]
    points = orjson.loads(ask(member, *series, width="4000").content)["points"]
    assert [15 <= len(columns["id"]) <= 30 for columns in points.values()] == [True, True]
    alone = orjson.loads(ask(member, series[0], width="4000").content)["points"][str(series[0].pk)]
    assert 30 <= len(alone["id"]) <= 60


@pytest.mark.parametrize(
    "query", [{"format": "xml"}, {"columns": "value"}, {"columns": "id;x"}, {"x": "wall"}, {"width": "7"}]
)
def test_a_bad_question_is_refused(member: Client, runs: list[Run], query: dict[str, str]) -> None:
    response = ask(member, series_make(runs[0], [1.0]), **query)
    assert response.status_code == 400
    assert response.content


def test_an_answer_is_made_once_until_the_run_has_news(
    member: Client, runs: list[Run], redis_url: str, answers_made: list[Any]
) -> None:
    series = series_make(runs[0], [float(step) for step in range(200)])
    run_end(runs[0])
    first = ask(member, series)
    assert first.headers["Cache-Control"] == "private, no-cache"
    assert ask(member, series).content == first.content
    assert len(answers_made) == 1
    packed = ask(member, series, headers={"accept-encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert ask(member, series, headers={"if-none-match": first.headers["ETag"]}).status_code == 304
    assert len(answers_made) == 2
    ask(member, series, width="8")
    assert len(answers_made) == 3
    Run.objects.filter(pk=runs[0].pk).update(frame_number=7)
    assert ask(member, series, headers={"if-none-match": first.headers["ETag"]}).status_code == 200
    assert len(answers_made) == 4


def test_without_redis_every_answer_is_made(
    member: Client, runs: list[Run], answers_made: list[Any], settings: Settings
) -> None:
    backend = "django.core.cache.backends.redis.RedisCache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": "redis://127.0.0.1:1/0"}}
    series = series_make(runs[0], [1.0])
    assert [ask(member, series).status_code for _ in range(2)] == [200, 200]
    assert len(answers_made) == 2
