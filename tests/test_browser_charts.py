"""What people do with charts, in a real browser: how they are drawn, where they stand, and what a link shows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from playwright.sync_api import Browser, Locator, Page, expect

from runs.models import ChartView, Point, Run, Series
from tests.test_browser_run_page import (  # the fixtures of pages with a server behind them
    Errors,
    WebServer,
    ada,
    browser,
    errors,
    open_page,
    report,
    run,
    static_files,
    wait_for_curves,
    web,
)

__all__ = ["ada", "browser", "errors", "run", "static_files", "web"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_url")]

DRAWN = """figure => {
    const plot = document.querySelector(`[data-figure="${figure}"] .chart-plot`);
    return plot?.data ? {data: plot.data.map(({name, x, y}) => ({name, x: [...x], y: [...y]})),
        x: plot.layout.xaxis.range ?? null, y: plot.layout.yaxis.range ?? null, type: plot.layout.yaxis.type} : null;
}"""


def panel(page: Page, name: str) -> Locator:
    return page.locator(f'[data-figure="metric:{name}"]')


def drawn(page: Page, name: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait until the figure is drawn as ``condition`` wants it, and return how it is drawn."""
    deadline = time.monotonic() + 20
    while not ((found := page.evaluate(DRAWN, f"metric:{name}")) and condition(found)):
        assert time.monotonic() < deadline, found
        page.wait_for_timeout(50)
    content: dict[str, Any] = found
    return content


def kept(run: Run, wanted: dict[str, str] | None) -> None:
    """Wait until the server keeps this view of the run's project."""
    deadline = time.monotonic() + 20
    while (found := ChartView.objects.filter(project=run.project).values_list("content", flat=True).first()) != wanted:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def titles(page: Page) -> list[str]:
    return page.locator("#panel-results .chart-title").all_inner_texts()


def choose(page: Page, name: str, action: str) -> None:
    """Choose from the menu of a panel."""
    panel(page, name).locator("summary").click()
    panel(page, name).get_by_role("button", name=action, exact=True).click()


def test_curves_are_shown_as_somebody_wants_them_and_so_they_stay(
    browser: Browser, web: WebServer, ada: User, run: Run, errors: Errors
) -> None:
    north, south = run.run_devices.values_list("edge_id", flat=True)
    report(run, 0, "loss", [4.0, 3.0, 2.0, 1.0])
    report(run, north, "loss", [5.0, 4.0, 3.0, 2.0])
    report(run, south, "loss", [9.0, 8.0, 7.0, 6000.0])
    page = open_page(browser, web, ada, run, errors, "?tab=results")
    results = page.locator("#panel-results")
    drawn(page, "loss", lambda now: len(now["data"]) == 3 and now["y"][1] > 6000)

    # An outlier does not stretch the axis: the quartiles of the twelve values are 2.75 and 7.25.
    results.get_by_label("Ignore outliers").check()
    now = drawn(page, "loss", lambda now: now["y"][1] < 6000)
    assert now["y"] == pytest.approx([1 - 8 * 0.06, 9 + 8 * 0.06])

    # A click on a name shows it alone, another brings the others back; a swatch hides one.
    results.get_by_role("button", name="ward-south", exact=True).click()
    wait_for_curves(page, "metric:loss", {"ward-south": [[1, 2, 3, 4], [9, 8, 7, 6000]]})
    results.get_by_role("button", name="ward-south", exact=True).click()
    drawn(page, "loss", lambda now: len(now["data"]) == 3)

    # Devices as one band: at each round from the least to the greatest, with the median.
    results.get_by_label("Devices").select_option("range")
    now = drawn(page, "loss", lambda now: len(now["data"]) == 4)
    assert [trace["y"] for trace in now["data"]] == [[5, 4, 3, 2], [9, 8, 7, 6000], [7, 6, 5, 3001], [4, 3, 2, 1]]
    assert now["data"][2]["name"] == "Median of 2 devices"
    results.get_by_label("Devices").select_option("quantiles")
    now = drawn(page, "loss", lambda now: now["data"][0]["y"][0] != 5)
    assert now["data"][0]["y"][:3] == pytest.approx([5.4, 4.4, 3.4])
    results.get_by_label("Devices").select_option("lines")
    results.get_by_role("button", name="Show ward-south").click()
    drawn(page, "loss", lambda now: len(now["data"]) == 2)

    # Over the time since the start, smooth with the raw line behind.
    results.get_by_role("button", name="Relative").click()
    results.get_by_label("Smoothing").fill("0.9")
    now = drawn(page, "loss", lambda now: len(now["data"]) == 4)
    assert [trace["name"] for trace in now["data"]] == ["ward-north", "ward-north", "Aggregator", "Aggregator"]
    assert now["data"][0]["y"] == [5, 4, 3, 2]
    assert 0 <= now["data"][0]["x"][0] < 600

    # The link shows the same, and so does the page without one: the server has kept it for this user.
    kept(run, {"x": "relative", "smooth": "0.9", "robust": "1", "hide": str(south)})
    for address in (page.url, f"{web.url}/runs/{run.pk}/?tab=results"):
        page.goto(address)
        again = drawn(page, "loss", lambda now: len(now["data"]) == 4)
        assert again["data"] == now["data"]
        expect(results.get_by_label("Ignore outliers")).to_be_checked()
        expect(results.get_by_label("Smoothing")).to_have_value("0.9")
    results.get_by_role("button", name="Reset this view").click()
    drawn(page, "loss", lambda now: len(now["data"]) == 3)
    assert page.url.endswith("?tab=results")
    kept(run, None)
    assert errors == []


def test_zooming_and_pointing_holds_for_all_panels(
    browser: Browser, web: WebServer, ada: User, run: Run, errors: Errors
) -> None:
    for name in ("loss", "accuracy"):
        report(run, 0, name, [float(number) for number in range(40)])
    page = open_page(browser, web, ada, run, errors, "?tab=results&x=step")
    for name in ("loss", "accuracy"):
        drawn(page, name, lambda now: len(now["data"]) == 1)
    box = panel(page, "loss").locator(".nsewdrag").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.5, middle)
    expect(panel(page, "accuracy").locator(".chart-spike")).to_be_visible()
    expect(panel(page, "accuracy").locator(".chart-latest")).to_have_class("chart-latest is-pointed")
    page.mouse.move(box["x"] + box["width"] * 0.25, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, middle, steps=5)
    page.mouse.up()
    low, high = drawn(page, "accuracy", lambda now: now["x"] is not None and now["x"][1] < 35)["x"]
    assert 5 < low < 15
    assert 25 < high < 35
    y = drawn(page, "accuracy", lambda now: now["y"][1] < 35)["y"]
    assert low - 3 < y[0] < y[1] < high + 3
    page.goto(page.url)
    assert drawn(page, "loss", lambda now: True)["x"] == pytest.approx([low, high])
    page.get_by_role("button", name="Whole range").click()
    drawn(page, "loss", lambda now: now["y"][1] > 39)
    assert errors == []


@pytest.mark.parametrize("width", [1400, 390])
def test_panels_are_moved_sized_removed_and_added(
    browser: Browser, web: WebServer, ada: User, run: Run, errors: Errors, width: int, tmp_path: Path
) -> None:
    for name in ("accuracy", "loss", "f1", "train/rate"):
        report(run, 0, name, [1.0, 2.0])
    viewport = {"width": width, "height": 900}
    page = open_page(browser, web, ada, run, errors, "?tab=results", viewport=viewport)
    drawn(page, "accuracy", lambda now: True)
    assert titles(page) == ["Accuracy", "Loss", "F1", "Train/rate"]

    # Moved by dragging, or from the menu.
    if width > 1000:
        panel(page, "loss").locator(".chart-title").drag_to(panel(page, "accuracy").locator(".chart-title"))
    else:
        choose(page, "loss", "Move back")
    expect(page.locator("#panel-results .chart-title").first).to_have_text("Loss")
    choose(page, "loss", "Wider")
    handle = panel(page, "loss").locator(".chart-handle")
    handle.press("ArrowDown")
    expect(panel(page, "loss").locator(".chart-plot")).to_have_css("height", "292px")
    choose(page, "f1", "Remove panel")
    expect(page.locator("#panel-results .chart-title")).to_have_text(["Loss", "Accuracy", "Train/rate"])

    # A panel of several metrics.
    page.locator("#panel-results").get_by_role("button", name="Add a panel").click()
    dialog = page.get_by_role("dialog", name="Add a panel")
    expect(dialog.get_by_role("button", name="F1")).to_be_visible()
    dialog.get_by_label("accuracy").check()
    dialog.get_by_label("loss").check()
    dialog.get_by_role("button", name="Add panel").click()
    expect(page.locator("#panel-results .chart-title").first).to_have_text("Accuracy, Loss")
    layout = {"order": ["metric:loss"], "removed": ["metric:f1"], "sizes": {"metric:loss": [2, 292]}}
    deadline = time.monotonic() + 20
    while not (view := ChartView.objects.first()) or "added" not in view.content.get("layout", ""):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    content = json.loads(view.content["layout"])
    assert content.pop("added")[0]["names"] == ["accuracy", "loss"]
    assert content == layout

    # All of it again after a reload, a closed section too; full screen is in the link.
    page.locator("#panel-results").get_by_role("button", name="train 1").click()
    panel(page, "loss").get_by_role("button", name="Full screen").click()
    page.goto(page.url)
    own = page.locator("#panel-results .chart").first.get_attribute("data-figure")
    wait_for_curves(page, str(own), {"Aggregator, accuracy": [[1, 2], [1, 2]], "Aggregator, loss": [[1, 2], [1, 2]]})
    expect(panel(page, "loss")).to_have_class("card chart is-full")
    box = panel(page, "loss").bounding_box()
    assert box is not None
    assert (box["width"], box["height"]) == (width, 900)
    page.keyboard.press("Escape")
    expect(panel(page, "loss")).to_have_class("card chart")
    expect(panel(page, "train/rate")).to_be_hidden()
    over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert over == 0

    files = {}
    for action in ("Download CSV", "Download JSON", "Download SVG", "Download PNG"):
        with page.expect_download() as download:
            choose(page, "loss", action)
        target = tmp_path / download.value.suggested_filename
        download.value.save_as(target)
        files[target.name] = target.read_bytes()
    assert list(files) == ["eye_rain_loss.csv", "eye_rain_loss.json", "eye_rain_loss.svg", "eye_rain_loss.png"]
    lines = files["eye_rain_loss.csv"].decode().splitlines()
    assert lines[0] == "reporter,edge_id,metric,step,round,time,value"
    assert [line.rsplit(",", 2)[0] for line in lines[1:]] == ['"Aggregator",0,"loss",0,0', '"Aggregator",0,"loss",1,1']
    (series,) = json.loads(files["eye_rain_loss.json"])["series"]
    assert [point["value"] for point in series["points"]] == [1, 2]
    assert files["eye_rain_loss.svg"].startswith(b"<svg")
    assert files["eye_rain_loss.png"].startswith(b"\x89PNG")
    assert errors == []


def test_two_hundred_metrics_are_found_by_name_and_drawn_where_they_are_seen(
    browser: Browser, web: WebServer, ada: User, run: Run, errors: Errors
) -> None:
    with transaction.atomic():
        made = Series.objects.bulk_create(
            Series(run=run, edge_id=0, name=f"layer{number % 4}/weight_{number}", count=2) for number in range(200)
        )
        Point.objects.bulk_create(
            Point(series=series, step=step, round=step, time=time.time(), value=step)
            for series in made
            for step in (0, 1)
        )
    page = open_page(browser, web, ada, run, errors, "?tab=results")
    drawn(page, "layer0/weight_0", lambda now: True)
    expect(page.locator("#panel-results .chart")).to_have_count(200)
    assert 2 <= page.locator("#panel-results .chart .main-svg").count() // 3 <= 20  # of each figure three layers
    heads = page.locator("#panel-results .chart-section-head")
    expect(heads).to_have_text(["layer0 50", "layer1 50", "layer2 50", "layer3 50"], use_inner_text=True)
    find = page.locator("#panel-results").get_by_label("Find panels")
    find.fill("weight_17")
    expect(page.locator("#panel-results .chart")).to_have_count(11)
    page.locator("#panel-results").get_by_role("button", name="Regular expression").click()
    find.fill("^layer1/weight_1?7$|_199$")
    expect(page.locator("#panel-results .chart-title")).to_have_text(["Layer1/weight 17", "Layer3/weight 199"])
    wait_for_curves(page, "metric:layer3/weight_199", {"Aggregator": [[1, 2], [0, 1]]})
    find.fill("(")
    expect(find).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#panel-results .chart")).to_have_count(200)
    find.fill("nothing$")
    expect(page.get_by_text("No panel matches.").first).to_be_visible()
    assert errors == []
