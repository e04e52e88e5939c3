"""The spans of rounds, and the figure below them, as the Timeline tab asks for them."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from runs.models import Event, Run
from runs.telemetry.series import SeriesBook
from runs.telemetry.storage import reports_store
from runs.telemetry.topics import Kind
from runs.tests.rows import INSTANCE, edges, report, run_make, user_make

pytestmark = pytest.mark.django_db


@pytest.fixture
def run() -> Run:
    return run_make(user=user_make("ada"), devices=2)


@pytest.fixture
def ada(run: Run, client: Client) -> Client:
    assert run.created_by is not None
    client.force_login(run.created_by)
    return client


def span(run: Run, edge_id: int, name: str, value: str, started: float | None, ended: float | None) -> None:
    Event.objects.create(run=run, edge_id=edge_id, name=name, value=value, started_time=started, ended_time=ended)


def timeline(client: Client, run: Run, first: int, last: int) -> Any:
    response = client.get(f"/runs/{run.pk}/timeline", {"first": first, "last": last})
    assert response.status_code == 200
    return response.json()


def test_it_has_the_spans_of_the_rounds_asked_for(
    ada: Client, run: Run, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    one, _ = edges(run)
    span(run, 0, "wait", "0", 10.0, 20.0)
    span(run, one, "train", "0", 11.0, 15.0)
    span(run, one, "train", "1", 21.0, None)
    span(run, one, "train", "2", 31.0, 35.0)
    span(run_make(devices=1), one, "train", "1", 21.0, 22.0)
    with django_assert_num_queries(6):
        answer = timeline(ada, run, 0, 1)
    assert answer == {
        "events": [[0, "wait", "0", 10.0, 20.0], [one, "train", "0", 11.0, 15.0], [one, "train", "1", 21.0, None]],
        "more": False,
        "figures": [],
    }


def test_it_has_the_spans_without_a_round_that_began_meanwhile(ada: Client, run: Run) -> None:
    span(run, 0, "wait", "3", 10.0, 20.0)
    span(run, 0, "checkpoint", "", 15.0, 16.0)
    span(run, 0, "checkpoint", "late", 25.0, 26.0)
    assert timeline(ada, run, 3, 3)["events"] == [[0, "wait", "3", 10.0, 20.0], [0, "checkpoint", "", 15.0, 16.0]]


@pytest.mark.parametrize("query", ["", "first=0", "first=0&last=100", "first=3&last=2", "first=x&last=2"])
def test_it_says_what_is_wrong_with_the_rounds(ada: Client, run: Run, query: str) -> None:
    response = ada.get(f"/runs/{run.pk}/timeline?{query}")
    assert response.status_code == 400
    assert "round" in response.text


def test_the_figure_comes_by_reporter_and_the_processor_is_first(ada: Client, run: Run) -> None:
    one, two = edges(run)
    reports = [
        report(run, edge_id, Kind.SYSTEM, {"instance": INSTANCE, "seq": seq, "time": 100.0 + seq, **figures})
        for edge_id in (one, two)
        for seq, figures in enumerate(
            [{"cpu_utilization": 5.0, "gpu.0.utilization": 7.0, "disk_utilization": 1.0}, {"cpu_utilization": 9.0}], 1
        )
    ]
    reports_store(reports, SeriesBook())
    figures = timeline(ada, run, 0, 0)["figures"]
    assert [figure["name"] for figure in figures] == ["cpu_utilization", "gpu.0.utilization", "disk_utilization"]
    assert figures[0] == {"name": "cpu_utilization", "title": "CPU", "unit": "%"}
    response = ada.get(f"/runs/{run.pk}/timeline/curve?name=cpu_utilization&from=101.5&to=200")
    assert response.json() == {
        "curves": {str(one): {"time": [102.0], "value": [9.0]}, str(two): {"time": [102.0], "value": [9.0]}}
    }
    assert ada.get(f"/runs/{run.pk}/timeline/curve?name=unknown&from=0&to=1").json() == {"curves": {}}
    assert ada.get(f"/runs/{run.pk}/timeline/curve?name=cpu_utilization&from=nan&to=1").status_code == 400


@pytest.mark.parametrize("path", ["timeline?first=0&last=1", "timeline/curve?name=cpu_utilization&from=0&to=1"])
def test_who_may_not_see_the_run_finds_nothing(client: Client, run: Run, path: str) -> None:
    assert client.get(f"/runs/{run.pk}/{path}").status_code == 302
    client.force_login(user_make("stranger"))
    assert client.get(f"/runs/{run.pk}/{path}").status_code == 404
    assert client.post(f"/runs/{run.pk}/{path}").status_code == 405
