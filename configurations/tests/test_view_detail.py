"""The page of one configuration."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from configurations.models import Configuration
from configurations.services import configuration_copy
from configurations.tests.packages import make_configuration
from runs.models import Project, Run


def _url(configuration: Configuration) -> str:
    return reverse("configuration_detail", args=[configuration.pk])


def test_it_shows_packages_values_and_what_they_come_to(as_owner: Client, owner: User) -> None:
    configuration = make_configuration(owner, private_data_path="digits")
    page = as_owner.get(_url(configuration)).content.decode()
    for text in (
        configuration.server_package.sha256,
        configuration.client_package.sha256,
        "fedml/main.py",
        "--clients",
        "[1,2,3,4]",
        "python fedml/main.py --model lr --lr 0.03 --rounds 10 --clients &#x27;[1]&#x27; --per_round 4",
        "No run yet",
    ):
        assert text in page


def test_it_says_where_a_value_is_not_the_packages(as_owner: Client, owner: User) -> None:
    configuration = make_configuration(owner)
    configuration.hyperparameters_config[0]["value"] = 0.5
    configuration.save()
    rows = as_owner.get(_url(configuration)).context["hyperparameters"]
    assert [(row["name"], row["text"], row["package_text"]) for row in rows] == [
        ("lr", "0.5", "0.03"),
        ("comm_round", "10", None),
        ("client_num_per_round", "${FEDSYS.CLIENT_NUM}", None),
    ]


def test_it_shows_the_runs_that_the_viewer_may_see(
    as_owner: Client, as_member: Client, owner: User, project: Project
) -> None:
    configuration = make_configuration(owner, project=project)
    hidden = Project.objects.create(name="Hidden", created_by=owner)
    for place, name in ((project, "eye_rain"), (hidden, "dinner_sheep")):
        Run.objects.create(
            project=place,
            name=name,
            configuration=configuration,
            configuration_copy=configuration_copy(configuration),
            server_package=configuration.server_package,
            client_package=configuration.client_package,
            backend="process",
        )
    page = as_member.get(_url(configuration)).content.decode()
    assert "eye_rain" in page
    assert "dinner_sheep" not in page


def test_members_of_the_project_see_it_and_cannot_change_it(as_member: Client, owner: User, project: Project) -> None:
    configuration = make_configuration(owner, project=project)
    page = as_member.get(_url(configuration)).content.decode()
    assert reverse("configuration_clone", args=[configuration.pk]) in page
    assert reverse("configuration_edit", args=[configuration.pk]) not in page
    assert reverse("configuration_delete", args=[configuration.pk]) not in page


def test_it_refuses_a_stranger(as_stranger: Client, owner: User) -> None:
    assert as_stranger.get(_url(make_configuration(owner))).status_code == 404


@pytest.mark.parametrize("pk", [0, 999, 10**30])
def test_it_does_not_know_another_id(as_owner: Client, pk: int) -> None:
    assert as_owner.get(f"/configurations/{pk}/").status_code == 404


def test_it_is_not_for_posting(as_owner: Client, owner: User) -> None:
    assert as_owner.post(_url(make_configuration(owner))).status_code == 405


def test_its_number_of_queries_does_not_depend_on_its_runs(
    as_owner: Client, owner: User, project: Project, django_assert_num_queries: Any
) -> None:
    configuration = make_configuration(owner, project=project)
    for number in range(12):
        Run.objects.create(
            project=project,
            name=f"run{number}",
            configuration=configuration,
            configuration_copy={},
            server_package=configuration.server_package,
            client_package=configuration.client_package,
            backend="process",
        )
    with django_assert_num_queries(5):  # session, user, configuration, runs, their number
        as_owner.get(_url(configuration))


def test_hostile_text_is_escaped(as_owner: Client, owner: User) -> None:
    evil = '<script>alert("x")</script>'
    configuration = make_configuration(owner, evil, synthetic_data_name=evil, synthetic_data_sha256="a" * 64)
    configuration.hyperparameters_config[0].update(type="string", value=evil)
    configuration.save()
    for name in ("configuration_detail", "configuration_edit", "configuration_clone", "configuration_delete"):
        page = as_owner.get(reverse(name, args=[configuration.pk])).content.decode()
        assert evil not in page
        assert "&lt;script&gt;" in page
