"""The pages of alerts in a real browser: made by hand, at two widths, in both themes, for everybody."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Browser, expect
from pytest_django.live_server_helper import LiveServer

from accounts.tests.objects import make_device, make_run
from alerts.evaluation import rules_evaluate
from alerts.models import Rule, RuleKind
from runs.models import Project
from runs.states import RunState

pytestmark = pytest.mark.django_db(transaction=True)


def test_alerts_are_set_up_by_hand_and_shown(
    chromium: Browser, live_server: LiveServer, ada: User, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alerts.evaluation.notice_send", lambda *_: None)  # the browser's loop is in this thread
    client = Client()
    client.force_login(ada)
    problems: list[str] = []
    context = chromium.new_context(base_url=live_server.url, viewport={"width": 1400, "height": 900})
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}])
    page = context.new_page()
    page.route_web_socket("**/ws/updates/", lambda _: None)
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))

    page.goto(project.get_absolute_url())
    page.get_by_role("link", name="Alerts").click()
    page.get_by_role("link", name="New channel").click()
    page.get_by_label("Kind").select_option("slack")
    page.get_by_label("Name").fill("ops room")
    page.get_by_label("URL or e-mail address").fill("https://hooks.example.org/T1")
    page.get_by_role("button", name="Create channel").click()
    page.get_by_role("link", name="Done").click()
    page.get_by_role("link", name="New rule").first.click()
    expect(page.get_by_label("For minutes")).to_be_hidden()
    page.get_by_label("Tell when").select_option("metric_stalled")
    expect(page.get_by_label("For minutes")).to_be_hidden()
    page.get_by_label("Metric", exact=True).fill("test_accuracy")
    page.get_by_label("For rounds").fill("20")
    page.get_by_label("ops room").check()
    page.get_by_role("button", name="Create rule").click()
    row = page.get_by_role("row").filter(has_text="test_accuracy does not improve for 20 rounds")
    expect(row).to_contain_text("ops room")
    with page.expect_navigation():
        row.get_by_role("checkbox").uncheck()
    expect(row.get_by_role("checkbox")).not_to_be_checked()

    past = timezone.now() - timedelta(hours=1)
    for kind in (RuleKind.RUN_FAILED, RuleKind.DEVICE_OFFLINE):
        Rule.objects.create(project=project, kind=kind, minutes=1, created_at=past)
    make_run(project, state=RunState.FAILED, reason="No client is left.", ended_at=timezone.now())
    make_device(ada, "ward-north", online=False, last_seen_at=past)
    rules_evaluate()
    page.goto(reverse("alert_list", args=[project.pk]))
    page.get_by_role("button", name="Put aside").first.click()
    expect(page.get_by_role("button", name="Put aside")).to_have_count(1)
    expect(page.get_by_text("put aside by ada")).to_be_visible()

    for path in ("alert_list", "rule_create", "channel_create"):
        for width, theme in ((1400, "light"), (390, "dark")):
            page.set_viewport_size({"width": width, "height": 900})
            themes: Any = theme
            page.emulate_media(color_scheme=themes)
            page.goto(reverse(path, args=[project.pk]))  # drawn anew: a change of theme takes a moment
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (path, width)
            found = [one for one in Axe().run(page).response["violations"] if one["impact"] in ("serious", "critical")]
            assert found == [], (path, width, theme)
    context.close()
    assert problems == []
