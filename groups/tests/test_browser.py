"""Groups in a real browser: every page at two widths and in both themes, an invitation from end to end, live states."""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, WebSocketRoute, expect
from pytest_django.live_server_helper import LiveServer

from accounts.tests.objects import make_device, make_run, make_user
from groups.invitations import invitation_create
from groups.models import Group
from groups.services import group_create
from runs.projects import project_create
from runs.states import RunState

pytestmark = pytest.mark.django_db(transaction=True)

Open = Callable[..., Page]


@pytest.fixture
def ada() -> User:
    return make_user("ada")


@pytest.fixture
def group(ada: User) -> Group:
    """Three people, devices in every state, a project with a run, an open invitation.

    Made in a thread of its own: this one has the loop of the browser, beside which no notice can be sent.
    """

    def work() -> Group:
        try:
            return _group_make(ada)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def _group_make(ada: User) -> Group:
    grace, mary = make_user("grace"), make_user("mary")
    group = group_create(user=ada, name="Hospitals", description="Four sites, one model.", people=[grace, mary])
    project = project_create(user=ada, name="Digits", group=group)
    make_device(ada, "ward-north", os="Debian GNU/Linux 12")
    make_device(grace, "basement", online=False)
    busy = make_device(grace, "a-device-with-a-very-long-name-that-somebody-typed-in-one-go")
    make_run(project, [busy], hold=True, state=RunState.RUNNING, total_rounds=10)
    invitation_create(group=group, user=ada, role="member", days=7, people=3)
    return group


@pytest.fixture
def sockets() -> list[WebSocketRoute]:
    """The browser's connections to /ws/updates/; tests speak for the server."""
    return []


@pytest.fixture
def problems() -> list[str]:
    """What the browser complained of."""
    return []


@pytest.fixture
def open_page(
    chromium: Browser, live_server: LiveServer, sockets: list[WebSocketRoute], problems: list[str]
) -> Iterator[Open]:
    contexts: list[BrowserContext] = []

    def complain(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            problems.append(f"{message.location['url']}: {message.text}")

    def open_(path: str, user: User | None, *, width: int = 1400, theme: Any = "light") -> Page:
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, base_url=live_server.url
        )
        contexts.append(context)
        if user is not None:
            client = Client()
            client.force_login(user)
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


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_every_page_is_sound(
    open_page: Open, ada: User, group: Group, problems: list[str], width: int, theme: str
) -> None:
    paths = [
        group.get_absolute_url(),
        reverse("group_list"),
        reverse("collaborators"),
        reverse("group_create"),
        reverse("group_edit", args=[group.pk]),
        reverse("join"),
        f"{reverse('device_list')}?group={group.pk}",
    ]
    page = open_page(paths[0], ada, width=width, theme=theme)
    for path in paths:
        page.goto(path)
        if shots := os.environ.get("SHOTS"):
            page.screenshot(
                path=Path(shots) / f"{path.strip('/').replace('/', '-').replace('?', '-')}-{width}-{theme}.png",
                full_page=True,
            )
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{path} is wider than the window"
        found = Axe().run(page).response["violations"]
        serious = [
            (each["id"], each["nodes"][0]["target"]) for each in found if each["impact"] in ("serious", "critical")
        ]
        assert serious == [], path
    assert problems == []


def test_an_invitation_leads_from_one_browser_into_the_other(
    open_page: Open, live_server: LiveServer, settings: Any, ada: User, group: Group, problems: list[str]
) -> None:
    settings.PUBLIC_URL = live_server.url
    settings.INVITED_ACCOUNTS = True
    owner = open_page(group.get_absolute_url(), ada)
    owner.get_by_label("How many people").fill("1")
    owner.get_by_role("button", name="Make a link").click()
    link = owner.locator(".copy-line code").inner_text()
    guest = open_page(link, None)
    expect(guest.get_by_role("heading", name="Join Hospitals")).to_be_visible()
    assert guest.url == f"{live_server.url}{reverse('join')}"
    guest.get_by_label("User name").fill("newcomer")
    guest.get_by_label("Password", exact=True).fill("a long river")
    guest.get_by_label("Password confirmation").fill("a long river")
    guest.get_by_role("button", name="Make the account and join").click()
    expect(guest.get_by_role("heading", name="Hospitals", exact=True)).to_be_visible()
    assert group.memberships.get(user__username="newcomer").role == "member"
    late = open_page(link, None)
    expect(late.get_by_role("alert")).to_contain_text("not valid any more")
    assert problems == []


def test_the_topology_follows_what_devices_do(
    open_page: Open, ada: User, group: Group, sockets: list[WebSocketRoute]
) -> None:
    page = open_page(group.get_absolute_url(), ada)
    device = ada.devices.get()
    row = page.get_by_role("list", name="Devices of ada").get_by_role("listitem")
    expect(row.locator(".state")).to_have_text("Idle")
    page.route("**/groups/**", lambda route: route.abort())  # the refresh of the page: here the patch alone counts
    sockets[-1].send(
        json.dumps({"kind": "device", "id": device.pk, "state": "OFFLINE", "label": "Offline", "colour": "grey"})
    )
    expect(row.locator(".state")).to_have_text("Offline")


def test_a_member_who_joins_appears_without_a_reload(
    open_page: Open, ada: User, group: Group, sockets: list[WebSocketRoute]
) -> None:
    page = open_page(group.get_absolute_url(), ada)
    group.memberships.create(user=make_user("newcomer"))
    sockets[-1].send(json.dumps({"kind": "group", "id": group.pk}))
    expect(page.get_by_role("list", name="Devices of newcomer")).to_contain_text("No device bound yet")


def test_leaving_says_what_is_lost(open_page: Open, group: Group) -> None:
    page = open_page(group.get_absolute_url(), User.objects.get(username="mary"))
    page.get_by_role("button", name="Leave").click()
    dialog = page.get_by_role("dialog", name="Leave this group?")
    expect(dialog).to_contain_text("no longer see Hospitals and its projects")
    dialog.get_by_role("button", name="Leave").click()
    expect(page.get_by_text("You have left the group Hospitals.")).to_be_visible()
    assert not group.memberships.filter(user__username="mary").exists()


def test_devices_are_chosen_and_unbound_together(open_page: Open, ada: User, group: Group, problems: list[str]) -> None:
    make_device(ada, "ward-south")
    page = open_page(reverse("device_list"), ada)
    act = page.get_by_role("button", name="Unbind")
    expect(act).to_be_disabled()
    page.get_by_label("Choose ward-north").check()
    expect(act).to_have_text("Unbind 1")
    page.get_by_role("button", name="Refresh").click()
    expect(page.get_by_label("Choose ward-north")).to_be_checked()
    page.get_by_label("Choose all of your devices on this page").check()
    expect(act).to_have_text("Unbind 2")
    act.click()
    expect(page.get_by_role("heading", name="Unbind 2 devices?")).to_be_visible()
    page.get_by_role("link", name="Cancel").click()
    page.get_by_label("State", exact=True).select_option(label="Offline")
    page.wait_for_url("**state=offline**")
    expect(page.get_by_role("link", name="basement")).to_be_visible()
    assert problems == []
