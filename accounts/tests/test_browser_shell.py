"""What every page has, in a real browser: themes, toasts, confirmations, live badges, uploads, and no exception from
the content security policy anywhere."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    FilePayload,
    Page,
    Route,
    WebSocketRoute,
    expect,
)
from pytest_django.live_server_helper import LiveServer

from accounts.tests.objects import make_configuration, make_device, make_project, make_run, make_user
from runs.models import Project
from runs.states import RunState

pytestmark = pytest.mark.django_db(transaction=True)

Open = Callable[..., Page]


@pytest.fixture
def ada() -> User:
    return make_user("ada")


@pytest.fixture
def sockets() -> list[WebSocketRoute]:
    """The browser's connections to /ws/updates/, the newest last; tests speak for the server."""
    return []


@pytest.fixture
def problems() -> list[str]:
    """What the browser complained of."""
    return []


@pytest.fixture
def open_page(
    chromium: Browser, live_server: LiveServer, ada: User, sockets: list[WebSocketRoute], problems: list[str]
) -> Iterator[Open]:
    """Open a path in a new browser, signed in as ada: ``open_page(path, width=, theme=, signed_in=)``."""
    contexts: list[BrowserContext] = []

    def complain(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            problems.append(f"{message.location['url']}: {message.text}")

    def open_(path: str, *, width: int = 1400, theme: Any = "light", signed_in: bool = True) -> Page:
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, base_url=live_server.url
        )
        contexts.append(context)
        if signed_in:
            client = Client()
            client.force_login(ada)
            session = client.cookies["sessionid"].value
            context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
        page = context.new_page()
        page.on("console", complain)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.route_web_socket("**/ws/updates/", lambda route: sockets.append(route))
        page.goto(path)
        return page

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture
def project(ada: User) -> Project:
    """A project with a member, devices in every state, and runs."""
    grace = make_user("grace")
    project = make_project(ada, "Digits across hospitals", member="grace")
    busy = make_device(ada, "ward-south")
    make_device(ada, "ward-north", os="Debian GNU/Linux 12", cpu_count=8, memory_bytes=16 * 1024**3)
    make_device(ada, "basement", online=False)
    make_device(grace, "a-device-with-a-very-long-name-that-somebody-typed-in-one-go")
    make_configuration(ada)
    for number, state in enumerate(RunState):
        make_run(project, name=f"run-{number}", state=state, total_rounds=10, round_index=number)
    make_run(project, [busy], hold=True, name="quiet-heron", state=RunState.RUNNING, total_rounds=10)
    return project


def send(sockets: list[WebSocketRoute], **message: Any) -> None:
    sockets[-1].send(json.dumps(message))


# --- Every page ---

PAGES = ["home", "account", "password_change", "project_list", "project_create"]
PROJECT_PAGES = ["project_detail", "project_edit", "run_create"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_every_page_is_sound(open_page: Open, project: Project, problems: list[str], width: int, theme: str) -> None:
    paths = [reverse(name) for name in PAGES] + [reverse(name, args=[project.pk]) for name in PROJECT_PAGES]
    page = open_page(paths[0], width=width, theme=theme)
    for path in paths:
        page.goto(path)
        assert page.evaluate("document.documentElement.dataset.bsTheme") == theme
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{path} is wider than the window"
        found = Axe().run(page).response["violations"]
        serious = [
            (each["id"], each["nodes"][0]["target"]) for each in found if each["impact"] in ("serious", "critical")
        ]
        assert serious == [], path
    assert problems == []


def test_the_sign_in_page_is_sound(open_page: Open, problems: list[str]) -> None:
    page = open_page(reverse("login"), signed_in=False)
    expect(page.get_by_label("User name")).to_be_focused()
    assert [each["id"] for each in Axe().run(page).response["violations"]] == []
    assert problems == []


def test_an_empty_account_is_led_to_its_first_device(open_page: Open) -> None:
    page = open_page(reverse("home"))
    expect(page.get_by_role("list").get_by_role("link", name="Bind a device")).to_have_attribute(
        "href", reverse("device_bind")
    )


# --- Theme ---


def test_a_chosen_theme_stays_and_stands_before_the_first_paint(open_page: Open) -> None:
    page = open_page(reverse("home"))
    page.get_by_role("button", name="Theme").click()
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    page.add_init_script(
        "document.addEventListener('readystatechange', () => {"
        " window.early ??= [document.documentElement.dataset.bsTheme, performance.getEntriesByType('paint').length] })"
    )
    page.reload()
    assert page.evaluate("window.early") == ["dark", 0]


def test_the_theme_follows_the_system_until_one_is_chosen(open_page: Open) -> None:
    page = open_page(reverse("home"), theme="dark")
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    page.emulate_media(color_scheme="light")
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "light")


def test_the_navigation_opens_by_its_burger_on_a_narrow_screen(open_page: Open) -> None:
    page = open_page(reverse("home"), width=390)
    link = page.get_by_role("navigation", name="Main").get_by_role("link", name="Projects")
    expect(link).to_be_hidden()
    page.get_by_role("button", name="Menu").click()
    link.click()
    page.wait_for_url(f"**{reverse('project_list')}")
    expect(page.locator("#main-menu [aria-current=page]")).to_have_text("Projects")


# --- Live ---


def test_badges_times_and_rounds_follow_what_the_server_sends(
    open_page: Open, project: Project, sockets: list[WebSocketRoute]
) -> None:
    run = project.runs.get(name="quiet-heron")
    page = open_page(project.get_absolute_url())
    row = page.get_by_role("row").filter(has_text="quiet-heron")
    expect(row.locator(".state")).to_have_text("Running")
    page.route("**/projects/**", lambda route: route.abort())  # the refresh of the list: here the patch alone counts
    send(
        sockets,
        kind="run",
        id=run.pk,
        state="FAILED",
        label="Failed",
        colour="red",
        reason="The client ended.",
        rounds={"round_index": 6, "total_rounds": 10},
    )
    expect(row.locator(".state")).to_have_text("Failed")
    expect(row.locator(".state")).to_have_class("state state-red")
    expect(row.locator(".state")).to_have_attribute("title", "The client ended.")
    expect(row.locator("span[data-live$=rounds]")).to_have_text("7 / 10")
    assert row.locator("progress").evaluate("bar => bar.value") == 7


def test_a_list_fetches_itself_anew_when_a_run_changes(
    open_page: Open, project: Project, sockets: list[WebSocketRoute]
) -> None:
    page = open_page(project.get_absolute_url())
    run = make_run(project, name="bold-otter")
    send(sockets, kind="run", id=run.pk, state="CREATED", label="Created", colour="grey")
    expect(page.get_by_role("link", name="bold-otter")).to_be_visible()


def test_what_happened_elsewhere_is_a_toast(open_page: Open, sockets: list[WebSocketRoute]) -> None:
    page = open_page(reverse("home"))
    send(sockets, kind="toast", level="success", text="<b>quiet-heron</b> finished", url="/runs/7/")
    link = page.get_by_role("status").get_by_role("link", name="<b>quiet-heron</b> finished")
    expect(link).to_have_attribute("href", "/runs/7/")
    send(sockets, kind="toast", level="error", text="Broken", url="javascript:alert(1)")
    expect(page.get_by_role("alert")).to_contain_text("Broken")
    expect(page.get_by_role("alert").locator("a")).not_to_have_attribute("href", "javascript:alert(1)")
    page.get_by_role("alert").get_by_role("button", name="Close").click()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_lost_connection_is_said_and_taken_up_again(open_page: Open, sockets: list[WebSocketRoute]) -> None:
    page = open_page(reverse("home"))
    banner = page.get_by_text("Live connection lost, reconnecting")
    expect(banner).to_be_hidden()
    page.unroute_all()
    page.route_web_socket("**/ws/updates/", lambda route: route.close())
    sockets[-1].close()
    expect(banner).to_be_visible()
    page.route_web_socket("**/ws/updates/", lambda route: sockets.append(route))
    expect(banner).to_be_hidden(timeout=10_000)
    send(sockets, kind="toast", text="Here again")
    expect(page.get_by_text("Here again")).to_be_visible()


def test_what_is_no_message_changes_nothing(
    open_page: Open, sockets: list[WebSocketRoute], problems: list[str]
) -> None:
    page = open_page(reverse("home"))
    sockets[-1].send("nonsense")
    send(sockets, kind="device", id='1"] *', state="IDLE", label="Idle", colour="green")
    send(sockets, kind="toast", text="Still here")
    expect(page.get_by_text("Still here")).to_be_visible()
    assert problems == []


# --- Confirmations, copies, uploads ---


def test_what_would_be_lost_is_asked_first(open_page: Open, project: Project) -> None:
    page = open_page(project.get_absolute_url())
    member = page.get_by_role("row").filter(has_text="grace")
    dialog = page.get_by_role("dialog", name="Remove grace?")
    member.get_by_role("button", name="Remove").click()
    expect(dialog).to_contain_text("grace will no longer see Digits across hospitals")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    assert project.memberships.count() == 2
    member.get_by_role("button", name="Remove").click()
    dialog.get_by_role("button", name="Remove").click()
    expect(page.get_by_text("grace is no longer a member.")).to_be_visible()
    assert project.memberships.count() == 1


def test_a_button_copies_its_text(open_page: Open, live_server: LiveServer) -> None:
    page = open_page(reverse("home"))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=live_server.url)
    page.evaluate(
        "() => { const button = document.createElement('button'); button.dataset.copy = 'edge/run.sh CODE';"
        " button.textContent = 'Copy this'; document.querySelector('main').append(button); }"
    )
    page.get_by_role("button", name="Copy this").click()
    assert page.evaluate("navigator.clipboard.readText()") == "edge/run.sh CODE"


@pytest.mark.parametrize(
    ("status", "answer", "words", "event"),
    [
        (201, {"sha256": "00"}, "package.zip, 9 B", ["start", "done"]),
        (400, {"error": "The archive has no package/conf/fedml.yaml."}, "The archive has no", ["start", "failed"]),
        (413, None, "The file is larger than the server takes.", ["start", "failed"]),
    ],
)
def test_an_upload_shows_how_it_went(
    open_page: Open, status: int, answer: object, words: str, event: list[str]
) -> None:
    page = open_page(reverse("home"))
    tokens = []

    def receive(route: Route) -> None:
        tokens.append(route.request.headers["x-csrftoken"])
        route.fulfill(status=status, body=json.dumps(answer) if answer else "too large")

    page.route("**/upload/", receive)
    page.evaluate(
        "() => { const input = document.createElement('input'); input.type = 'file';"
        " Object.assign(input.dataset, {uploadUrl: '/upload/', uploadKind: 'server'}); window.seen = [];"
        " for (const name of ['start', 'done', 'failed'])"
        " document.addEventListener(`upload:${name}`, () => window.seen.push(name));"
        " document.querySelector('main').append(input); }"
    )
    page.locator("main input[type=file]").set_input_files(
        FilePayload(name="package.zip", mimeType="application/zip", buffer=b"PK\3\4 data")
    )
    expect(page.locator(".upload-words")).to_contain_text(words)
    assert page.evaluate("window.seen") == event
    assert len(tokens[0]) >= 32


# --- The form of a new run ---


def test_a_run_is_made_by_hand(open_page: Open, project: Project) -> None:
    page = open_page(reverse("run_create", args=[project.pk]))
    page.get_by_label("Name", exact=True).fill("bold-otter")
    page.get_by_role("combobox", name="Configuration").select_option(label="FedAvg")
    rate = page.get_by_label("lr for this run")
    rate.fill("0.5")
    expect(page.get_by_role("row").filter(has=rate)).to_have_class("is-changed")
    page.get_by_label("All idle devices").check()
    expect(page.locator("#chosen-count")).to_have_text("2")
    expect(page.locator("#run-preview")).to_contain_text("python fedml/main.py --model lr --lr 0.5")
    page.get_by_role("button", name="Create", exact=True).click()
    page.wait_for_url("**/runs/*/")
    run = project.runs.get(name="bold-otter")
    assert run.configuration_copy["overrides"] == ["hyperparameters_config.lr"]
    assert run.run_devices.count() == 2


def test_a_device_that_goes_offline_can_no_longer_be_chosen(
    open_page: Open, project: Project, sockets: list[WebSocketRoute]
) -> None:
    page = open_page(reverse("run_create", args=[project.pk]))
    box = page.get_by_label("ward-north")
    box.check()
    send(
        sockets,
        kind="device",
        id=int(str(box.get_attribute("value"))),
        state="OFFLINE",
        label="Offline",
        colour="grey",
        since=1_700_000_000,
    )
    expect(box).to_be_disabled()
    expect(box).not_to_be_checked()
    expect(page.locator("#chosen-count")).to_have_text("0")
    expect(page.get_by_label("basement")).to_be_disabled()


def test_a_list_whose_session_has_ended_leads_to_the_sign_in_page(
    open_page: Open, project: Project, sockets: list[WebSocketRoute]
) -> None:
    page = open_page(project.get_absolute_url())
    page.context.clear_cookies()
    send(sockets, kind="run", id=1)
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    expect(page.get_by_role("navigation")).to_have_count(0)
