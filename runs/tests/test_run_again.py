"""Making a run from a run: again as it was, edited, or from the weights of one of its rounds."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.conf import settings as django_settings
from django.test import Client
from safetensors.numpy import save as safetensors_save

from runs import lifecycle
from runs.lifecycle import RunRefused
from runs.model_store import model_keep, model_path
from runs.models import ModelKind, Role, Run, StoredModel
from runs.states import RunState
from runs.tests.conftest import Sent
from runs.tests.flow import Flow, flow_make
from runs.tests.rows import user_make
from runs.tokens import run_token_digest, run_token_make

pytestmark = pytest.mark.django_db

WEIGHTS = safetensors_save({"bias": np.zeros(3, dtype=np.float32)})
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture(autouse=True)
def store(tmp_path: Path, settings: Any) -> None:
    """A store of the test's own."""
    settings.STORE_DIR = tmp_path / "store"
    options = {"location": settings.STORE_DIR}
    default = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": options}
    settings.STORAGES = {**django_settings.STORAGES, "default": default}


@pytest.fixture
def flow() -> Flow:
    return flow_make()


@pytest.fixture
def member(flow: Flow, client: Client) -> Client:
    client.force_login(flow.user)
    return client


def model_of(run: Run) -> StoredModel:
    """A stored model of the run's third round."""
    return model_keep(
        run_id=run.pk, edge_id=0, kind=ModelKind.AGGREGATED, round_index=2, sha256=SHA256, body=io.BytesIO(WEIGHTS)
    )[0]


def test_a_run_again_has_the_values_of_the_first_whatever_became_of_its_configuration(
    flow: Flow, member: Client, sent: Sent
) -> None:
    first = flow.run(overrides={"hyperparameters_config.lr": 0.5}, limits={"client": {"memory_mb": 512}})
    flow.configuration.hyperparameters_config = []
    flow.configuration.save()
    response = member.post(f"/runs/{first.pk}/again/")
    again = Run.objects.exclude(pk=first.pk).get()
    assert response.url == f"/runs/{again.pk}/"  # type: ignore[attr-defined]
    assert (again.state, again.parent, again.configuration) == (RunState.QUEUED, first, flow.configuration)
    assert again.configuration_copy == first.configuration_copy
    assert again.limits == first.limits
    assert again.server_package == first.server_package
    assert list(again.run_devices.values_list("edge_id")) == list(first.run_devices.values_list("edge_id"))
    assert (again.initial_key, again.initial_model) == ("", None)


def test_the_form_of_a_clone_stands_as_the_run_was_and_its_changes_hold(flow: Flow, member: Client, sent: Sent) -> None:
    first = flow.run(overrides={"hyperparameters_config.lr": 0.5}, limits={"client": {"memory_mb": 512}})
    form = f"/projects/{flow.project.pk}/runs/new/"
    page = member.get(f"{form}?again={first.pk}").content.decode()
    assert f'name="again" value="{first.pk}"' in page
    assert 'name="set:hyperparameters_config.lr" value="0.5"' in page
    assert 'name="client_memory_mb" value="512"' in page
    fields = {
        "again": first.pk,
        "devices": [device.pk for device in flow.devices],
        "set:hyperparameters_config.rounds": "7",
    }
    preview = member.post(f"{form}preview/", fields).content.decode()
    assert "python fedml/main.py" in preview
    member.post(form, fields)
    clone = Run.objects.exclude(pk=first.pk).get()
    values = {row["name"]: row["value"] for row in clone.configuration_copy["hyperparameters_config"]}
    assert values == {"lr": 0.5, "rounds": 7}
    assert clone.configuration_copy["overrides"] == ["hyperparameters_config.lr", "hyperparameters_config.rounds"]
    assert (clone.state, clone.parent) == (RunState.CREATED, first)


def test_a_run_from_a_model_keeps_a_copy_that_its_aggregator_is_told_of(flow: Flow, member: Client) -> None:
    first = flow.run()
    model = model_of(first)
    fields = {"again": first.pk, "model": model.pk, "devices": [flow.devices[0].pk]}
    member.post(f"/projects/{flow.project.pk}/runs/new/", fields)
    clone = Run.objects.exclude(pk=first.pk).get()
    copied = clone.models.get()
    assert (copied.edge_id, copied.kind, copied.round_index, copied.sha256) == (0, "aggregated", -1, SHA256)
    assert model_path(copied).read_bytes() == WEIGHTS
    assert model_path(copied) != model_path(model)
    assert (clone.initial_model, clone.initial_key) == (model, copied.key)

    Run.objects.filter(pk=clone.pk).update(state=RunState.RUNNING, attempt_id="a")
    clone.refresh_from_db()
    token = run_token_make(clone, 0)
    Run.objects.filter(pk=clone.pk).update(aggregator_token_hash=run_token_digest(token))
    header = {"Authorization": f"Bearer {token}"}
    answer = member.get(f"/api/runs/{clone.pk}/initial-model", headers=header)
    assert answer.json() == {"model": {"key": copied.key, "sha256": SHA256, "size": len(WEIGHTS)}}
    assert member.get(f"/api/runs/{clone.pk}/initial-model").status_code == 401
    first.delete()
    assert member.get(f"/api/runs/{clone.pk}/initial-model", headers=header).json()["model"]["key"] == copied.key


def test_no_run_is_left_where_the_weights_are_gone(flow: Flow) -> None:
    first = flow.run()
    model = model_of(first)
    model_path(model).unlink()
    with pytest.raises(RunRefused, match="round 3 are not in the store"):
        flow.run(configuration=first, initial_model=model)
    assert list(Run.objects.all()) == [first]


def test_runs_and_models_of_other_projects_are_not_taken(flow: Flow, member: Client) -> None:
    other = flow_make()
    theirs = other.run()
    model = model_of(theirs)
    form = f"/projects/{flow.project.pk}/runs/new/"
    assert member.get(f"{form}?again={theirs.pk}").status_code == 404
    assert member.get(f"{form}?model={model.pk}").status_code == 404
    assert member.post(f"/runs/{theirs.pk}/again/").status_code == 404
    with pytest.raises(RunRefused, match="its own project"):
        lifecycle.run_create(project=flow.project, user=flow.user, configuration=theirs, device_ids=[1])
    with pytest.raises(RunRefused, match="its own project"):
        flow.run(initial_model=model)
    assert list(Run.objects.all()) == [theirs]


def test_viewers_may_not_run_again(flow: Flow, client: Client) -> None:
    run = flow.run()
    viewer = user_make("viewer")
    flow.project.memberships.create(user=viewer, role=Role.VIEWER)
    client.force_login(viewer)
    assert client.post(f"/runs/{run.pk}/again/").status_code == 403
    assert client.get(f"/runs/{run.pk}/again/").status_code == 405
    assert Run.objects.count() == 1


def test_a_run_again_that_cannot_be_made_says_why(flow: Flow, member: Client) -> None:
    run = flow.run()
    flow.devices[0].unbound_at = run.created_at
    flow.devices[0].save()
    page = member.post(f"/runs/{run.pk}/again/", follow=True).content.decode()
    assert "The run cannot be repeated as it is." in page
    assert Run.objects.count() == 1
