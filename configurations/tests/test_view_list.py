"""The list of configurations."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from configurations.models import Configuration
from configurations.services import configuration_copy
from configurations.tests.packages import make_configuration
from runs.models import Membership, Project, Role, Run

URL = reverse("configuration_list")


def _names(client: Client, **query: Any) -> list[str]:
    return [configuration.name for configuration in client.get(URL, query).context["listing"].page]


def test_it_says_what_to_do_where_there_is_nothing(as_owner: Client) -> None:
    page = as_owner.get(URL).content.decode()
    assert "No configuration yet" in page
    assert page.count(reverse("configuration_create")) >= 2


def test_it_shows_own_and_shared_configurations_and_no_others(
    as_owner: Client, as_member: Client, as_stranger: Client, owner: User, member: User, project: Project
) -> None:
    make_configuration(owner, "Shared", project=project)
    make_configuration(owner, "Private")
    make_configuration(member, "Of the member")
    assert set(_names(as_owner)) == {"Shared", "Private"}
    assert set(_names(as_member)) == {"Shared", "Of the member"}
    assert _names(as_stranger) == []


def test_it_sends_who_is_not_signed_in_to_the_sign_in_page(db: None) -> None:
    answer = Client().get(URL)
    assert (answer.status_code, answer["Location"]) == (302, f"/login/?next={URL}")


def test_it_is_not_for_posting(as_owner: Client) -> None:
    assert as_owner.post(URL).status_code == 405


def test_it_searches_by_name_owner_project_and_digest(as_owner: Client, owner: User, project: Project) -> None:
    first = make_configuration(owner, "FedAvg lr", project=project)
    make_configuration(owner, "FedProx mlp")
    assert _names(as_owner, q="prox") == ["FedProx mlp"]
    assert _names(as_owner, q="mlp fed") == ["FedProx mlp"]
    assert _names(as_owner, q="Digits") == ["FedAvg lr"]
    assert len(_names(as_owner, q=first.server_package.sha256[:12])) == 2
    assert "Nothing matches" in as_owner.get(URL, {"q": "nothing"}).content.decode()


def test_it_sorts_and_ignores_what_it_cannot_sort_by(as_owner: Client, owner: User) -> None:
    for name in ("b", "c", "a"):
        make_configuration(owner, name)
    assert _names(as_owner, sort="name") == ["a", "b", "c"]
    assert _names(as_owner, sort="-name") == ["c", "b", "a"]
    assert _names(as_owner) == ["a", "c", "b"]
    assert _names(as_owner, sort="owner__password") == ["a", "c", "b"]


def test_it_counts_the_runs_that_the_viewer_may_see(
    as_owner: Client, as_member: Client, owner: User, project: Project
) -> None:
    configuration = make_configuration(owner, project=project)
    hidden = Project.objects.create(name="Hidden", created_by=owner)
    Membership.objects.create(project=hidden, user=owner, role=Role.OWNER)
    for place in (project, project, hidden):
        Run.objects.create(
            project=place,
            name="eye_rain",
            configuration=configuration,
            configuration_copy=configuration_copy(configuration),
            server_package=configuration.server_package,
            client_package=configuration.client_package,
            backend="process",
        )
    counts = [client.get(URL).context["listing"].page[0].run_count for client in (as_owner, as_member)]
    assert counts == [3, 2]


def test_it_pages(as_owner: Client, owner: User) -> None:
    first = make_configuration(owner, "c0")
    Configuration.objects.bulk_create(
        Configuration(
            owner=owner,
            name=f"c{number}",
            server_package=first.server_package,
            client_package=first.client_package,
        )
        for number in range(1, 30)
    )
    assert [len(_names(as_owner, page=page)) for page in (1, 2, "x", 99)] == [25, 5, 25, 5]
    assert as_owner.get(URL).context["listing"].total == 30


@pytest.mark.parametrize("count", [1, 20])
def test_its_number_of_queries_does_not_depend_on_its_length(
    as_owner: Client, owner: User, project: Project, count: int, django_assert_num_queries: Any
) -> None:
    for number in range(count):
        make_configuration(owner, f"c{number}", project=project)
    with django_assert_num_queries(4):  # session, user, count, rows
        as_owner.get(URL)
