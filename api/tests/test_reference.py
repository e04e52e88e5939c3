"""The reference: in the documentation, in the browser, and as a schema."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from api.application import api
from api.management.commands.api_reference import MARK, reference_text


def test_the_documentation_has_every_operation_as_it_is() -> None:
    text = (settings.BASE_DIR / "docs" / "api.md").read_text(encoding="utf-8")
    assert MARK + text.partition(MARK)[2] == reference_text(), "Type: python manage.py api_reference"


def test_the_page_shows_every_operation_without_a_script_of_its_own(owner: User) -> None:
    client = Client()
    client.force_login(owner)
    answer = client.get("/api/v1/docs/")
    page = answer.content.decode()
    paths = api.get_openapi_schema()["paths"]
    ids = [details["operationId"] for methods in paths.values() for details in methods.values()]
    assert len(ids) == len(set(ids)) > 50
    assert [name for name in ids if f'<details id="{name}"' not in page] == []
    assert "<script>" not in page
    assert "unsafe-inline" not in answer.headers["Content-Security-Policy"]


def test_the_schema_is_open_and_names_the_scope_of_each_operation(db: None) -> None:
    schema = Client().get("/api/v1/openapi.json").json()
    assert schema["openapi"] == "3.1.0"
    scopes = {details["x-scope"] for methods in schema["paths"].values() for details in methods.values()}
    assert scopes == {"read", "write", "run", "devices", "any", "session"}
