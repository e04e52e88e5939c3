"""The health page in a real browser: it is there at once, fills itself in, and never keeps anybody waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect
from pytest_django.live_server_helper import LiveServer

from health import runner
from health.checks import CHECKS
from health.checks.interface import Check, Level, Outcome

pytestmark = pytest.mark.django_db(transaction=True)

Open = Callable[..., Page]

OUTCOMES = {
    "database": Outcome(Level.OK, "A row was written and read in 2 ms.", facts=(("database", "PostgreSQL"),)),
    "redis": Outcome(Level.WARNING, "Redis is slow.", fix="Look at its load."),
    "broker": Outcome(
        Level.FAILED,
        "The broker cannot be reached.",
        fix="Start it: `mosquitto -c a-very-long-path/that/goes/on/and/on/and/on/mosquitto.conf`.",
        facts=(("error", "x" * 90),),
    ),
    "engine": Outcome(Level.NEUTRAL, "Not configured: the process backend is used."),
}


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Outcome]:
    """What the checks of the page find; a test may change it."""
    monkeypatch.setattr(runner, "FRESH_SECONDS", 0.0)
    found = dict(OUTCOMES)
    for name in list(CHECKS):
        monkeypatch.delitem(CHECKS, name)
    for name in OUTCOMES:
        check = Check(name, name.title(), f"Is {name} well?", lambda name=name: found[name])  # type: ignore[misc]
        monkeypatch.setitem(CHECKS, name, check)
    return found


@pytest.fixture
def problems() -> list[str]:
    """What the browser complained of."""
    return []


@pytest.fixture
def open_page(chromium: Browser, live_server: LiveServer, administrator: User, problems: list[str]) -> Iterator[Open]:
    contexts: list[BrowserContext] = []

    def complain(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            problems.append(message.text)

    def open_(*, width: int = 1400, theme: Any = "light") -> Page:
        client = Client()
        client.force_login(administrator)
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, base_url=live_server.url
        )
        contexts.append(context)
        context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}])
        page = context.new_page()
        page.on("console", complain)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.route_web_socket("**/ws/updates/", lambda route: None)
        page.goto("/health/")
        return page

    yield open_
    for context in contexts:
        context.close()


@pytest.mark.usefixtures("outcomes")
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_it_is_sound(open_page: Open, problems: list[str], width: int, theme: str) -> None:
    page = open_page(width=width, theme=theme)
    expect(page.locator("[data-waiting]")).to_have_count(0)
    for details in page.locator("details summary").all():
        details.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert [(each["id"], each["nodes"][0]["target"]) for each in Axe().run(page).response["violations"]] == []
    assert problems == []


def test_answers_come_in_one_by_one_and_sum_up(
    open_page: Open, outcomes: dict[str, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    def slow() -> Outcome:
        release.wait(20)
        return outcomes["broker"]

    monkeypatch.setitem(CHECKS, "broker", Check("broker", "Broker", "Is it well?", slow, seconds=30))
    page = open_page()
    summary = page.locator("#health-summary")
    expect(summary).to_have_text("Checking, 1 to go")
    expect(page.get_by_role("row").filter(has_text="Database").locator(".state")).to_have_text("Healthy")
    release.set()
    expect(summary).to_have_text("No: one check failed.")
    row = page.get_by_role("row").filter(has_text="The broker cannot be reached.")
    expect(row.locator(".state")).to_have_class("state state-red")
    expect(row.locator("code")).to_contain_text("mosquitto -c")


def test_it_is_checked_again(open_page: Open, outcomes: dict[str, Outcome]) -> None:
    page = open_page()
    summary = page.locator("#health-summary")
    expect(summary).to_have_text("No: one check failed.")
    outcomes["broker"] = Outcome(Level.OK, "A message came back.")
    page.get_by_role("button", name="Check again").click()
    expect(summary).to_have_text("Yes, but something should be looked at.")
    outcomes["redis"] = Outcome(Level.OK, "Redis answers.")
    page.get_by_role("button", name="Check again").click()
    expect(summary).to_have_text("Yes, as far as the checks can tell.")
    expect(page.locator("#checks [data-level=neutral] .state")).to_have_text("Not in use")


@pytest.mark.usefixtures("outcomes")
def test_a_platform_that_does_not_answer_is_said(open_page: Open) -> None:
    page = open_page()
    expect(page.locator("[data-waiting]")).to_have_count(0)
    page.route("**/health/checks/database/", lambda route: route.fulfill(status=500, body="broken"))
    page.route("**/health/checks/redis/", lambda route: route.abort())
    page.get_by_role("button", name="Check again").click()
    rows = page.get_by_role("row")
    expect(rows.filter(has_text="Database")).to_contain_text("The platform answers with an error (500).")
    expect(rows.filter(has_text="Redis")).to_contain_text("The platform does not answer. Run manage.py preflight")
    expect(page.locator("#health-summary")).to_have_text("No: 3 checks failed.")
