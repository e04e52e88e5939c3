"""People around a project, and clients of the API that act for them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from accounts.tests.objects import make_device, make_project, make_user
from api.scopes import Scope
from api.tokens import token_create
from configurations.models import Configuration
from configurations.tests.conftest import store, uploads
from configurations.tests.packages import make_configuration
from devices.models import Device
from runs.models import Project

__all__ = ["store", "uploads"]


class ApiClient:
    """Calls the API with a token, as a program does; no session, no CSRF token."""

    def __init__(self, token: str) -> None:
        self.token = token
        self._client = Client(enforce_csrf_checks=True)

    def __call__(
        self, method: str, path: str, body: Any = None, *, status: int = 200, headers: dict[str, str] | None = None
    ) -> Any:
        """Call ``/api/v1`` + ``path``, check the status and return the JSON (None where there is none)."""
        response = self.response(method, path, body, headers=headers)
        assert response.status_code == status, response.content
        return response.json() if response.content else None

    def response(self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None) -> Any:
        data = {} if body is None else {"data": body, "content_type": "application/json"}
        sent = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        return getattr(self._client, method.lower())(f"/api/v1{path}", headers=sent, **data)


ApiFor = Callable[..., ApiClient]


@pytest.fixture(autouse=True)
def _calls_counted_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """What users of the same number called in other tests does not count."""
    monkeypatch.setattr("api.throttle.PREFIX", secrets.token_hex(8))


@pytest.fixture
def api_for() -> ApiFor:
    """Make a client that acts for a user, with a token of all scopes or of those given."""

    def make(user: User, scopes: Iterable[str] = tuple(Scope.values)) -> ApiClient:
        return ApiClient(token_create(user=user, name="test", scopes=scopes)[1])

    return make


@pytest.fixture
def owner(db: None) -> User:
    return make_user("ada")


@pytest.fixture
def member(db: None) -> User:
    return make_user("grace")


@pytest.fixture
def viewer(db: None) -> User:
    return make_user("vera")


@pytest.fixture
def stranger(db: None) -> User:
    return make_user("eve")


@pytest.fixture
def project(owner: User, member: User, viewer: User) -> Project:
    return make_project(owner, "Digits", member="grace", viewer="vera")


@pytest.fixture
def device(owner: User, project: Project) -> Device:
    return make_device(owner, os="Debian 12", cpu_count=8, memory_bytes=2**34)


@pytest.fixture
def configuration(owner: User, project: Project) -> Configuration:
    return make_configuration(owner, project=project)
