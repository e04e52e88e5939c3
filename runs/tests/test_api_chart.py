"""Zooming into charts, and the log as a file."""

from __future__ import annotations

import gzip
from typing import Any

import orjson
import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient, Client

from runs.models import LogLine, Point, Run, Series
from runs.tests.rows import run_make, user_make
from runs.views import run_log_file

pytestmark = pytest.mark.django_db


@pytest.fixture
def run() -> Run:
    return run_make(user=user_make("ada"))


@pytest.fixture
def member(run: Run, client: Client) -> Client:
    assert run.created_by is not None
    client.force_login(run.created_by)
    return client


@pytest.fixture
def series(run: Run) -> Series:
    series = Series.objects.create(run=run, edge_id=0, name="loss", count=100)
    Point.objects.bulk_create(
        [Point(series=series, step=step, round=None, time=1000 + step, value=step / 10) for step in range(100)]
    )
    return series


def test_a_window_is_answered_with_its_points(member: Client, run: Run, series: Series) -> None:
    url = f"/runs/{run.pk}/chart"
    response = member.get(url, {"series": str(series.pk), "from": "10", "to": "12"})
    columns = orjson.loads(response.content)["points"][str(series.pk)]
    assert (columns["step"], columns["value"]) == ([10, 11, 12], [1.0, 1.1, 1.2])
    response = member.get(url, {"series": f"{series.pk},{series.pk + 1}", "x": "time", "from": "1098"})
    assert list(orjson.loads(response.content)["points"]) == [str(series.pk)]
    assert orjson.loads(response.content)["points"][str(series.pk)]["step"] == [98, 99]
    packed = member.get(url, {"series": series.pk}, headers={"accept-encoding": "gzip"})
    assert len(orjson.loads(gzip.decompress(packed.content))["points"][str(series.pk)]["id"]) == 100


def test_nothing_new_is_not_sent_again(member: Client, run: Run, series: Series) -> None:
    url = f"/runs/{run.pk}/chart?series={series.pk}"
    etag = member.get(url).headers["ETag"]
    again = member.get(url, headers={"if-none-match": etag})
    assert (again.status_code, again.content) == (304, b"")
    Run.objects.filter(pk=run.pk).update(frame_number=5)
    assert member.get(url, headers={"if-none-match": etag}).status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"series": "a"},
        {"series": ",".join(["1"] * 201)},
        {"series": "1", "x": "value; DROP TABLE"},
        {"series": "1", "from": "nan"},
        {"series": "1", "to": "x"},
        {"series": "1", "width": "7"},
        {"series": "1", "width": "4001"},
        {"series": "1", "width": "1e3"},
    ],
)
def test_a_bad_question_is_refused(member: Client, run: Run, query: dict[str, str]) -> None:
    response = member.get(f"/runs/{run.pk}/chart", query)
    assert response.status_code == 400
    assert response.content


def test_points_and_lines_are_for_members_alone(client: Client, run: Run, series: Series) -> None:
    for url in (f"/runs/{run.pk}/chart?series={series.pk}", f"/runs/{run.pk}/log"):
        client.logout()
        assert client.get(url).status_code == 302
        client.force_login(user_make())
        assert client.get(url).status_code == 404
        assert client.post(url).status_code == 405


def test_points_of_another_run_are_not_given(member: Client, run: Run) -> None:
    other = Series.objects.create(run=run_make(), edge_id=0, name="secret", count=1)
    response = member.get(f"/runs/{run.pk}/chart?series={other.pk}")
    assert orjson.loads(response.content)["points"] == {}


def test_the_log_is_a_text_file(member: Client, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_log_file, "LINES_AT_ONCE", 2)
    for number, reporter in enumerate(["server", "edge:3", "server"]):
        LogLine.objects.create(run=run, reporter=reporter, time=number, stream="stdout", line=f"line {number}\nforged")
    response: Any = member.get(f"/runs/{run.pk}/log")
    assert b"".join(response.streaming_content).decode() == (
        "1970-01-01T00:00:00.000+00:00 server stdout line 0\\nforged\n"
        "1970-01-01T00:00:01.000+00:00 edge:3 stdout line 1\\nforged\n"
        "1970-01-01T00:00:02.000+00:00 server stdout line 2\\nforged\n"
    )
    response = member.get(f"/runs/{run.pk}/log?reporter=edge:3")
    assert b"".join(response.streaming_content).count(b"\n") == 1
    assert response.headers["Content-Disposition"] == f'attachment; filename="run-{run.pk}-edge-3.log"'
    assert member.get(f"/runs/{run.pk}/log?reporter=../x").status_code == 404


@pytest.mark.django_db(transaction=True)
async def test_the_log_is_sent_page_by_page_under_asgi(async_client: AsyncClient) -> None:
    @sync_to_async
    def prepare() -> Run:
        user = user_make("grace")
        made = run_make(user=user)
        for number in range(3):
            LogLine.objects.create(run=made, reporter="server", time=number, stream="stdout", line="x")
        return made

    made = await prepare()
    assert made.created_by is not None
    await async_client.aforce_login(made.created_by)
    response: Any = await async_client.get(f"/runs/{made.pk}/log")
    text = "".join([part.decode() async for part in response.streaming_content])
    assert text.count("server stdout x\n") == 3
