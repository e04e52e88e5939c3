from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries, Settings

from accounts.tests.objects import make_configuration, make_device, make_project, make_run, make_user
from configurations.models import Configuration
from devices.models import Device
from runs import lifecycle
from runs.models import Project, Run
from runs.states import RunState

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> User:
    return make_user("ada")


@pytest.fixture
def grace() -> User:
    return make_user("grace")


@pytest.fixture
def project(ada: User, grace: User) -> Project:
    return make_project(ada, "Digits", viewer="grace")


@pytest.fixture
def configuration(ada: User) -> Configuration:
    return make_configuration(ada)


@pytest.fixture
def devices(ada: User) -> list[Device]:
    return [make_device(ada, "ward-north"), make_device(ada, "ward-south")]


def as_user(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def url(project: Project, name: str = "run_create") -> str:
    return reverse(name, args=[project.pk])


def fields(configuration: Configuration, devices: list[Device], **more: Any) -> dict[str, Any]:
    """What the browser sends: every value of the configuration as it stands, and what the test changes."""
    return {
        "name": "quiet-heron",
        "configuration": configuration.pk,
        "devices": [device.pk for device in devices],
        "set:model_config.modelName": "lr",
        "set:hyperparameters_config.lr": "0.03",
        "set:hyperparameters_config.comm_round": "10",
        **more,
    }


# --- The form


def test_it_shows_devices_with_what_they_do(ada: User, project: Project, devices: list[Device]) -> None:
    gone = make_device(ada, "basement", online=False)
    make_run(project, [devices[1]], hold=True, state=RunState.RUNNING)
    response = as_user(ada).get(url(project))
    assert [(now.device.name, now.state.label, now.free) for now, _ in response.context["devices"]] == [
        ("basement", "Offline", False),
        ("ward-north", "Idle", True),
        ("ward-south", "Busy", False),
    ]
    page = response.content.decode()
    assert f'name="devices" value="{devices[0].pk}">' in page
    for device in (gone, devices[1]):
        assert f'name="devices" value="{device.pk}" disabled>' in page
    assert response.context["counts"] == {"offline": 1, "idle": 1, "busy": 1, "unbound": 0}


def test_it_offers_nothing_of_others(ada: User, project: Project) -> None:
    stranger = make_user("mallory")
    make_device(stranger, "unseen-device")
    make_configuration(stranger, "unseen-configuration")
    assert "unseen" not in as_user(ada).get(url(project)).content.decode()


def test_it_shows_the_configuration_that_the_link_names(
    ada: User, project: Project, configuration: Configuration
) -> None:
    page = as_user(ada).get(f"{url(project)}?configuration={configuration.pk}").content.decode()
    assert 'name="set:hyperparameters_config.lr" value="0.03"' in page


def test_it_says_what_to_do_without_configurations_and_devices(ada: User, project: Project) -> None:
    page = as_user(ada).get(url(project)).content.decode()
    assert "No configurations yet" in page
    assert "No devices yet" in page


def test_it_needs_the_same_queries_for_many_devices(
    ada: User, project: Project, configuration: Configuration, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    client = as_user(ada)
    address = f"{url(project)}?configuration={configuration.pk}"
    make_device(ada)
    with django_assert_num_queries(9):
        client.get(address)
    for number in range(20):
        make_device(ada, f"device-{number}")
    with django_assert_num_queries(9):
        client.get(address)


# --- Create


def test_it_creates_a_run(ada: User, project: Project, configuration: Configuration, devices: list[Device]) -> None:
    response = as_user(ada).post(url(project), fields(configuration, devices))
    run = Run.objects.get()
    assert response.headers["Location"] == run.get_absolute_url()
    assert (run.name, run.project, run.created_by, run.state) == ("quiet-heron", project, ada, RunState.CREATED)
    assert [part.device for part in run.run_devices.all()] == devices
    assert run.configuration_copy["overrides"] == []


def test_it_changes_values_for_this_run_alone(
    ada: User, project: Project, configuration: Configuration, devices: list[Device]
) -> None:
    as_user(ada).post(url(project), fields(configuration, devices, **{"set:hyperparameters_config.lr": "0.1"}))
    copy = Run.objects.get().configuration_copy
    assert copy["overrides"] == ["hyperparameters_config.lr"]
    assert {row["name"]: row["value"] for row in copy["hyperparameters_config"]} == {"lr": 0.1, "comm_round": 10}
    configuration.refresh_from_db()
    assert configuration.hyperparameters_config[0]["value"] == 0.03


def test_it_says_where_the_run_will_be_built_and_why(ada: User, project: Project, settings: Settings) -> None:
    page = as_user(ada).get(url(project)).content.decode()
    assert "process: processes on this machine" in page
    assert "No registry is configured (ROUNDTABLE_REGISTRY)." in page
    assert "Conditions on the node" not in page
    settings.BACKEND = "swarm"
    assert "Conditions on the node" in as_user(ada).get(url(project)).content.decode()
    settings.BACKEND = "cloud"
    assert "There is no backend named cloud" in as_user(ada).get(url(project)).content.decode()


def test_it_takes_where_in_a_swarm_the_aggregator_may_run(
    ada: User, project: Project, configuration: Configuration, devices: list[Device], settings: Settings
) -> None:
    settings.BACKEND = "swarm"
    given = {"placement": "node.labels.zone == a\r\n\r\nnode.role==worker", "reserve_memory_mb": "256"}
    as_user(ada).post(url(project), fields(configuration, devices, **given))
    run = Run.objects.get()
    assert run.backend == "swarm"
    assert run.limits["placement"] == ["node.labels.zone==a", "node.role==worker"]
    assert run.limits["reservations"] == {"memory_mb": 256}
    page = as_user(ada).get(f"{run.get_absolute_url()}?tab=configuration").content.decode()
    assert "node.labels.zone==a" in page
    assert "256 MiB memory" in page
    refused = as_user(ada).post(url(project), fields(configuration, devices, placement="anywhere"))
    assert "&#x27;anywhere&#x27; is no condition on a node." in refused.content.decode()
    assert Run.objects.count() == 1


def test_it_takes_limits(ada: User, project: Project, configuration: Configuration, devices: list[Device]) -> None:
    given = {"server_memory_mb": "1024", "server_cpus": "0.5", "client_pids": "64", "client_cpus": ""}
    as_user(ada).post(url(project), fields(configuration, devices, **given))
    limits = Run.objects.get().limits
    assert (limits["server"]["memory_mb"], limits["server"]["cpus"], limits["client"]["pids"]) == (1024, 0.5, 64)
    assert limits["client"]["cpus"] == lifecycle.creation.DEFAULT_LIMITS["cpus"]


def test_it_starts_the_run_where_asked(
    ada: User,
    project: Project,
    configuration: Configuration,
    devices: list[Device],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = []
    monkeypatch.setattr(lifecycle, "run_start", lambda *, run, user: started.append((run.pk, user.pk)))
    as_user(ada).post(url(project), fields(configuration, devices, start="1"))
    assert started == [(Run.objects.get().pk, ada.pk)]


def test_a_run_that_cannot_start_is_kept_and_the_page_says_why(
    ada: User,
    project: Project,
    configuration: Configuration,
    devices: list[Device],
) -> None:
    Device.objects.filter(pk=devices[0].pk).update(online=False)
    client = as_user(ada)
    client.post(url(project), fields(configuration, devices, start="1"))
    (message,) = client.get(reverse("project_list")).context["messages"]
    assert str(message).startswith("The run is created, but it could not start. ")
    assert Run.objects.get().state == RunState.CREATED


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"configuration": ""}, "Choose a configuration."),
        ({"devices": []}, "Choose at least one device."),
        ({"devices": ["999"]}, "Device 999 cannot be used in this project."),
        ({"name": "x" * 121}, "at most 120 characters"),
        ({"set:hyperparameters_config.comm_round": "many"}, "This is not a whole number."),
        ({"set:hyperparameters_config.lr": "${model_config.nothing}"}, "lr"),
        ({"server_memory_mb": "lots"}, "Enter a whole number."),
        ({"server_memory_mb": "1"}, "greater than or equal to 16"),
    ],
)
def test_it_refuses_and_says_what_to_change(
    ada: User,
    project: Project,
    configuration: Configuration,
    devices: list[Device],
    change: dict[str, Any],
    sentence: str,
) -> None:
    response = as_user(ada).post(url(project), fields(configuration, devices) | change)
    assert response.status_code == 200
    assert sentence in response.content.decode()
    assert not Run.objects.exists()


def test_it_keeps_what_was_typed_when_it_refuses(
    ada: User, project: Project, configuration: Configuration, devices: list[Device]
) -> None:
    typed = fields(configuration, devices, **{"set:hyperparameters_config.lr": "much"})
    page = as_user(ada).post(url(project), typed).content.decode()
    assert 'name="set:hyperparameters_config.lr" value="much"' in page
    assert f'name="devices" value="{devices[0].pk}" checked>' in page


def test_a_configuration_of_others_is_refused(ada: User, project: Project, devices: list[Device]) -> None:
    theirs = make_configuration(make_user("mallory"))
    response = as_user(ada).post(url(project), fields(theirs, devices))
    assert "Select a valid choice" in response.content.decode()
    assert not Run.objects.exists()


NAMES = ["run_create", "run_form_configuration", "run_preview"]


@pytest.mark.parametrize("name", NAMES)
def test_a_viewer_is_refused(grace: User, project: Project, name: str) -> None:
    client = as_user(grace)
    assert {client.get(url(project, name)).status_code, client.post(url(project, name)).status_code} <= {403, 405}
    assert not Run.objects.exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_stranger_finds_nothing(project: Project, name: str) -> None:
    client = as_user(make_user("mallory"))
    assert {client.get(url(project, name)).status_code, client.post(url(project, name)).status_code} <= {404, 405}
    assert not Run.objects.exists()


@pytest.mark.parametrize(("name", "method"), [("run_create", "delete"), (NAMES[1], "post"), (NAMES[2], "get")])
def test_a_wrong_method_does_nothing(ada: User, project: Project, name: str, method: str) -> None:
    assert getattr(as_user(ada), method)(url(project, name)).status_code == 405


# --- Fragments


def test_the_fragment_shows_the_chosen_configuration(ada: User, project: Project, configuration: Configuration) -> None:
    address = f"{url(project, 'run_form_configuration')}?configuration={configuration.pk}"
    page = as_user(ada).get(address).content.decode()
    assert "server.zip" in page
    assert "000000000000" in page
    assert 'name="set:model_config.modelName" value="lr"' in page


@pytest.mark.parametrize("value", ["", "999", "x"])
def test_the_fragment_of_no_configuration_says_so(ada: User, project: Project, value: str) -> None:
    make_configuration(make_user("mallory"))
    page = as_user(ada).get(f"{url(project, 'run_form_configuration')}?configuration={value}").content.decode()
    assert "Choose a configuration" in page


def test_the_preview_shows_the_command_of_server_and_clients(
    ada: User, project: Project, configuration: Configuration, devices: list[Device]
) -> None:
    change = {"set:hyperparameters_config.lr": "0.1"}
    response = as_user(ada).post(url(project, "run_preview"), fields(configuration, devices, **change))
    command = "python fedml/main.py --model lr --lr 0.1"
    assert response.context["commands"] == [
        ("server", command),
        ("client 1: ward-north", command),
        ("client 2: ward-south", command),
    ]
    assert not Run.objects.exists()


def test_the_preview_says_what_is_wrong(
    ada: User, project: Project, configuration: Configuration, devices: list[Device]
) -> None:
    change = {"set:hyperparameters_config.lr": "much"}
    page = as_user(ada).post(url(project, "run_preview"), fields(configuration, devices, **change)).content.decode()
    assert "This is not a number." in page


@pytest.mark.parametrize("missing", ["configuration", "devices"])
def test_the_preview_waits_for_what_is_missing(
    ada: User, project: Project, configuration: Configuration, devices: list[Device], missing: str
) -> None:
    given = fields(configuration, devices)
    del given[missing]
    page = as_user(ada).post(url(project, "run_preview"), given).content.decode()
    assert "Choose a configuration and at least one device" in page


def test_the_preview_of_others_configuration_is_not_found(ada: User, project: Project, devices: list[Device]) -> None:
    theirs = make_configuration(make_user("mallory"))
    assert as_user(ada).post(url(project, "run_preview"), fields(theirs, devices)).status_code == 404
