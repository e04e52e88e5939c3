"""How a user has the charts of a project, as it is kept."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from runs.models import ChartView, Membership, Project, Role
from runs.tests.rows import run_make, user_make

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner() -> User:
    return user_make()


@pytest.fixture
def project(owner: User) -> Project:
    return run_make(user=owner).project


def put(user: User, project: Project, body: str, kind: str = "metric") -> Any:
    client = Client()
    client.force_login(user)
    return client.put(reverse("chart_view", args=[project.pk, kind]), body, content_type="application/json")


def test_a_view_is_kept_for_its_user_alone_and_shown_by_the_page(owner: User, project: Project) -> None:
    viewer = user_make()
    Membership.objects.create(project=project, user=viewer, role=Role.VIEWER)
    assert put(owner, project, '{"x": "step"}').status_code == 204
    assert put(owner, project, '{"x": "time", "smooth": "0.5"}').status_code == 204
    assert put(viewer, project, '{"layout": "{}"}', "system").status_code == 204
    run = project.runs.get()
    for user, views in (
        (owner, {"metric": {"x": "time", "smooth": "0.5"}}),
        (viewer, {"system": {"layout": "{}"}}),
    ):
        client = Client()
        client.force_login(user)
        assert orjson.loads(client.get(run.get_absolute_url()).context["chart_views"]) == views


def test_a_view_is_forgotten(owner: User, project: Project) -> None:
    put(owner, project, '{"x": "step"}')
    put(owner, project, '{"x": "relative"}', "system")
    client = Client()
    client.force_login(owner)
    url = reverse("chart_view", args=[project.pk, "metric"])
    assert [client.delete(url).status_code, client.delete(url).status_code] == [204, 204]
    assert list(ChartView.objects.values_list("kind", flat=True)) == ["system"]


def test_a_stranger_and_other_charts_are_not_found(owner: User, project: Project) -> None:
    assert put(user_make(), project, "{}").status_code == 404
    assert put(owner, project, "{}", "stock").status_code == 404
    assert Client().put(reverse("chart_view", args=[project.pk, "metric"]), "{}").status_code == 302
    assert ChartView.objects.count() == 0


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("{", "A view of charts is a JSON object."),
        ("[]", "A view of charts is a JSON object of texts."),
        ('{"x": 1}', "A view of charts is a JSON object of texts."),
        (
            '{"zoom": "1~2"}',
            "A view of charts has no 'zoom'; it has columns, devices, hide, layout, log, robust, smooth, x.",
        ),
        ('{"layout": "' + "x" * 40_000 + '"}', "A view of charts has at most 32768 bytes."),
        ('{"layout": "\\u0000"}', "A view of charts has no NUL characters."),
    ],
)  # fmt: skip
def test_what_is_no_view_is_refused_with_a_reason(owner: User, project: Project, body: str, sentence: str) -> None:
    answer = put(owner, project, body)
    assert (answer.status_code, answer.content.decode()) == (400, sentence)
    assert ChartView.objects.count() == 0


def test_other_methods_are_refused(owner: User, project: Project) -> None:
    client = Client()
    client.force_login(owner)
    url = reverse("chart_view", args=[project.pk, "metric"])
    assert [client.get(url).status_code, client.post(url).status_code] == [405, 405]
