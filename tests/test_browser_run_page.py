"""The run page in a real browser, against a real server and a real Redis: what is reported appears without reload."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, Page, WebSocket, expect, sync_playwright

from accounts.tests.objects import make_device, make_project, make_run, make_user
from runs.live.broadcast import frame_record, log_lines_record
from runs.live.payloads import (
    Item,
    device_item,
    model_item,
    points_item,
    round_item,
    run_item,
    series_descriptor,
    stage_item,
    value_and_flag,
)
from runs.models import Membership, Point, Round, Run, Series, Stage, StageName, StoredModel
from runs.states import InstanceStatus, RunState, StageState
from tests.servers import Server

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_url")]

TIMEOUT = 20_000  # milliseconds; a busy machine is slow
TABS = ["overview", "training", "timeline", "results", "system", "models", "lineage", "logs", "configuration"]
MANIFEST = {
    "kind": "server",
    "root": "package",
    "entry_file": "fedml/main.py",
    "entry_arguments": [],
    "model_config": [],
    "hyperparameters_config": [],
}
COPY = {
    "name": "FedAvg",
    "model_config": [{"name": "modelName", "type": "string", "value": "lr"}],
    "hyperparameters_config": [{"name": "lr", "type": "float", "value": 0.03}],
    "server": MANIFEST,
    "client": MANIFEST,
    "overrides": [],
}


class WebServer(Server):
    """The platform's web process, on the test's database and Redis."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "web")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "ROUNDTABLE_VAR": str(self.directory),
            "ROUNDTABLE_URL": self.url,
            "ROUNDTABLE_DATABASE_URL": f"sqlite:///{settings.DATABASES['default']['NAME']}",
            "ROUNDTABLE_REDIS_URL": settings.REDIS_URL,
            "ROUNDTABLE_SECRET_KEY": settings.SECRET_KEY,
        }

    def command(self) -> list[str]:
        # The files under hashed names, as in production: the modules of the page have to find each other.
        collect = [sys.executable, str(settings.BASE_DIR / "manage.py"), "collectstatic", "--no-input", "-v", "0"]
        if not (self.directory / "staticfiles").exists():
            subprocess.run(collect, check=True, env=self.environment())
        arguments = ["--host", "127.0.0.1", "--port", str(self.port), "--app-dir", str(settings.BASE_DIR)]
        set_environment = ["env", *(f"{key}={value}" for key, value in self.environment().items())]
        return [*set_environment, sys.executable, "-m", "uvicorn", *arguments, "mlops_site.asgi:application"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Playwright runs an event loop in this thread, and Django would refuse to touch the database beside it.
    with pytest.MonkeyPatch.context() as environment, sync_playwright() as playwright:
        environment.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        expect.set_options(timeout=TIMEOUT)
        launched = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-background-networking"]
        )
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def static_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the servers of this module live; the first of them collects the static files."""
    return tmp_path_factory.mktemp("web")


@pytest.fixture
def web(browser: Browser, static_files: Path, transactional_db: None) -> Iterator[WebServer]:
    server = WebServer(static_files)
    collected = static_files / "staticfiles"
    if collected.exists():
        (server.directory / "staticfiles").symlink_to(collected)
    server.start()
    if not collected.exists():
        collected.symlink_to(server.directory / "staticfiles")
    yield server
    server.stop()


@pytest.fixture
def ada(web: WebServer) -> User:
    return make_user("ada")


@pytest.fixture
def run(ada: User) -> Run:
    """A running run on two devices."""
    project = make_project(ada, "Digits")
    run = make_run(project, [make_device(ada, "ward-north"), make_device(ada, "ward-south")], name="eye_rain")
    Run.objects.filter(pk=run.pk).update(
        configuration_copy=COPY, state=RunState.RUNNING, started_at=run.created_at, total_rounds=10
    )
    run.refresh_from_db()
    return run


class Errors(list[str]):
    """What the page's console complained of."""

    def watch(self, page: Page) -> None:
        page.on("console", lambda message: self.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.append(str(error)))


@pytest.fixture
def errors() -> Errors:
    return Errors()


def open_page(
    browser: Browser, web: WebServer, user: User, run: Run, errors: Errors, query: str = "", **context: Any
) -> Page:
    """Open the run's page as ``user`` and wait until it is live."""
    page = visit(browser, web, user, **context)
    errors.watch(page)
    page.goto(f"{web.url}/runs/{run.pk}/{query}")
    expect(page.locator("[data-live-indicator]")).to_have_attribute("data-state", "live")
    return page


def visit(browser: Browser, web: WebServer, user: User, **context: Any) -> Page:
    client = Client()
    client.force_login(user)
    opened: BrowserContext = browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **context})
    opened.set_default_timeout(TIMEOUT)
    opened.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": web.url}])
    return opened.new_page()


def record(run: Run, *items: Item) -> None:
    with transaction.atomic():
        frame_record(run.pk, items)


def changed(run: Run, **fields: Any) -> Run:
    """Change the run's fields, and none that others write."""
    Run.objects.filter(pk=run.pk).update(**fields)
    run.refresh_from_db()
    return run


def report(run: Run, edge_id: int, name: str, values: list[float], *, first: int = 0, kind: str = "metric") -> None:
    """Store one value a round of a series, beginning with round ``first``, and record the frame."""
    with transaction.atomic():
        series, new = Series.objects.get_or_create(run=run, edge_id=edge_id, name=name, kind=kind)
        rows = []
        for index, number in enumerate(values, start=first):
            value, flag = value_and_flag(number)
            point = Point.objects.create(
                series=series, step=index, round=index, time=time.time(), value=value, flag=flag
            )
            rows.append((series.pk, point.pk, point.step, index, point.time, value, flag))
        series.count += len(values)
        series.save()
        frame_record(run.pk, [points_item([series_descriptor(series)] if new else [], rows)])


def curves(page: Page, figure: str) -> dict[str, list[list[float | None]]]:
    """The curves of a figure as they are drawn: name -> [x, y]."""
    drawn: dict[str, list[list[float | None]]] = page.evaluate(
        """figure => Object.fromEntries((document.querySelector(`[data-figure="${figure}"] .chart-plot`)?.data ?? [])
            .map(({name, x, y}) => [name, [[...x], [...y]]]))""",
        figure,
    )
    return drawn


def wait_for_curves(page: Page, figure: str, wanted: dict[str, list[list[float | None]]]) -> None:
    deadline = time.monotonic() + TIMEOUT / 1000
    while curves(page, figure) != wanted and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    assert curves(page, figure) == wanted


def test_what_is_reported_appears_without_reload(
    browser: Browser, web: WebServer, ada: User, run: Run, errors: Errors
) -> None:
    page = open_page(browser, web, ada, run, errors)
    page.evaluate("window.sameDocument = true")
    north = run.run_devices.select_related("device").get(client_index=1)

    # Overview: a stage, a round, and the state of a device in the picture.
    stage = Stage.objects.create(
        run=run, position=0, name=StageName.BUILD_SERVER, state=StageState.ACTIVE, progress=0.5
    )
    record(run, stage_item(stage))
    row = page.locator('[data-stage="build_server"]')
    expect(row.locator(".stage-label")).to_have_text("Build server image")
    expect(row).to_have_attribute("data-state", "ACTIVE")
    log_lines_record(run.pk, "stage:build_server", [(time.time(), "stage", "Unpacking package.zip")])
    row.get_by_role("button", name="Log").click()
    expect(row.locator(".log-text")).to_have_text(["Unpacking package.zip"])
    log_lines_record(run.pk, "stage:build_server", [(time.time(), "stage", "Reading conf/fedml.yaml")])
    expect(row.locator(".log-text")).to_have_text(["Unpacking package.zip", "Reading conf/fedml.yaml"])

    north.status = InstanceStatus.TRAINING
    north.save()
    record(run, device_item(north))
    expect(page.locator(".topology-node", has_text="ward-north").locator(".topology-status")).to_have_text("Training")
    expect(page.locator("[data-device-summary]")).to_have_text("1 training, 1 waiting")

    finished = Round.objects.create(run=run, round_index=2, total_rounds=10, running_time=96.0)
    record(run, run_item(changed(run, round_index=2, running_time=96.0)), round_item(finished))
    expect(page.locator("#panel-overview [data-number=round]")).to_have_text("3")
    expect(page.locator("#panel-overview [data-number=left]")).to_have_text("about 4 min left")

    # Results: a metric that nobody knew of.
    page.get_by_role("tab", name="Results").click()
    expect(page.get_by_text("No results yet")).to_be_visible()
    report(run, 0, "test_accuracy", [0.5, 0.75])
    report(run, north.edge_id, "test_accuracy", [0.25, float("nan"), 0.5])
    wait_for_curves(
        page,
        "metric:test_accuracy",
        {"Aggregator": [[1, 2], [0.5, 0.75]], "ward-north": [[1, 2, 3], [0.25, None, 0.5]]},
    )
    expect(page.locator(".chart-note")).to_contain_text("NaN from ward-north in round 2")
    report(run, 0, "test_accuracy", [0.875], first=2)
    wait_for_curves(
        page,
        "metric:test_accuracy",
        {"Aggregator": [[1, 2, 3], [0.5, 0.75, 0.875]], "ward-north": [[1, 2, 3], [0.25, None, 0.5]]},
    )
    expect(page.locator(".chart-latest").first).to_have_text("0.875")

    # System
    page.get_by_role("tab", name="System").click()
    report(run, north.edge_id, "cpu_utilization", [12.0, 34.0], kind="system")
    expect(page.locator('[data-figure="system:cpu_utilization"] .scatterlayer .trace')).to_have_count(1)
    report(run, north.edge_id, "gpu.1.temperature", [60.0, 61.0], kind="system")
    gpu = page.locator('[data-figure="system:gpu.1.temperature"]')
    expect(gpu.locator(".chart-title")).to_have_text("GPU 1, temperature")
    expect(gpu.locator(".ytick").first).to_contain_text("°C")

    # Models
    page.get_by_role("tab", name="Models").click()
    model = StoredModel.objects.create(
        run=run, edge_id=0, kind="aggregated", round_index=2, key="k", sha256="ab" * 32, size=2048, storage_name="m",
        metrics={"accuracy": 0.875},
    )  # fmt: skip
    record(run, model_item(model))
    cells = page.locator("#panel-models-aggregated tbody tr td")
    expect(cells.nth(0)).to_have_text("3")
    expect(cells.nth(1)).to_have_text("Accuracy 0.875")
    expect(cells.nth(2)).to_have_text("2 KiB")
    expect(cells.nth(3).locator("code")).to_have_text("abababababab")
    assert cells.nth(5).get_by_role("link", name="Download").get_attribute("href") == model_item(model)["url"]

    # Logs
    page.get_by_role("tab", name="Logs").click()
    log_lines_record(run.pk, "server", [(time.time(), "stdout", "INFO round 3 done")])
    expect(page.locator("#panel-logs .log-text").last).to_have_text("INFO round 3 done")

    # The head of the page
    record(run, run_item(changed(run, name="dinner_sheep", state=RunState.FAILED, reason="The aggregator ended.")))
    expect(page.get_by_role("heading", level=1)).to_contain_text("dinner_sheep")
    expect(page.locator("[data-run=state]")).to_have_text("Failed")
    expect(page.locator("[data-run=reason]")).to_have_text("The aggregator ended.")
    expect(page.get_by_role("button", name="Stop run")).to_be_hidden()

    assert page.evaluate("window.sameDocument") is True
    assert errors == []


def test_it_goes_on_after_the_server_was_away_and_draws_no_point_twice(
    browser: Browser, web: WebServer, ada: User, run: Run, errors: Errors
) -> None:
    page = visit(browser, web, ada)
    errors.watch(page)
    messages: list[str] = []

    def listen(socket: WebSocket) -> None:
        if "/ws/runs/" in socket.url:
            socket.on("framereceived", lambda data: messages.append(orjson.loads(data)["type"]))

    page.on("websocket", listen)
    page.goto(f"{web.url}/runs/{run.pk}/?tab=results")
    report(run, 0, "loss", [4.0, 3.0])
    wait_for_curves(page, "metric:loss", {"Aggregator": [[1, 2], [4.0, 3.0]]})
    log_lines_record(run.pk, "server", [(1.0, "stdout", "before")])
    messages.clear()

    web.stop()
    expect(page.locator("[data-live-text]")).to_contain_text("Reconnecting since")
    report(run, 0, "loss", [2.0], first=2)
    log_lines_record(run.pk, "server", [(2.0, "stdout", "while the server was away")])
    web.start()
    expect(page.locator("[data-live-text]")).to_have_text("Live", timeout=2 * TIMEOUT)
    report(run, 0, "loss", [1.0], first=3)

    wait_for_curves(page, "metric:loss", {"Aggregator": [[1, 2, 3, 4], [4.0, 3.0, 2.0, 1.0]]})
    assert set(messages) == {"frames"}  # what was missed, not everything anew
    page.get_by_role("tab", name="Logs").click()
    expect(page.locator("#panel-logs .log-text")).to_have_text(["before", "while the server was away"])
    assert [error for error in errors if "WebSocket connection" not in error] == []


def test_moments_in_reasons_are_in_the_viewers_zone(
    browser: Browser, web: WebServer, ada: User, run: Run, errors: Errors
) -> None:
    reason = "The device is offline since 2026-11-24 06:54:09 UTC."
    part = run.run_devices.select_related("device").first()
    assert part is not None
    run.run_devices.filter(pk=part.pk).update(reason=reason)
    page = open_page(browser, web, ada, run, errors, "?tab=training", timezone_id="Asia/Tokyo", locale="en-GB")
    row = page.locator(f'tr[data-edge="{part.edge_id}"] [data-field="reason"]')
    expect(row).to_have_text("The device is offline since 24 Nov 2026, 15:54:09.")
    part.reason = reason.replace("06:54:09", "18:00:00")
    record(run, device_item(part))
    expect(row).to_have_text("The device is offline since 25 Nov 2026, 03:00:00.")
    assert errors == []


def test_who_loses_the_project_is_told_and_hears_no_more(
    browser: Browser, web: WebServer, ada: User, run: Run, errors: Errors
) -> None:
    grace = make_user("grace")
    Membership.objects.create(project=run.project, user=grace, role="viewer")
    page = open_page(browser, web, grace, run, errors)
    expect(page.get_by_role("button", name="Stop run")).to_have_count(0)
    Membership.objects.filter(user=grace).delete()
    record(run, run_item(run))
    expect(page.locator("[data-live-text]")).to_have_text("You may no longer see this run")
    record(run, run_item(changed(run, name="secret")))
    page.wait_for_timeout(500)
    expect(page.get_by_role("heading", level=1)).to_contain_text("eye_rain")


def test_a_stranger_finds_nothing(browser: Browser, web: WebServer, run: Run) -> None:
    page = visit(browser, web, make_user("mallory"))
    response = page.goto(f"{web.url}/runs/{run.pk}/")
    assert response is not None
    assert response.status == 404
    assert "eye_rain" not in page.content()


def test_log_lines_are_text_and_the_view_stays_where_somebody_reads(
    browser: Browser, web: WebServer, ada: User, run: Run, errors: Errors
) -> None:
    hostile = "\x1b[31m<img src=x onerror=alert(1)>\x1b[0m \u202egnp.exe"
    log_lines_record(run.pk, "server", [(float(n), "stdout", f"INFO line {n}") for n in range(200)])
    log_lines_record(run.pk, "edge:1", [(300.0, "stderr", f"ERROR {hostile}")])
    page = open_page(browser, web, ada, run, errors, "?tab=logs")
    lines = page.locator("#panel-logs .log-text")
    expect(lines).to_have_count(201)
    expect(lines.last).to_have_text("ERROR <img src=x onerror=alert(1)> \ufffdgnp.exe")
    expect(page.locator("#panel-logs .log-line").last).to_have_attribute("data-level", "ERROR")
    assert page.locator("#panel-logs img").count() == 0

    # At the end it follows; above it does not.
    log_lines_record(run.pk, "server", [(400.0, "stdout", "INFO newest")])
    expect(lines.last).to_be_in_viewport()
    view = page.get_by_role("log", name="Log", exact=True)
    view.evaluate("element => element.scrollTo(0, 100)")
    log_lines_record(run.pk, "server", [(401.0, "stdout", "INFO unseen")])
    jump = page.get_by_role("button", name="1 new")
    expect(jump).to_be_visible()
    assert view.evaluate("element => element.scrollTop") == 100
    jump.click()
    expect(lines.last).to_have_text("INFO unseen")
    expect(lines.last).to_be_in_viewport()
    expect(jump).to_be_hidden()

    # Search, level and reporter; the choice stands in the address.
    page.get_by_role("searchbox", name="Search the log").fill("LINE 19")
    expect(lines).to_have_text(["INFO line 19", *(f"INFO line {n}" for n in range(190, 200))])
    assert page.locator("#panel-logs mark").first.text_content() == "line 19"
    log_lines_record(run.pk, "server", [(402.0, "stdout", "INFO line 1900"), (403.0, "stdout", "INFO other")])
    expect(lines).to_have_count(12)
    page.get_by_role("searchbox", name="Search the log").fill("")
    page.get_by_label("Level").select_option("ERROR")
    expect(lines).to_have_count(1)
    page.get_by_label("Log of").select_option("server")
    expect(page.get_by_text("No line matches.")).to_be_visible()
    assert page.url.endswith("?tab=logs&level=ERROR&reporter=server")
    assert page.get_by_role("link", name="Download this log").get_attribute("href") == (
        f"{web.url}/runs/{run.pk}/log?reporter=server"
    )
    assert errors == []


def test_curves_are_drawn_as_the_controls_say(
    browser: Browser, web: WebServer, ada: User, run: Run, errors: Errors
) -> None:
    edge = run.run_devices.get(client_index=2).edge_id
    report(run, 0, "loss", [4.0, 2.0, 1.0])
    report(run, edge, "loss", [8.0])
    page = open_page(browser, web, ada, run, errors, "?tab=results")
    wait_for_curves(page, "metric:loss", {"Aggregator": [[1, 2, 3], [4, 2, 1]], "ward-south": [[1], [8]]})
    page.get_by_role("button", name="Step").click()
    wait_for_curves(page, "metric:loss", {"Aggregator": [[0, 1, 2], [4, 2, 1]], "ward-south": [[0], [8]]})
    results = page.locator("#panel-results")
    results.get_by_label("Log scale").check()
    results.get_by_label("Smoothing").fill("0.5")
    results.get_by_role("button", name="Aggregator", exact=True).click()
    # (4, (4 + 2 * 2) / 3, (4 + 2 * 2 + 4 * 1) / 7): every value weighs twice as much as the one before it
    wait_for_curves(page, "metric:loss", {"Aggregator": [[0, 1, 2], [4, 8 / 3, 12 / 7]]})
    assert page.url.endswith(f"?tab=results&x=step&log=1&smooth=0.5&hide={edge}")
    page.reload()
    wait_for_curves(page, "metric:loss", {"Aggregator": [[0, 1, 2], [4, 8 / 3, 12 / 7]]})
    assert errors == []


def test_tabs_are_worked_by_keys_and_stand_in_the_address(
    browser: Browser, web: WebServer, ada: User, run: Run, errors: Errors
) -> None:
    page = open_page(browser, web, ada, run, errors)
    page.get_by_role("tab", name="Overview").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Training status")).to_be_focused()
    expect(page.locator("#panel-training")).to_be_visible()
    page.keyboard.press("End")
    expect(page.locator("#panel-configuration")).to_be_visible()
    expect(page.locator("#panel-training")).to_be_hidden()
    assert page.url.endswith("?tab=configuration")
    expect(page.locator(".run-command pre").first).to_have_text("python fedml/main.py")
    page.keyboard.press("Home")
    expect(page).to_have_url(f"{web.url}/runs/{run.pk}/")
    page.get_by_role("tab", name="Training status").click()
    page.locator(f"#device-{run.run_devices.get(client_index=2).edge_id}").get_by_role("link", name="Log").click()
    expect(page.get_by_label("Log of")).to_have_value(f"edge:{run.run_devices.get(client_index=2).edge_id}")
    assert errors == []


def test_a_run_is_started_and_stopped_without_leaving_the_page(
    browser: Browser, web: WebServer, ada: User, run: Run, errors: Errors
) -> None:
    Run.objects.filter(pk=run.pk).update(state=RunState.CREATED, started_at=None)
    page = visit(browser, web, ada)
    errors.watch(page)
    page.goto(f"{web.url}/runs/{run.pk}/")
    page.get_by_role("button", name="Start run").click()
    expect(page.locator("[data-run=state]")).to_have_text("Queued")
    expect(page.locator(".stage-label")).to_have_count(6)
    page.get_by_role("button", name="Stop run").click()
    dialog = page.get_by_role("dialog", name="Stop this run?")
    expect(dialog).to_contain_text("Models, results and logs that have arrived stay.")
    dialog.get_by_role("button", name="Cancel").click()
    run.refresh_from_db()
    assert run.state == RunState.QUEUED
    page.get_by_role("button", name="Stop run").click()
    dialog.get_by_role("button", name="Stop run").click()
    expect(page.locator("[data-run=reason]")).to_have_text("Stopped by ada.")
    expect(page.get_by_role("button", name="Stop run")).to_be_hidden()
    assert errors == []


def test_zooming_in_fetches_the_points_that_the_page_does_not_have(
    browser: Browser, web: WebServer, ada: User, run: Run, errors: Errors
) -> None:
    report(run, 0, "loss", [float(number % 10) for number in range(3_000)])
    page = open_page(browser, web, ada, run, errors, "?tab=results&x=step")
    expect(page.locator('[data-figure="metric:loss"] .trace')).to_have_count(1)
    ((steps, _),) = curves(page, "metric:loss").values()
    assert len([step for step in steps if 100 <= (step or 0) <= 200]) < 101
    page.evaluate(
        """Plotly.relayout(document.querySelector('[data-figure="metric:loss"] .chart-plot'),
            {"xaxis.range[0]": 100, "xaxis.range[1]": 200})"""
    )
    page.wait_for_function(
        """() => document.querySelector('[data-figure="metric:loss"] .chart-plot').data[0].x
            .filter(step => step >= 100 && step <= 200).length === 101"""
    )
    assert errors == []


def test_a_run_is_renamed_in_place(browser: Browser, web: WebServer, ada: User, run: Run, errors: Errors) -> None:
    page = open_page(browser, web, ada, run, errors)
    page.get_by_role("button", name="Rename this run").click()
    dialog = page.get_by_role("dialog", name="Rename this run")
    dialog.get_by_label("Name").fill("<i>sheep</i>")
    dialog.get_by_role("button", name="Rename").click()
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("heading", level=1)).to_contain_text("<i>sheep</i>")
    expect(page).to_have_title("<i>sheep</i> · Roundtable")
    assert errors == []


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_tab_fits_the_window_and_breaks_no_policy(
    browser: Browser, web: WebServer, ada: User, run: Run, errors: Errors, width: int, scheme: str
) -> None:
    report(run, 0, "test_accuracy", [0.5, 0.75])
    report(run, 0, "cpu_utilization", [50.0, 75.0], kind="system")
    log_lines_record(run.pk, "server", [(1.0, "stdout", "x" * 500)])
    page = open_page(
        browser, web, ada, run, errors, viewport={"width": width, "height": 844}, color_scheme=scheme, locale="en-GB"
    )
    for tab in TABS:
        page.locator(f"#tab-{tab}").click()
        expect(page.locator(f"#panel-{tab}")).to_be_visible()
        page.wait_for_timeout(150)
        over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert (tab, over) == (tab, 0)
    assert page.locator("html").get_attribute("data-bs-theme") == scheme
    assert errors == []
