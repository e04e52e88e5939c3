"""The form of a configuration in a real browser: uploads, rows, differences, and saving, without the mouse too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, expect
from pytest_django.live_server_helper import LiveServer

from configurations.models import Configuration
from configurations.tests.packages import FEDML_YAML, make_configuration, package_bytes

pytestmark = pytest.mark.django_db(transaction=True)

WIDTHS_AND_THEMES = [(1400, "light"), (390, "dark")]
EXPECTED = ("the server responded with a status of 400", "WebSocket connection to")


@pytest.fixture
def ada(transactional_db: None) -> User:
    return User.objects.create_user("ada")


@pytest.fixture(params=WIDTHS_AND_THEMES, ids=lambda pair: f"{pair[0]}-{pair[1]}")
def page(request: pytest.FixtureRequest, chromium: Browser, live_server: LiveServer, ada: User) -> Iterator[Page]:
    """A browser in which ada is signed in, that must not complain of anything."""
    width, theme = request.param
    problems: list[str] = []

    def complain(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(text in message.text for text in EXPECTED):
            problems.append(message.text)

    context = chromium.new_context(
        viewport={"width": width, "height": 900}, color_scheme=theme, base_url=live_server.url
    )
    client = Client()
    client.force_login(ada)
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}])
    page = context.new_page()
    page.on("console", complain)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.route_web_socket("**/ws/updates/", lambda route: None)
    yield page
    context.close()
    assert problems == []


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A server package, a client package that differs from it in one value, and one with two problems."""
    contents = {
        "server": FEDML_YAML,
        "client": FEDML_YAML.replace("lr: 0.03", "lr: 0.3"),
        "broken": FEDML_YAML.replace("lr: 0.03", "lr: 3e-2").replace("comm_round: 10", "comm_round: 010"),
    }
    paths = {name: tmp_path / f"{name}.zip" for name in contents}
    for name, yaml in contents.items():
        paths[name].write_bytes(package_bytes(yaml))
    return paths


def _names(page: Page) -> list[str]:
    return [box.input_value() for box in page.locator("[name=hyperparameters_config-name]").all()]


def test_a_configuration_is_made_from_two_packages(page: Page, files: dict[str, Path], ada: User) -> None:
    page.goto(reverse("configuration_create"))
    page.locator("#id_name").fill("FedAvg")

    page.get_by_label("Server package").set_input_files(files["broken"])
    refused = page.locator("#refused-server")
    expect(refused.locator("li")).to_have_count(2)
    expect(refused).to_contain_text("package/conf/fedml.yaml, line 4")
    expect(refused).to_contain_text("Write 3.0e-2 for the number")

    page.get_by_label("Server package").set_input_files(files["server"])
    expect(page.locator("#package-server")).to_contain_text("fedml/main.py")
    expect(refused).to_be_hidden()
    page.get_by_label("Client package").set_input_files(files["client"])
    expect(page.locator("#package-client")).to_contain_text("fedml/main.py")
    assert _names(page) == ["lr", "comm_round", "client_num_per_round"]

    differ = page.get_by_role("group", name="lr")
    expect(differ).to_contain_text("The packages differ")
    differ.get_by_role("button", name="client 0.3").click()
    expect(page.locator("#hyperparameters_config-0-value")).to_have_value("0.3")
    expect(page.locator("#hyperparameters_config-0-value")).to_be_focused()
    expect(page.locator("#preview")).to_contain_text("--lr")

    page.locator("#hyperparameters_config-1-value").fill("${hyperparameters_config.lrr}")
    page.get_by_role("group", name="comm_round").get_by_label("Type").select_option("string")
    expect(page.locator("#preview")).to_contain_text("Did you mean ${hyperparameters_config.lr}?")
    page.locator("#hyperparameters_config-1-value").fill("12")
    expect(page.locator("#preview .alert")).to_have_count(0)

    page.get_by_role("button", name="Save configuration").click()
    page.wait_for_url(f"**{Configuration.objects.get().get_absolute_url()}")
    rows = Configuration.objects.get(owner=ada).hyperparameters_config
    assert [(row["name"], row["type"], row["value"]) for row in rows] == [
        ("lr", "float", 0.3),
        ("comm_round", "string", "12"),
        ("client_num_per_round", "string", "${FEDSYS.CLIENT_NUM}"),
    ]


def test_rows_are_added_and_removed_by_keyboard(page: Page, ada: User) -> None:
    configuration = make_configuration(ada)
    page.goto(reverse("configuration_edit", args=[configuration.pk]))
    page.locator("#hyperparameters_config-add").press("Enter")
    expect(page.locator("#hyperparameters_config-3-name")).to_be_focused()
    page.keyboard.type("momentum")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type("0.9")
    page.get_by_role("button", name="Remove lr").press("Enter")
    expect(page.locator("#hyperparameters_config-0-name")).to_be_focused()
    assert _names(page) == ["comm_round", "client_num_per_round", "momentum"]
    page.get_by_role("button", name="Put lr back").press("Enter")
    expect(page.locator("#hyperparameters_config-3-value")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{configuration.get_absolute_url()}")
    configuration.refresh_from_db()
    assert [(row["name"], row["value"]) for row in configuration.hyperparameters_config] == [
        ("comm_round", 10),
        ("client_num_per_round", "${FEDSYS.CLIENT_NUM}"),
        ("momentum", 0.9),
        ("lr", 0.03),
    ]


def test_data_are_uploaded_and_removed_again(page: Page, ada: User, tmp_path: Path) -> None:
    table = tmp_path / "train.csv"
    table.write_text("x,label\n0.1,1\n")
    configuration = make_configuration(ada)
    page.goto(reverse("configuration_edit", args=[configuration.pk]))
    page.get_by_label("Or upload the synthetic data").set_input_files(table)
    expect(page.locator("#data-chosen")).to_contain_text("train.csv")
    expect(page.locator("#preview")).to_contain_text("fedml/main.py")
    page.get_by_role("button", name="Save changes").click()
    page.wait_for_url(f"**{configuration.get_absolute_url()}")
    configuration.refresh_from_db()
    assert configuration.synthetic_data_name == "train.csv"

    page.goto(reverse("configuration_edit", args=[configuration.pk]))
    page.locator("#data-chosen").get_by_role("button", name="Remove").click()
    expect(page.get_by_label("Or upload the synthetic data")).to_be_focused()
    page.get_by_role("button", name="Save changes").click()
    page.wait_for_url(f"**{configuration.get_absolute_url()}")
    configuration.refresh_from_db()
    assert configuration.synthetic_data_name == ""


def test_leaving_with_unsaved_values_asks_first(page: Page, ada: User) -> None:
    page.goto(reverse("configuration_edit", args=[make_configuration(ada).pk]))
    page.locator("#hyperparameters_config-0-value").press_sequentially("1")
    asked: list[str] = []

    def answer(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.accept()

    page.on("dialog", answer)
    page.get_by_role("link", name="Cancel").click()
    page.wait_for_url(f"**{Configuration.objects.get().get_absolute_url()}")
    assert asked == ["beforeunload"]


@pytest.mark.parametrize(
    "name", ["configuration_list", "configuration_create", "configuration_detail", "configuration_edit",
             "configuration_delete"],
)  # fmt: skip
def test_every_page_fits_and_is_accessible(page: Page, ada: User, name: str) -> None:
    configuration = make_configuration(ada)
    arguments: list[Any] = [] if name in ("configuration_list", "configuration_create") else [configuration.pk]
    page.goto(reverse(name, args=arguments))
    width = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert width[0] <= width[1]
    results = Axe().run(page).response["violations"]
    serious = [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in results
               if rule["impact"] in ("serious", "critical")]  # fmt: skip
    assert serious == []
