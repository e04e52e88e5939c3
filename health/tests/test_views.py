"""The page "Is this installation healthy?"."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from health.checks import CHECKS
from health.checks.interface import Check, Level, Outcome

ANSWERS = {
    "good": Outcome(Level.OK, "It is <good>.", facts=(("address", "10.0.0.7:5432"),)),
    "bad": Outcome(Level.FAILED, "It is away.", fix="Type `start <it>`.", facts=(("path", "/srv/secret"),)),
}


@pytest.fixture
def _two_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(CHECKS):
        monkeypatch.delitem(CHECKS, name)
    for name, outcome in ANSWERS.items():
        check = Check(name, name.title(), f"Is it {name}?", lambda outcome=outcome: outcome)  # type: ignore[misc]
        monkeypatch.setitem(CHECKS, name, check)


def test_a_visitor_signs_in_first(client: Client, db: None) -> None:
    for path in ("/health/", "/health/?now", "/health/checks/database/"):
        response = client.get(path)
        assert (response.status_code, response.headers["Location"].partition("?")[0]) == (302, "/login/")


def test_the_page_is_there_before_any_answer(client: Client, user: User) -> None:
    client.force_login(user)
    response = client.get("/health/")
    page = response.content.decode()
    assert response.status_code == 200
    assert "no-store" in response.headers["Cache-Control"]
    for check in CHECKS.values():
        assert f'hx-get="/health/checks/{check.name}/"' in page
        assert check.question in page
    assert page.count("data-waiting") == len(CHECKS)


@pytest.mark.usefixtures("_two_checks")
def test_a_user_sees_states_and_no_details(client: Client, user: User) -> None:
    client.force_login(user)
    for path in ("/health/checks/bad/", "/health/?now"):
        page = client.get(path).content.decode()
        assert "Failed" in page
        assert "It is away." in page
        for hidden in ("Type", "/srv/secret", "10.0.0.7", "Details"):
            assert hidden not in page


@pytest.mark.usefixtures("_two_checks")
def test_an_administrator_sees_what_to_do(client: Client, administrator: User) -> None:
    client.force_login(administrator)
    page = client.get("/health/checks/bad/").content.decode()
    assert '<tr data-check="bad" data-level="failed">' in page
    assert "Type <code>start &lt;it&gt;</code>." in page
    assert "<dt>Path</dt><dd>/srv/secret</dd>" in page
    good = client.get("/health/checks/good/").content.decode()
    assert "It is &lt;good&gt;." in good
    assert 'data-level="ok"' in good


@pytest.mark.usefixtures("_two_checks")
def test_every_answer_is_in_one_page_when_asked_for(client: Client, administrator: User) -> None:
    client.force_login(administrator)
    page = client.get("/health/?now").content.decode()
    assert page.index('data-check="good"') < page.index('data-check="bad"')
    assert "data-waiting" not in page


def test_an_unknown_check_is_not_found(client: Client, user: User) -> None:
    client.force_login(user)
    assert client.get("/health/checks/nonsense/").status_code == 404


@pytest.mark.parametrize("path", ["/health/", "/health/checks/disk/"])
def test_another_method_is_refused(client: Client, user: User, path: str) -> None:
    client.force_login(user)
    assert client.post(path).status_code == 405


def test_the_navigation_leads_there(client: Client, user: User) -> None:
    client.force_login(user)
    assert '<a class="nav-link" href="/health/" aria-current="page">' in client.get("/health/").content.decode()


def test_no_answer_of_a_failure_names_an_address(client: Client, user: User, redis_url: str) -> None:
    """Every check is really made, with everything away."""
    client.force_login(user)
    page = client.get("/health/checks/broker/").content.decode()
    assert "127.0.0.1" not in page.split("</th>")[1]
