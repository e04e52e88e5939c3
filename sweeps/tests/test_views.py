"""The pages of sweeps, also in a real browser."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Browser, expect
from pytest_django.live_server_helper import LiveServer

from accounts.tests.objects import make_configuration, make_device, make_project, make_run, make_user
from runs.models import Project
from runs.states import RunState
from sweeps.models import Sweep, SweepState, Trial


@pytest.fixture
def ada(db: None) -> User:
    return make_user("ada")


@pytest.fixture
def project(ada: User, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Owned by ada, with vera as a viewer, a configuration and two devices; nothing is put on the queue."""
    monkeypatch.setattr("runs.lifecycle.effects.app.send_task", lambda *_, **__: None)
    make_user("vera")
    project = make_project(ada, "Digits", viewer="vera")
    make_configuration(ada)
    for name in ("north", "south"):
        make_device(ada, name)
    return project


def as_user(name: str) -> Client:
    client = Client()
    client.force_login(User.objects.get(username=name))
    return client


def form(project: Project, **changes: Any) -> dict[str, Any]:
    from configurations.models import Configuration
    from devices.models import Device

    return {
        "name": "rates",
        "configuration": Configuration.objects.get().pk,
        "mode": "grid",
        "concurrency": "2",
        "devices_per_run": "",
        "devices": list(Device.objects.values_list("pk", flat=True)),
        "set:hyperparameters_config.lr": "0.1, 0.2",
        "set:hyperparameters_config.comm_round": "5,6",
        **changes,
    }


def test_a_grid_is_planned_from_what_was_typed(project: Project) -> None:
    answer = as_user("ada").post(reverse("sweep_create", args=[project.pk]), form(project))
    sweep = Sweep.objects.get()
    assert answer.headers["Location"] == sweep.get_absolute_url()
    assert (sweep.devices_per_run, sweep.concurrency, len(sweep.device_ids)) == (2, 2, 2)
    assert sweep.parameters == ["hyperparameters_config.lr", "hyperparameters_config.comm_round"]
    assert [list(trial.values.values()) for trial in sweep.trials.all()] == [
        ["0.1", "5"],
        ["0.1", "6"],
        ["0.2", "5"],
        ["0.2", "6"],
    ]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"set:hyperparameters_config.lr": "0.1, fast"}, "lr, &#x27;fast&#x27;: This is not a number."),
        ({"set:hyperparameters_config.lr": "", "set:hyperparameters_config.comm_round": ""}, "several values"),
        ({"mode": "list", "set:hyperparameters_config.lr": "0.1, 0.2, 0.3"}, "as many values as the others"),
        ({"devices": []}, "Choose at least one device."),
        ({"devices_per_run": "3"}, "Only 2 devices are chosen."),
        ({"configuration": "999"}, "Select a valid choice."),
    ],
)
def test_what_cannot_be_is_said_on_the_form(project: Project, changes: dict[str, Any], sentence: str) -> None:
    answer = as_user("ada").post(reverse("sweep_create", args=[project.pk]), form(project, **changes))
    assert sentence in answer.content.decode()
    assert not Sweep.objects.exists()


@pytest.mark.parametrize(("name", "seen", "changed"), [("mallory", 404, 404), ("vera", 200, 403)])
def test_strangers_see_nothing_and_viewers_change_nothing(project: Project, name: str, seen: int, changed: int) -> None:
    make_user("mallory")
    as_user("ada").post(reverse("sweep_create", args=[project.pk]), form(project))
    sweep = Sweep.objects.get()
    client = as_user(name)
    for path in (reverse("sweep_list", args=[project.pk]), sweep.get_absolute_url()):
        assert client.get(path).status_code == seen
    for path in (reverse("sweep_create", args=[project.pk]), reverse("sweep_stop", args=[project.pk, sweep.pk])):
        assert client.post(path, form(project)).status_code == changed
    assert client.get(reverse("sweep_values", args=[project.pk])).status_code == changed
    sweep.refresh_from_db()
    assert sweep.state == SweepState.ACTIVE


def test_the_best_run_is_marked_where_that_can_be_told(project: Project) -> None:
    sweep = Sweep.objects.create(
        project=project,
        name="s",
        parameters=["hyperparameters_config.lr"],
        device_ids=[],
        devices_per_run=1,
        concurrency=1,
    )
    for position, (name, value) in enumerate([("test_loss", 0.5), ("test_loss", 0.25), ("test_loss", 1.0)]):
        run = make_run(project, state=RunState.FINISHED, best_metric={"name": name, "value": value, "round": 1})
        Trial.objects.create(sweep=sweep, position=position, values={}, run=run)
    client = as_user("vera")
    assert client.get(sweep.get_absolute_url()).context["best"] == sweep.trials.get(position=1).pk
    run.best_metric = {"name": "accuracy", "value": 1.0, "round": 1}
    run.save()
    assert client.get(sweep.get_absolute_url()).context["best"] is None


@pytest.mark.django_db(transaction=True)
def test_a_sweep_is_made_by_hand(chromium: Browser, live_server: LiveServer, ada: User, project: Project) -> None:
    client = as_user("ada")
    problems: list[str] = []
    context = chromium.new_context(base_url=live_server.url, viewport={"width": 1400, "height": 900})
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}])
    page = context.new_page()
    page.route_web_socket("**/ws/updates/", lambda _: None)
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(project.get_absolute_url())
    page.get_by_role("link", name="Sweeps").click()
    page.get_by_role("link", name="New sweep").first.click()
    page.get_by_label("Name", exact=True).fill("learning rates")
    page.get_by_label("Configuration").select_option("FedAvg")
    page.get_by_label("Values of lr to try").fill("0.1, 0.2, 0.3")
    page.get_by_label("Values of comm_round to try").fill("5, 6")
    for name in ("north", "south"):
        page.get_by_role("checkbox", name=name).check()
    page.get_by_role("button", name="Start 6 runs").click()
    expect(page.get_by_role("heading", name="learning rates")).to_be_visible()
    expect(page.get_by_role("row")).to_have_count(7)
    expect(page.get_by_text("0 / 6")).to_be_visible()
    sweep = Sweep.objects.get()
    for path in (
        sweep.get_absolute_url(),
        reverse("sweep_list", args=[project.pk]),
        reverse("sweep_create", args=[project.pk]),
    ):
        for width, theme in ((1400, "light"), (390, "dark")):
            themes: Any = theme
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=themes)
            page.goto(path)
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (path, width)
            found = [one for one in Axe().run(page).response["violations"] if one["impact"] in ("serious", "critical")]
            assert found == [], (path, width, theme)
    context.close()
    assert problems == []
