"""Pages of the registry, of comparing, exporting and keeping in a real browser: at two widths, in both themes."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Browser
from pytest_django.live_server_helper import LiveServer

from registry.services import model_promote
from registry.tests.test_registry import model_make, store
from runs.models import Run
from runs.telemetry.series import SeriesBook
from runs.telemetry.storage import reports_store
from runs.telemetry.topics import Kind
from runs.tests.rows import metrics, report, run_make, user_make

__all__ = ["store"]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ada(db: None) -> User:
    return user_make("ada")


def run_with_model(ada: User, project_run: Run | None, name: str, rate: float) -> Run:
    """A run with curves, in the project of another where one is given."""
    copy = {
        "name": "FedAvg",
        "model_config": [{"name": "modelName", "type": "string", "value": "lr"}],
        "hyperparameters_config": [{"name": "lr", "type": "float", "value": rate}],
    }
    best = {"name": "accuracy", "value": 1 - rate, "round": 2}
    run = run_make(user=ada, best_metric=best, configuration_copy=copy)
    run.name = name
    if project_run is not None:
        run.project = project_run.project
    run.save()
    points = [("accuracy", step, 1 - rate - 1 / (step + 2), step) for step in range(8)]
    reports_store([report(run, 0, Kind.METRICS, metrics(1, *points))], SeriesBook())
    return run


@pytest.fixture
def paths(ada: User) -> list[str]:
    """What is looked at: two runs, of which one has a promoted model."""
    first = run_with_model(ada, None, "quiet-heron", 0.1)
    second = run_with_model(ada, first, "rapid-harbor", 0.3)
    model = model_make(first, 2, accuracy=0.9, loss=0.2)
    version = model_promote(model=model, user=ada, name="digits", stage="staging", notes="Good enough to try.")
    project = first.project_id
    return [
        f"/projects/{project}/models/",
        f"/projects/{project}/models/{version.registered_id}/",
        f"/runs/{first.pk}/models/{model.pk}/",
        f"/runs/{first.pk}/?tab=lineage",
        f"/projects/{project}/compare/?run={first.pk}&run={second.pk}",
        f"/projects/{project}/storage/",
        f"/runs/{first.pk}/export/",
    ]


@pytest.mark.parametrize(("width", "theme"), [(1400, "light"), (390, "dark")])
def test_every_page_is_sound(
    chromium: Browser, live_server: LiveServer, ada: User, paths: list[str], width: int, theme: Any
) -> None:
    client = Client()
    client.force_login(ada)
    problems: list[str] = []
    context = chromium.new_context(
        base_url=live_server.url, viewport={"width": width, "height": 900}, color_scheme=theme
    )
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}])
    page = context.new_page()
    page.route_web_socket("**/ws/**", lambda _: None)
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    for path in paths:
        answer = page.goto(path)
        assert answer is not None
        assert answer.status == 200, path
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{path} is wider than the window"
        found = [
            (each["id"], each["nodes"][0]["target"])
            for each in Axe().run(page).response["violations"]
            if each["impact"] in ("serious", "critical")
        ]
        assert found == [], path
    context.close()
    assert problems == []
