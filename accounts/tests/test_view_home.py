from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from accounts.tests.objects import make_configuration, make_device, make_project, make_run, make_user
from groups.services import group_create
from runs.states import DeviceState, RunState

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada(client: Client) -> User:
    user = make_user("ada")
    client.force_login(user)
    return user


def done(client: Client) -> list[bool]:
    return [step.done for step in client.get(reverse("home")).context["steps"]]


def test_the_first_steps_tick_themselves_off(client: Client, ada: User) -> None:
    assert done(client) == [False, False, False, False, False]
    device = make_device(ada)
    assert done(client) == [True, False, False, False, False]
    make_configuration(ada)
    assert done(client) == [True, True, False, False, False]
    project = make_project(ada)
    assert done(client) == [True, True, True, False, False]
    run = make_run(project, [device])
    assert done(client) == [True, True, True, False, False]
    run.state = RunState.RUNNING
    run.save()
    assert done(client) == [True, True, True, True, False]
    run.state = RunState.FINISHED
    run.save()
    response = client.get(reverse("home"))
    assert response.context["all_done"] is True
    assert "First steps" not in response.content.decode()


def test_the_last_step_leads_into_the_project(client: Client, ada: User) -> None:
    project = make_project(ada)
    assert client.get(reverse("home")).context["steps"][3].url == reverse("run_create", args=[project.pk])


def test_the_first_steps_can_be_dismissed_by_each_user(client: Client, ada: User) -> None:
    assert client.get(reverse("steps_dismiss")).status_code == 405
    assert "First steps" in client.get(reverse("home")).content.decode()
    client.post(reverse("steps_dismiss"))
    assert "First steps" not in client.get(reverse("home")).content.decode()
    client.force_login(make_user("grace"))
    assert "First steps" in client.get(reverse("home")).content.decode()


def test_it_shows_the_own_projects_and_groups(client: Client, ada: User) -> None:
    make_run(make_project(ada, "Digits"), name="quiet-heron")
    group_create(user=ada, name="Hospitals")
    group_create(user=make_user("grace"), name="Elsewhere")
    response = client.get(reverse("home"))
    assert [(each.name, each.last_run_name) for each in response.context["projects"]] == [("Digits", "quiet-heron")]
    assert [(each.name, each.member_count) for each in response.context["groups"]] == [("Hospitals", 1)]


def test_it_shows_nothing_of_others(client: Client, ada: User) -> None:
    grace = make_user("grace")
    project = make_project(grace, "Secret")
    make_run(project, [make_device(grace, "unseen-device")], name="unseen-run")
    page = client.get(reverse("home")).content.decode()
    assert "unseen" not in page
    assert "Secret" not in page


def test_it_shows_what_the_own_devices_do(client: Client, ada: User) -> None:
    busy, idle, gone = make_device(ada, "a"), make_device(ada, "b"), make_device(ada, "c", online=False)
    make_run(make_project(ada), [busy], hold=True, state=RunState.RUNNING)
    response = client.get(reverse("home"))
    assert [(now.device, now.state) for now in response.context["devices"]] == [
        (busy, DeviceState.BUSY),
        (idle, DeviceState.IDLE),
        (gone, DeviceState.OFFLINE),
    ]
    assert f'data-live="device:{busy.pk}:state"' in response.content.decode()


def test_it_needs_the_same_queries_for_many_runs_and_devices(
    client: Client, ada: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    def fill(count: int) -> Any:
        for number in range(count):
            make_run(project, [make_device(ada, f"device-{number}")], name=f"run-{number}", state=RunState.RUNNING)

    project = make_project(ada)
    fill(2)
    with django_assert_num_queries(13):
        client.get(reverse("home"))
    fill(6)
    with django_assert_num_queries(13):
        client.get(reverse("home"))
