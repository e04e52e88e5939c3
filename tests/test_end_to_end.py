"""The user guide by hand: build, configure, create a run, start it, watch it, take the model home. And what goes wrong.

Everything is real: the processes, the broker, the agents, the training and the browser. While a run is watched no page
is loaded again: whatever is seen there arrived by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, expect
from safetensors.numpy import load_file

from tests.platform import Platform, platform_start, wait_for
from tests.servers import MosquittoServer

LONG = 120_000  # ms; what a loaded machine may take for the first virtual environment


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Platform, MosquittoServer]]:
    with platform_start(tmp_path_factory.mktemp("platform")) as started:
        yield started


@pytest.fixture(scope="module")
def platform(running: tuple[Platform, MosquittoServer]) -> Platform:
    return running[0]


def test_the_user_guide_by_hand(platform: Platform, chromium: Browser, tmp_path: Path) -> None:
    with platform.browser_page(chromium) as page:
        for name in ("north", "south"):
            platform.device_bind(page, name)
        platform.configuration_create(page, "Digits by hand")
        project = platform.project_create(page, "By hand")
        platform.run_start(page, project, "Digits by hand", ["north", "south"], comm_round="12")

        # States and stages arrive by themselves.
        overview = page.get_by_role("tabpanel", name="Overview")
        expect(page.get_by_text("Finished").first).to_be_visible(timeout=LONG)
        for stage in ("Build server image", "Push server image", "Launch aggregator", "Send to devices"):
            expect(overview.get_by_role("listitem").filter(has_text=stage)).to_contain_text(
                re.compile("Done|Unchanged")
            )
        expect(overview).to_contain_text("12of 12")

        # Curves.
        page.get_by_role("tab", name="Results").click()
        accuracy = page.locator(".js-plotly-plot").first
        expect(accuracy).to_be_visible()
        points = wait_for(
            "twelve points of accuracy",
            lambda: (
                drawn
                if (drawn := accuracy.evaluate("plot => Math.max(...plot.data.map(trace => trace.x.length))")) >= 12
                else None
            ),
        )
        assert points == 12

        # The devices' logs, and both kinds of models.
        page.get_by_role("tab", name="Logs").click()
        expect(page.get_by_text(re.compile("round", re.IGNORECASE)).first).to_be_visible()
        page.get_by_role("tab", name="Models").click()
        with page.expect_download() as downloading:
            page.get_by_role("link", name=re.compile("Download")).first.click()
        model = tmp_path / downloading.value.suggested_filename
        downloading.value.save_as(model)
        weights = load_file(model)
        assert len(weights) == 2
        assert all(np.isfinite(array).all() for array in weights.values())


def test_an_agent_is_killed_and_comes_back(platform: Platform, chromium: Browser) -> None:
    with platform.browser_page(chromium) as page:
        agent = next(agent for agent in platform.agents if agent.name == "north")
        page.goto(f"{platform.url}/projects/")
        page.get_by_role("link", name="By hand").click()
        platform.run_start(page, page.url, "Digits by hand", ["north", "south"], comm_round="400", local_epoch="5")
        expect(page.get_by_text("Running").first).to_be_visible(timeout=LONG)

        agent.kill()
        page.get_by_role("tab", name="Training status").click()
        north = page.get_by_role("row").filter(has_text="north")
        expect(north).to_contain_text(re.compile("offline", re.IGNORECASE))

        agent.start()
        expect(north).not_to_contain_text(re.compile("offline", re.IGNORECASE), use_inner_text=True, timeout=30_000)
        expect(north).to_contain_text("Training")

        page.get_by_role("button", name="Stop").first.click()
        page.get_by_role("dialog").get_by_role("button", name=re.compile("Stop")).click()
        expect(page.get_by_text("Stopped").first).to_be_visible(timeout=60_000)
        expect(north).to_contain_text("Stopped")


def test_the_broker_is_restarted_during_a_run(running: tuple[Platform, MosquittoServer], chromium: Browser) -> None:
    platform, broker = running
    with platform.browser_page(chromium) as page:
        page.goto(f"{platform.url}/projects/")
        page.get_by_role("link", name="By hand").click()
        platform.run_start(page, page.url, "Digits by hand", ["north", "south"], comm_round="60", local_epoch="5")
        expect(page.get_by_text("Running").first).to_be_visible(timeout=LONG)
        broker.kill()
        broker.start()
        expect(page.get_by_text("Finished").first).to_be_visible(timeout=LONG)
        expect(page.get_by_role("tabpanel", name="Overview")).to_contain_text("60of 60")
