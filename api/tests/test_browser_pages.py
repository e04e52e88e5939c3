"""The pages of access tokens and of the reference in a real browser, in both themes and at two widths."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Browser, ConsoleMessage, Page
from pytest_django.live_server_helper import LiveServer

from api.models import AccessToken
from api.tokens import token_create

pytestmark = pytest.mark.django_db(transaction=True)
PICTURES = os.environ.get("PICTURES", "")  # a folder, to look at the pages


def _signed_in(browser: Browser, server: LiveServer, user: User, complaints: list[str], **options: Any) -> Page:
    client = Client()
    client.force_login(user)
    context = browser.new_context(**options)
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": server.url}])
    page = context.new_page()

    def hear(said: ConsoleMessage) -> None:
        if "WebSocket" not in said.text:  # the server of these tests has none
            complaints.append(f"{said.type}: {said.text}")

    page.on("console", hear)
    return page


def _picture(page: Page, name: str) -> None:
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=name.startswith("tokens"))


@pytest.mark.parametrize(("theme", "width"), [("light", 1400), ("dark", 390)])
def test_a_token_is_made_and_revoked_and_the_reference_is_read(
    chromium: Browser, live_server: LiveServer, owner: User, theme: Any, width: int
) -> None:
    complaints: list[str] = []
    token_create(user=owner, name="notebook", scopes=["read"])
    viewport: Any = {"width": width, "height": 900}
    page = _signed_in(chromium, live_server, owner, complaints, viewport=viewport, color_scheme=theme)

    page.goto(f"{live_server.url}/account/tokens/")
    page.locator("#id_name").fill("laptop")
    page.locator("input[value=run]").check()
    page.get_by_role("button", name="Make the token").click()
    page.get_by_text("laptop is made. Copy it now").wait_for()
    _picture(page, f"tokens-{theme}")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    findings = [Axe().run(page).response["violations"]]
    page.get_by_role("button", name="Revoke notebook").click()
    page.get_by_text("The token notebook is revoked.").wait_for()
    assert [(token.name, token.scopes) for token in AccessToken.objects.all()] == [("laptop", ["read", "run"])]

    page.goto(f"{live_server.url}/api/v1/docs/")
    page.locator("#run_create summary").click()
    page.locator("#run_create").get_by_text("device_ids").wait_for()
    _picture(page, f"reference-{theme}")
    findings.append(Axe().run(page).response["violations"])
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert [(each["id"], each["nodes"][0]["html"]) for found in findings for each in found] == []
    assert complaints == []
    page.context.close()
