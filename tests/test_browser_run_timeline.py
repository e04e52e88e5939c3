"""The Timeline, Logs and Lineage tabs of a run in a real browser."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from playwright.sync_api import Browser, expect

from runs.live.broadcast import log_lines_record
from runs.live.payloads import device_item, event_item
from runs.models import Event, LogLine, Round, Run
from runs.states import InstanceStatus
from tests.test_browser_run_page import (  # noqa: F401  # its fixtures
    Errors,
    WebServer,
    ada,
    browser,
    changed,
    errors,
    open_page,
    record,
    run,
    static_files,
    web,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_url")]


def span(run: Run, edge_id: int, name: str, round_index: int, started: float, ended: float | None) -> Event:  # noqa: F811
    with transaction.atomic():
        return Event.objects.update_or_create(
            run=run,
            edge_id=edge_id,
            name=name,
            value=str(round_index),
            defaults={"started_time": started, "ended_time": ended},
        )[0]


def test_rounds_the_way_to_devices_errors_and_lineage_are_shown_and_live(
    browser: Browser,  # noqa: F811
    web: WebServer,  # noqa: F811
    ada: User,  # noqa: F811
    run: Run,  # noqa: F811
    errors: Errors,  # noqa: F811
) -> None:
    north, south = run.run_devices.select_related("device").order_by("client_index")
    now = time.time()
    Round.objects.create(run=run, round_index=0, total_rounds=10, running_time=10.0)
    run = changed(run, round_index=0)
    for part, ended in ((north, 4.0), (south, 8.0)):
        span(run, part.edge_id, "train", 0, now - 20, now - 20 + ended)
        span(run, part.edge_id, "upload", 0, now - 20 + ended, now - 19.5 + ended)
    span(run, 0, "evaluate", 0, now - 11, now - 10)
    south.clock_offset = 3.0  # its clock is ahead: what it says was 3 s earlier, so that it was the last by 1 s alone
    south.command_sent_at = datetime.fromtimestamp(now - 100, UTC)
    south.status = InstanceStatus.DISPATCHED
    south.save()

    page = open_page(browser, web, ada, run, errors, "?tab=timeline")
    row = page.locator("[data-tl-table] tr")
    expect(row).to_have_count(1)
    expect(row.locator("td").nth(3)).to_have_text("ward-south")
    expect(row.locator("td").nth(4)).to_have_text("1.0 s")
    expect(page.locator("[data-tl-note]")).to_contain_text("ward-south is 3 s ahead. Their times are corrected")
    page.get_by_label("Correct the clocks").uncheck()
    expect(row.locator("td").nth(4)).to_have_text("4.0 s")
    expect(page.locator(".tl-span[data-phase=train]")).to_have_count(1)

    waiting = page.locator(f'[data-device="{south.edge_id}"]')
    expect(waiting.locator(".dl-text")).to_contain_text("and the device has not answered.")
    expect(waiting).to_have_class("dl-row is-stuck")
    south.first_report_at = datetime.fromtimestamp(now - 1, UTC)
    south.phase_times = {"fetch": now - 1, "progress": now}
    south.status, south.phase, south.progress = InstanceStatus.INITIALIZING, "fetch", 0.42
    south.save()
    record(run, device_item(south), event_item(span(run, north.edge_id, "train", 1, now - 5, None)))
    expect(waiting.locator(".is-now .dl-label")).to_contain_text("42 %")
    expect(row).to_have_count(2)

    # Logs: more lines than the document holds, an error far from the end, and errors of one kind together.
    LogLine.objects.bulk_create(
        LogLine(
            run=run,
            reporter="server",
            time=float(number),
            stream="stdout",
            level="ERROR" if number in (50, 60) else "INFO",
            line=f"{'ERROR failed after' if number in (50, 60) else 'INFO step'} {number}",
        )
        for number in range(8_000)
    )
    page.get_by_role("tab", name="Logs").click()
    texts = page.locator("#panel-logs .log-text")
    expect(texts.last).to_have_text("INFO step 7999")
    page.get_by_role("button", name="Errors 2").click()
    page.locator(".log-error", has_text="failed after").click()
    expect(page.locator("#panel-logs .is-marked .log-text")).to_have_text("ERROR failed after 60")
    page.get_by_role("button", name="Previous error").click()
    expect(page.locator("#panel-logs .is-marked .log-text")).to_have_text("ERROR failed after 50")
    expect(page.get_by_role("button", name="Paused")).to_be_visible()
    log_lines_record(run.pk, "server", [(9_000.0, "stdout", "INFO newest")])
    expect(page.locator(".log-frame .log-jump")).to_have_text("1 new")
    page.get_by_role("button", name="Paused").click()
    expect(texts.last).to_have_text("INFO newest")

    page.get_by_role("tab", name="Lineage").click()
    expect(page.get_by_role("link", name="ward-north").last).to_be_visible()
    assert errors == []
