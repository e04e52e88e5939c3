"""Renew the pictures of the README and the guide from the running product: ``make screenshots``.

A platform of its own is started with four devices; the pictures are taken while a real run goes on.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from deploy.local.demo import (
    DemoError,
    LocalDevices,
    aggregators_stop,
    configuration_prepare,
    project_prepare,
    user_prepare,
)
from deploy.local.stack import REPOSITORY, LocalStack, Ports, StackError

IMAGES = REPOSITORY / "docs" / "images"
WIDTH, HEIGHT = 1360, 900
ROUNDS = 200
SHOWN_ROUNDS = 60
SWEEP = "Rates and epochs"


def pictures_take(page: Page, url: str, run_url: str) -> None:
    """Take every picture; ``page`` is signed in, and the run at ``run_url`` is under way."""

    def picture(name: str) -> None:
        page.wait_for_timeout(1200)  # figures settle
        page.screenshot(path=IMAGES / f"{name}.png")

    page.goto(url + run_url)
    page.wait_for_function(
        "least => Number(document.querySelector('[role=tabpanel]').innerText.match(/Rounds\\s+(\\d+)/)?.[1]) >= least",
        arg=SHOWN_ROUNDS,
        timeout=180_000,
    )
    picture("run")
    for tab in ("Training status", "Results", "System", "Timeline", "Models", "Logs", "Configuration"):
        page.get_by_role("tab", name=tab).click()
        picture(f"run-{tab.lower().replace(' ', '-')}")
    for name, path in (("home", "/"), ("devices", "/devices/"), ("project", "/projects/1/")):
        page.goto(url + path)
        picture(name)
    for name, link in (("sweep", "Sweeps"), ("alerts", "Alerts")):
        page.goto(f"{url}/projects/1/")
        page.get_by_role("link", name=link).click()
        if name == "sweep":
            page.get_by_role("link", name=SWEEP).click()
        picture(name)
    page.goto(f"{url}/projects/1/runs/new/")
    page.get_by_role("combobox", name="Configuration").select_option(index=1)
    picture("new-run")
    page.goto(f"{url}/configurations/")
    page.get_by_role("row").nth(1).get_by_role("link").first.click()
    picture("configuration")


def workspace_prepare(project: Any, user: Any, configuration: Any, device_ids: list[int]) -> None:
    """Make what the pictures of sweeps and alerts show; the sweep waits for the devices, which the run holds."""
    from alerts.models import Channel, ChannelKind, Rule, RuleKind
    from sweeps.models import Sweep, Trial

    channel = Channel.objects.create(
        project=project, name="operations", kind=ChannelKind.SLACK, target="https://hooks.example.org/", created_by=user
    )
    rules: list[dict[str, Any]] = [
        {"kind": RuleKind.RUN_FAILED},
        {"kind": RuleKind.DEVICE_OFFLINE, "minutes": 10},
        {"kind": RuleKind.METRIC_STALLED, "metric": "test_accuracy", "rounds": 50},
        {"kind": RuleKind.ROUND_LATE, "minutes": 5},
    ]
    for fields in rules:
        Rule.objects.create(project=project, created_by=user, **fields).channels.add(channel)
    names = ["hyperparameters_config.client_learning_rate", "hyperparameters_config.local_epoch"]
    sweep = Sweep.objects.create(
        project=project,
        name=SWEEP,
        configuration=configuration,
        parameters=names,
        device_ids=device_ids,
        devices_per_run=2,
        concurrency=2,
        created_by=user,
    )
    pairs = itertools.product(("0.01", "0.03", "0.1"), ("1", "4"))
    Trial.objects.bulk_create(
        Trial(sweep=sweep, position=position, values=dict(zip(names, pair, strict=True)))
        for position, pair in enumerate(pairs)
    )


def main() -> int:
    """Start a platform, take the pictures, stop it; return the exit code."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("Chromium is missing. Type: apt-get install chromium", file=sys.stderr)
        return 1
    var = Path(tempfile.mkdtemp(prefix="roundtable-"))
    stack = LocalStack(var, preferred=Ports(web=0, broker=0, redis=0), environment={"ROUNDTABLE_BACKEND": "process"})
    try:
        with stack:
            import django

            os.environ.update({**stack.environment, "DJANGO_ALLOW_ASYNC_UNSAFE": "true"})
            django.setup()
            from runs.lifecycle import run_create, run_start

            user, password = user_prepare(var / "demo" / "login.json")
            devices = LocalDevices(stack)
            try:
                devices.start(user)
                project = project_prepare(user)
                configuration = configuration_prepare(user, project)
                bound = devices.wait_until_online(user)
                ids = [device.pk for device in bound]
                values = {
                    "hyperparameters_config.comm_round": ROUNDS,
                    "hyperparameters_config.local_epoch": 8,
                    "model_config.modelName": "mlp",
                    "hyperparameters_config.client_learning_rate": 0.02,
                }
                run = run_create(
                    project=project, user=user, configuration=configuration, device_ids=ids, overrides=values
                )
                run_start(run=run, user=user)
                workspace_prepare(project, user, configuration, ids)
                with sync_playwright() as playwright:
                    browser = playwright.chromium.launch(
                        executable_path=chromium, args=["--no-sandbox", "--disable-background-networking"]
                    )
                    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
                    page.goto(stack.url)
                    page.get_by_label("User name").fill(user.username)
                    page.get_by_label("Password").first.fill(password)
                    page.keyboard.press("Enter")
                    page.get_by_role("heading", name="Home").wait_for()
                    pictures_take(page, stack.url, run.get_absolute_url())
                    browser.close()
            finally:
                devices.stop()
                aggregators_stop()
    except (StackError, DemoError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(var, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
