"""What the command palette finds, for whom, and in how many queries."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from accounts.tests.objects import make_configuration, make_device, make_project, make_run, make_user
from groups.services import group_create
from runs.models import Project

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> User:
    return make_user("ada")


@pytest.fixture
def project(ada: User) -> Project:
    """A digits project with one of everything that has a name of its own."""
    make_user("vera")
    project = make_project(ada, "Digits", viewer="vera")
    make_device(ada, "ward-north")
    make_configuration(ada, "FedAvg on digits")
    make_run(project, name="quiet-heron")
    group_create(user=ada, name="Hospitals")
    return project


def found(user: User, query: str) -> list[tuple[str, str]]:
    client = Client()
    client.force_login(user)
    results: list[dict[str, Any]] = client.get(reverse("palette"), {"q": query}).json()["results"]
    return [(each["kind"], each["title"]) for each in results]


def test_every_kind_of_thing_is_found_by_words_of_its_name(ada: User, project: Project) -> None:
    assert found(ada, "heron quiet") == [("Runs", "quiet-heron")]
    assert found(ada, "DIGITS") == [
        ("Runs", "quiet-heron"),
        ("Projects", "Digits"),
        ("Configurations", "FedAvg on digits"),
    ]
    assert found(ada, "ward") == [("Devices", "ward-north")]
    assert found(ada, "hosp") == [("Groups", "Hospitals")]
    assert found(ada, "nothing of this name") == []


def test_a_run_and_a_device_are_found_by_their_ids(ada: User, project: Project) -> None:
    run, device = project.runs.get(), ada.devices.get()
    assert ("Runs", "quiet-heron") in found(ada, f"#{run.pk}")
    assert ("Devices", "ward-north") in found(ada, str(device.pk))
    assert found(ada, "9" * 40) == []


def test_actions_are_found_and_only_where_the_user_may_do_them(ada: User, project: Project) -> None:
    assert found(ada, "connect") == [("Actions", "Bind a device")]
    assert ("Actions", "New run in Digits") in found(ada, "new run dig")
    assert ("Actions", "New run in Digits") not in found(User.objects.get(username="vera"), "new run dig")


def test_a_stranger_finds_nothing_of_others(project: Project) -> None:
    stranger = make_user("mallory")
    for query in ("", "digits", "ward", "hospitals", "heron", "new run"):
        assert {kind for kind, _ in found(stranger, query)} <= {"Go to", "Actions"}
    assert Client().get(reverse("palette")).status_code == 302


def test_without_words_the_newest_are_offered(ada: User, project: Project) -> None:
    results = found(ada, "")
    assert ("Runs", "quiet-heron") in results
    assert ("Projects", "Digits") in results


def test_it_needs_few_queries(ada: User, project: Project, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    client = Client()
    client.force_login(ada)
    with django_assert_num_queries(8):  # two of them for the session
        client.get(reverse("palette"), {"q": "new run d"})
