"""Runs of a project beside each other."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client

from runs.comparison import best_run, parameter_rows
from runs.models import Run
from runs.telemetry.series import SeriesBook
from runs.telemetry.storage import reports_store
from runs.telemetry.topics import Kind
from runs.tests.rows import metrics, report, run_make, user_make

pytestmark = pytest.mark.django_db


def run_with(first: Run | None, name: str, lr: float, result: float) -> Run:
    """A run in the project of the first, with one reported accuracy a round."""
    copy = {
        "model_config": [{"name": "model", "type": "string", "value": "lr"}],
        "hyperparameters_config": [{"name": "lr", "type": "float", "value": lr}],
    }
    run = run_make(devices=1, configuration_copy=copy, user=first.created_by if first else user_make("ada"))
    project = first.project if first else run.project
    best = {"name": "accuracy", "value": result, "round": 1}
    Run.objects.filter(pk=run.pk).update(project=project, name=name, best_metric=best)
    reports_store(
        [report(run, 0, Kind.METRICS, metrics(1, ("accuracy", 0, 0.5, 0), ("accuracy", 1, result, 1)))], SeriesBook()
    )
    run.refresh_from_db()
    return run


@pytest.fixture
def two() -> list[Run]:
    first = run_with(None, "slow <b>", 0.01, 0.75)
    return [first, run_with(first, "fast", 0.1, 0.9)]


def test_it_overlays_the_curves_and_says_what_differs(two: list[Run], client: Client) -> None:
    assert two[0].created_by is not None
    client.force_login(two[0].created_by)
    page = client.get(f"/projects/{two[0].project_id}/compare/", {"run": [run.pk for run in two]})
    figures: dict[str, Any] = json.loads(page.context["figures"])
    assert [(trace["name"], trace["x"], trace["y"]) for trace in figures["curves"][0]["data"]] == [
        ("slow &lt;b>", [1, 2], [0.5, 0.75]),
        ("fast", [1, 2], [0.5, 0.9]),
    ]
    parallel, scatter = figures["parameters"]
    assert [(trace["x"], trace["y"], trace["text"]) for trace in parallel["data"]] == [
        (["lr", "accuracy"], [0.0, 0.0], ["0.01", "0.75"]),
        (["lr", "accuracy"], [1.0, 1.0], ["0.1", "0.9"]),
    ]
    assert [(trace["x"], trace["y"]) for trace in scatter["data"]] == [([0.01], [0.75]), ([0.1], [0.9])]
    assert [(row.name, row.texts, row.differs) for row in parameter_rows(two)] == [
        ("hyperparameters_config.lr", ["0.01", "0.1"], True),
        ("model_config.model", ["lr", "lr"], False),
    ]
    assert best_run(two) == two[1]
    assert page.context["best"] == two[1]


def test_runs_of_other_projects_are_passed_over_and_strangers_find_nothing(two: list[Run], client: Client) -> None:
    other = run_make()
    assert two[0].created_by is not None
    client.force_login(two[0].created_by)
    page = client.get(f"/projects/{two[0].project_id}/compare/", {"run": [str(two[0].pk), str(other.pk), "x"]})
    assert page.context["runs"] == [two[0]]
    assert "Choose two or more runs" in page.content.decode()
    client.force_login(user_make("stranger"))
    assert client.get(f"/projects/{two[0].project_id}/compare/").status_code == 404
