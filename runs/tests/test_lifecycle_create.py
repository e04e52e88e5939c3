"""Making a run from a configuration."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import override_settings
from django.utils import timezone

from configurations.expressions import ExpressionError
from runs import lifecycle
from runs.lifecycle import RunRefused
from runs.models import Role, Run
from runs.pipeline.backends import BACKENDS
from runs.states import InstanceStatus, RunState
from runs.tests.flow import Flow, device_make, flow_make

pytestmark = pytest.mark.django_db


@pytest.fixture
def flow() -> Flow:
    return flow_make()


def refusal(flow: Flow, **changes: Any) -> str:
    """The sentence with which a run is refused; also checks that none was made."""
    with pytest.raises(RunRefused) as error:
        flow.run(**changes)
    assert Run.objects.count() == 0
    return str(error.value)


def test_it_creates_a_run_with_its_devices_in_the_order_of_their_ids(flow: Flow) -> None:
    first, second = flow.devices
    run = flow.run(device_ids=[second.pk, first.pk, second.pk], name="  my run ")
    assert (run.state, run.name, run.backend, run.created_by) == (RunState.CREATED, "my run", "process", flow.user)
    assert list(run.run_devices.values_list("edge_id", "client_index", "status", "holds_device")) == [
        (first.pk, 1, InstanceStatus.IDLE, False),
        (second.pk, 2, InstanceStatus.IDLE, False),
    ]
    assert run.stages.count() == 0


def test_it_names_a_run_that_nobody_named(flow: Flow) -> None:
    assert flow.run().name.count("-") == 1


def test_it_freezes_the_configuration(flow: Flow) -> None:
    run = flow.run()
    flow.configuration.hyperparameters_config = [{"name": "lr", "type": "float", "value": 9.0}]
    flow.configuration.save()
    run.refresh_from_db()
    assert run.configuration_copy["hyperparameters_config"][0] == {"name": "lr", "type": "float", "value": 0.03}
    assert run.configuration_copy["server"]["entry_file"] == "fedml/main.py"


def test_it_applies_typed_overrides_and_notes_which(flow: Flow) -> None:
    run = flow.run(
        overrides={
            "hyperparameters_config.lr": "1e-3",
            "hyperparameters_config.rounds": 3,
            "model_config.modelName": "mlp",
        }
    )
    copy = run.configuration_copy
    assert copy["hyperparameters_config"] == [
        {"name": "lr", "type": "float", "value": 0.001},
        {"name": "rounds", "type": "integer", "value": 3},
    ]
    assert copy["model_config"][0]["value"] == "mlp"
    assert copy["overrides"] == ["hyperparameters_config.lr", "model_config.modelName"]
    flow.configuration.refresh_from_db()
    assert flow.configuration.hyperparameters_config[0]["value"] == 0.03


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            {"hyperparameters_config.momentum": 1},
            "The configuration has no value named hyperparameters_config.momentum, so that it cannot be changed for "
            "this run.",
        ),
        (
            {"hyperparameters_config.rounds": "three"},
            "hyperparameters_config.rounds: This is not a whole number. Type digits only, such as 8, or choose "
            "another type.",
        ),
        (
            {"hyperparameters_config.rounds": 2.5},
            "hyperparameters_config.rounds is of type integer in the configuration, but the value given is not.",
        ),
        (
            {"hyperparameters_config.rounds": True},
            "hyperparameters_config.rounds is of type integer in the configuration, but the value given is not.",
        ),
        ({"hyperparameters_config.lr": float("nan")}, "hyperparameters_config.lr: The number is not finite."),
    ],
)
def test_it_refuses_overrides_that_do_not_fit(flow: Flow, overrides: dict[str, Any], sentence: str) -> None:
    assert refusal(flow, overrides=overrides) == sentence


def test_it_refuses_an_expression_that_cannot_be_resolved(flow: Flow) -> None:
    assert refusal(flow, overrides={"model_config.modelName": "${model_config.missing}"}).startswith(
        "The entry command of the server cannot be made. model_config.modelName: model_config has no value named "
        "missing"
    )


def test_it_refuses_a_stranger(flow: Flow) -> None:
    stranger = User.objects.create_user("stranger")
    assert refusal(flow, user=stranger) == "You are not a member of this project; ask its owner to add you."


def test_it_refuses_a_viewer() -> None:
    flow = flow_make(role=Role.VIEWER)
    assert refusal(flow) == "Viewers cannot create runs; ask an owner of the project to make you a member."


def test_it_refuses_a_configuration_of_somebody_else(flow: Flow) -> None:
    assert refusal(flow, configuration=flow_make().configuration) == (
        "This configuration is not visible to you; choose one of yours or of your projects."
    )


def test_it_refuses_to_go_without_devices(flow: Flow) -> None:
    assert refusal(flow, device_ids=[]) == "Choose at least one device."


def test_it_refuses_devices_of_strangers_and_unbound_ones(flow: Flow) -> None:
    strange = device_make(User.objects.create_user("stranger"))
    mine, _ = flow.devices
    mine.unbound_at = timezone.now()
    mine.save()
    assert refusal(flow, device_ids=[mine.pk, strange.pk]) == (
        f"Device {mine.pk}, {strange.pk} cannot be used in this project: it is not bound, or its owner is not a "
        "member. Choose devices from the list."
    )


def test_it_refuses_a_name_that_is_too_long(flow: Flow) -> None:
    assert refusal(flow, name="x" * 121) == "The name of a run may have 120 characters at most; use a shorter one."


def test_it_fills_in_and_checks_limits(flow: Flow) -> None:
    run = flow.run(limits={"client": {"memory_mb": 512, "cpus": 0.5}})
    assert run.limits == {
        "server": {"memory_mb": 4096, "cpus": 2.0, "pids": 256},
        "client": {"memory_mb": 512, "cpus": 0.5, "pids": 256},
    }
    run.delete()
    assert refusal(flow, limits={"client": {"memory_mb": 1}}) == (
        "The client's limit memory_mb must be a whole number from 16 to 16777216."
    )
    assert refusal(flow, limits={"server": {"cpus": True}}) == (
        "The server's limit cpus must be a number from 0.01 to 4096."
    )
    assert refusal(flow, limits={"gpu": {}}) == "Limits are given for the server and the client, not for gpu."
    assert refusal(flow, limits={"server": {"disk": 1}}) == (
        "There is no limit named disk; there are memory_mb, cpus, pids."
    )


def test_it_keeps_where_in_a_swarm_the_aggregator_may_run(flow: Flow) -> None:
    run = flow.run(
        limits={
            "placement": [" node.labels.zone  == a ", "node.hostname!=old-one"],
            "reservations": {"memory_mb": 512, "cpus": 0.5},
        }
    )
    assert run.limits["placement"] == ["node.labels.zone==a", "node.hostname!=old-one"]
    assert run.limits["reservations"] == {"memory_mb": 512, "cpus": 0.5}
    run.delete()
    for wrong in ("zone == a", "node.labels.zone = a", "node.labels.zone==a; rm", "node.labels.zone=="):
        assert refusal(flow, limits={"placement": [wrong]}) == (
            f"{wrong!r} is no condition on a node. Write conditions such as node.labels.zone == a or node.hostname != "
            "old-one, one a line."
        )
    assert refusal(flow, limits={"reservations": {"memory_mb": 5000}}) == (
        "The server's reservation memory_mb is above its limit of 4096. Reserve less."
    )
    assert refusal(flow, limits={"reservations": {"pids": 5}}) == "Memory and CPUs can be reserved, but not pids."


def test_it_refuses_a_backend_that_is_not_there(flow: Flow) -> None:
    assert refusal(flow, backend="cloud").startswith("There is no backend named cloud; there are ")


def test_it_chooses_a_backend_that_works_where_the_setting_says_auto(flow: Flow) -> None:
    with override_settings(BACKEND="auto"):
        assert flow.run(backend=None).backend in BACKENDS
    with override_settings(BACKEND="process"):
        assert flow.run(backend=None).backend == "process"


@override_settings(PUBLIC_URL="http://platform.example")
def test_it_renders_the_server_and_each_client_with_their_own_variables(flow: Flow) -> None:
    flow.configuration.private_data_path = "mnist"
    flow.configuration.save()
    run = flow.run()
    first, second = flow.devices
    both = f"[{first.pk},{second.pk}]"
    assert lifecycle.run_render(run, 0).arguments == [
        *("--run_id", str(run.pk), "--model", "lr", "--lr", "0.03", "--clients", both, "--rank", "0", "--data", "")
    ]
    assert lifecycle.run_render(run, second.pk).arguments == [
        *("--run_id", str(run.pk), "--model", "lr", "--lr", "0.03", "--clients", f"[{second.pk}]", "--rank", "2"),
        *("--data", "${FEDSYS.PRIVATE_LOCAL_DATA}"),
    ]
    with pytest.raises(LookupError):
        lifecycle.run_render(run, second.pk + 1000)


@override_settings(PUBLIC_URL="http://platform.example")
def test_uploaded_data_wins_over_a_url(flow: Flow) -> None:
    flow.configuration.server_package.manifest["entry_arguments"] = [
        {"name": "url", "value": "${FEDSYS.SYNTHETIC_DATA_URL}", "line": 1},
        {"name": "logs", "value": "${FEDSYS.LOG_SERVER_URL}", "line": 2},
        {"name": "objects", "value": "${FEDSYS.CLIENT_OBJECT_LIST}", "line": 3},
        {"name": "local", "value": "${FEDSYS.IS_USING_LOCAL_DATA}", "line": 4},
        {"name": "n", "value": "${FEDSYS.CLIENT_NUM}", "line": 5},
    ]
    flow.configuration.server_package.save()
    flow.configuration.synthetic_data_url = "http://data.example/x.npz"
    flow.configuration.save()
    first, second = (device.pk for device in flow.devices)
    run = flow.run()
    objects = "[" + ",".join(f'{{"id":{i},"os_type":"Linux","arch":"x86_64"}}' for i in (first, second)) + "]"
    assert lifecycle.run_render(run, 0).arguments == [
        *("--url", "http://data.example/x.npz"),
        *("--logs", f"http://platform.example/api/runs/{run.pk}/logs"),
        *("--objects", objects, "--local", "0", "--n", "2"),
    ]
    flow.configuration.synthetic_data_sha256 = "0" * 64
    flow.configuration.save()
    run = flow.run()
    assert lifecycle.run_render(run, 0).arguments[1] == f"http://platform.example/api/runs/{run.pk}/data"


def test_a_preview_shows_every_command_and_makes_nothing(flow: Flow) -> None:
    commands = lifecycle.run_preview(
        project=flow.project,
        user=flow.user,
        configuration=flow.configuration,
        device_ids=[device.pk for device in flow.devices],
        overrides={"hyperparameters_config.lr": 0.5},
    )
    first, second = flow.devices
    assert [label for label, _ in commands] == ["server", f"client 1: {first.name}", f"client 2: {second.name}"]
    assert commands[1][1][:8] == ["python", "fedml/main.py", "--run_id", "0", "--model", "lr", "--lr", "0.5"]
    assert Run.objects.count() == 0


def test_a_preview_refuses_what_a_run_would_be_refused_for(flow: Flow) -> None:
    with pytest.raises(RunRefused):
        lifecycle.run_preview(
            project=flow.project, user=flow.user, configuration=flow.configuration, device_ids=[], overrides={}
        )


def test_rendering_an_existing_run_says_what_cannot_be_resolved(flow: Flow) -> None:
    run = flow.run()
    run.configuration_copy["model_config"] = []
    with pytest.raises(ExpressionError):
        lifecycle.run_render(run, 0)
