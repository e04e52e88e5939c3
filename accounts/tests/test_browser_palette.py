"""The command palette and the shortcuts, by keyboard alone, at two widths and in both themes."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from django.test import Client
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

from accounts.tests.objects import make_project, make_run, make_user

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def problems() -> list[str]:
    """What the browser complained of."""
    return []


@pytest.fixture(params=[(1400, "light"), (390, "dark")], ids=["wide-light", "narrow-dark"])
def home(request: Any, chromium: Browser, live_server: LiveServer, problems: list[str]) -> Iterator[Page]:
    """The home page of ada, who has a run."""
    width, theme = request.param
    ada = make_user("ada")
    project = make_project(ada, "Digits across hospitals")
    make_run(project, name="quiet-heron")
    make_run(project, name="bold-otter")
    context = chromium.new_context(
        viewport={"width": width, "height": 900}, color_scheme=theme, base_url=live_server.url
    )
    client = Client()
    client.force_login(ada)
    session = client.cookies["sessionid"].value
    context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
    page = context.new_page()
    page.on("console", lambda said: problems.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.route_web_socket("**/ws/updates/", lambda route: None)
    page.goto("/")
    yield page
    context.close()


def sound(page: Page, name: str) -> None:
    """Look at the page with axe, and keep a picture where one is asked for."""
    if shots := os.environ.get("SHOTS"):
        page.screenshot(path=Path(shots) / f"{name}-{page.viewport_size['width']}.png")  # type: ignore[index]
    found = Axe().run(page).response["violations"]
    assert [(each["id"], each["nodes"][0]["target"]) for each in found if each["impact"] != "minor"] == []


def test_a_run_is_found_and_opened_by_keys_alone(home: Page, problems: list[str]) -> None:
    home.keyboard.press("Control+k")
    box = home.get_by_role("combobox", name="Find a run, project")
    expect(box).to_be_focused()
    expect(home.get_by_role("option", name="quiet-heron")).to_be_visible()
    sound(home, "palette")
    home.keyboard.type("digits")
    expect(home.get_by_role("option")).to_have_count(3)
    expect(home.get_by_role("option", selected=True)).to_contain_text("bold-otter")
    home.keyboard.press("ArrowDown")
    option = home.get_by_role("option", selected=True)
    expect(option).to_contain_text("quiet-heron")
    assert box.get_attribute("aria-activedescendant") == option.get_attribute("id")
    home.keyboard.press("Enter")
    expect(home.get_by_role("heading", name="quiet-heron")).to_be_visible()
    assert problems == []


def test_what_was_typed_last_is_opened_without_waiting(home: Page) -> None:
    home.keyboard.press("Control+k")
    home.keyboard.type("bind")
    home.keyboard.press("Enter")
    expect(home.get_by_role("heading", name="Bind a device")).to_be_visible()


def test_nothing_found_and_no_answer_are_said(home: Page) -> None:
    home.get_by_role("button", name="Search and go to").locator("visible=true").click()
    home.keyboard.type("nothing of this name")
    expect(home.get_by_role("status").filter(has_text="Nothing matches")).to_be_visible()
    home.route("**/find/**", lambda route: route.abort())
    home.keyboard.type("!")
    expect(home.get_by_role("status").filter(has_text="The server did not answer")).to_be_visible()
    home.keyboard.press("Escape")
    expect(home.get_by_role("dialog")).to_have_count(0)


def test_shortcuts_are_listed_and_go_places(home: Page, problems: list[str]) -> None:
    home.keyboard.press("?")
    dialog = home.get_by_role("dialog", name="Keyboard shortcuts")
    expect(dialog).to_contain_text("Go to Projects")
    sound(home, "shortcuts")
    home.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    home.keyboard.press("g")
    home.keyboard.press("p")
    home.wait_for_url("**/projects/")
    home.keyboard.press("/")
    expect(home.get_by_role("searchbox")).to_be_focused()
    home.keyboard.type("g?")
    expect(home.get_by_role("searchbox")).to_have_value("g?")
    expect(dialog).to_have_count(0)
    assert problems == []
