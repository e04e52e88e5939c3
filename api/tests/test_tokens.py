"""Access tokens: shown once, kept as digests, ended at once, with last use and expiry."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from api import throttle, tokens
from api.models import AccessToken
from api.tests.conftest import ApiClient, ApiFor


def _page(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_the_page_makes_a_token_that_is_shown_once(owner: User) -> None:
    page = _page(owner)
    answer = page.post("/account/tokens/", {"name": "laptop", "scopes": ["read", "run"], "lifetime": "30"})
    text = answer.context["text"]
    assert text in answer.content.decode()
    assert "no-store" in answer.headers["Cache-Control"]
    token = AccessToken.objects.get()
    assert (token.name, token.scopes) == ("laptop", ["read", "run"])
    assert token.expires_at is not None
    assert timedelta(days=29) < token.expires_at - timezone.now() <= timedelta(days=30)
    secret = text.split("_", 2)[2]
    assert secret not in token.secret_hash
    assert text not in page.get("/account/tokens/").content.decode()
    assert ApiClient(text)("GET", "/account")["username"] == "ada"


def test_the_page_refuses_a_token_that_may_do_nothing(owner: User) -> None:
    answer = _page(owner).post("/account/tokens/", {"name": "laptop", "lifetime": "30"})
    assert "Choose what the token may be used for." in answer.content.decode()
    assert AccessToken.objects.count() == 0


def test_the_page_revokes_the_own_tokens_alone(owner: User, stranger: User) -> None:
    token, _ = tokens.token_create(user=owner, name="laptop", scopes=["read"])
    assert _page(stranger).post(f"/account/tokens/{token.pk}/revoke/").status_code == 404
    assert AccessToken.objects.count() == 1
    assert _page(owner).get(f"/account/tokens/{token.pk}/revoke/").status_code == 405
    assert _page(owner).post(f"/account/tokens/{token.pk}/revoke/").status_code == 302
    assert AccessToken.objects.count() == 0


def test_a_token_ends_with_its_time(owner: User) -> None:
    end = timezone.now() + timedelta(hours=1)
    client = ApiClient(tokens.token_create(user=owner, name="short", scopes=["read"], expires_at=end)[1])
    client("GET", "/account")
    with time_machine.travel(end + timedelta(seconds=1)):
        assert client("GET", "/account", status=401)["detail"].startswith("This token is wrong, was revoked, or has")


def test_the_last_use_is_noted_to_the_minute(owner: User, api_for: ApiFor) -> None:
    client = api_for(owner)
    client("GET", "/account")
    first = AccessToken.objects.get().last_used_at
    assert first is not None
    client("GET", "/account")
    assert AccessToken.objects.get().last_used_at == first
    with time_machine.travel(first + timedelta(minutes=2)):
        client("GET", "/account")
    later = AccessToken.objects.get().last_used_at
    assert later is not None
    assert later - first >= timedelta(minutes=2)


def test_a_session_makes_tokens_over_the_api_and_a_token_does_not(owner: User, api_for: ApiFor) -> None:
    made = _page(owner).post(
        "/api/v1/account/tokens", {"name": "script", "scopes": ["read"]}, content_type="application/json"
    )
    assert made.status_code == 201
    assert ApiClient(made.json()["text"])("GET", "/account")["token"]["name"] == "script"
    api_for(owner)("POST", "/account/tokens", {"name": "more", "scopes": ["read"]}, status=403)
    assert AccessToken.objects.filter(name="more").count() == 0
    past = {"name": "old", "scopes": ["read"], "expires_at": "2001-01-01T00:00:00Z"}
    assert _page(owner).post("/api/v1/account/tokens", past, content_type="application/json").status_code == 422


def test_who_calls_too_often_waits(owner: User, api_for: ApiFor, redis_url: str, settings: Any) -> None:
    settings.API_CALLS_PER_MINUTE = 2
    client = api_for(owner)
    with time_machine.travel(timezone.now(), tick=False):
        assert [client.response("GET", "/account").status_code for _ in range(3)] == [200, 200, 429]
        refused = client.response("GET", "/account")
    assert 1 <= int(refused.headers["Retry-After"]) <= throttle.WINDOW_SECONDS
    assert refused.json()["type"] == "urn:roundtable:problem:too-many-requests"


def test_who_guesses_tokens_waits(owner: User, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "FAILURES_ALLOWED", 2)
    monkeypatch.setattr(throttle, "_failures", lambda address: f"test-failures:{owner.pk}:{id(monkeypatch)}")
    client = ApiClient("rtp_1_guess")
    assert [client.response("GET", "/account").status_code for _ in range(3)] == [401, 401, 429]
