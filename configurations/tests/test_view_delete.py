"""Deleting a configuration."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from configurations.models import Configuration
from configurations.services import configuration_copy
from configurations.tests.packages import make_configuration
from runs.models import Project, Run
from runs.states import RunState


def _run(configuration: Configuration, project: Project, state: RunState) -> Run:
    return Run.objects.create(
        project=project,
        name="eye_rain",
        configuration=configuration,
        configuration_copy=configuration_copy(configuration),
        server_package=configuration.server_package,
        client_package=configuration.client_package,
        backend="process",
        state=state,
    )


def test_it_says_first_what_is_lost(as_owner: Client, owner: User, project: Project) -> None:
    configuration = make_configuration(owner, project=project)
    _run(configuration, project, RunState.FINISHED)
    page = as_owner.get(reverse("configuration_delete", args=[configuration.pk])).content.decode()
    assert "the name and its 4 values" in page
    assert "members of Digits can no longer start runs with it" in page
    assert "the 1 run made of it" in page
    assert Configuration.objects.exists()


def test_it_deletes_and_keeps_the_runs(as_owner: Client, owner: User, project: Project) -> None:
    configuration = make_configuration(owner)
    run = _run(configuration, project, RunState.FINISHED)
    answer = as_owner.post(reverse("configuration_delete", args=[configuration.pk]))
    assert (answer.status_code, answer["Location"]) == (302, reverse("configuration_list"))
    assert not Configuration.objects.exists()
    run.refresh_from_db()
    assert run.configuration is None


@pytest.mark.parametrize("state", RunState.active())
def test_it_is_refused_while_a_run_uses_it(as_owner: Client, owner: User, project: Project, state: RunState) -> None:
    configuration = make_configuration(owner)
    _run(configuration, project, state)
    url = reverse("configuration_delete", args=[configuration.pk])
    assert "Delete configuration</button>" not in as_owner.get(url).content.decode()
    answer = as_owner.post(url)
    assert answer.status_code == 409
    assert "eye_rain" in answer.content.decode()
    assert Configuration.objects.exists()
