import asyncio

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import reverse

from mlops_site.security import POLICY, content_security_policy


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/login/", "/nothing/here/", "/healthz"])
def test_every_answer_carries_the_policy(client: Client, path: str) -> None:
    assert client.get(path).headers["Content-Security-Policy"] == POLICY


def test_the_policy_allows_nothing_inline() -> None:
    directives = dict(directive.split(" ", 1) for directive in POLICY.split("; "))
    assert "unsafe" not in POLICY
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == directives["style-src"] == "'self'"
    assert directives["frame-ancestors"] == directives["base-uri"] == "'none'"


def test_a_view_may_set_a_policy_of_its_own() -> None:
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(headers={"Content-Security-Policy": "sandbox"})

    response = content_security_policy(view)(HttpRequest())
    assert isinstance(response, HttpResponse)
    assert response.headers["Content-Security-Policy"] == "sandbox"


def test_it_works_around_an_asynchronous_view() -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    async def call() -> str:
        response = await content_security_policy(view)(HttpRequest())  # type: ignore[misc]
        return str(response.headers["Content-Security-Policy"])

    assert asyncio.run(call()) == POLICY


@pytest.mark.django_db
def test_an_error_page_needs_no_session(client: Client) -> None:
    page = client.get("/login/nothing").content.decode()
    assert "There is nothing here" in page
    assert reverse("home") in page
