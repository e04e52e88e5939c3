"""Promoting models, their pages, and what came from what."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.test import Client
from safetensors.numpy import save as safetensors_save

from registry.models import ModelVersion, RegisteredModel, VersionChange
from registry.services import PromotionRefused, model_promote, version_change
from runs.model_store import model_keep, model_path
from runs.models import ModelKind, Role, Run, Stage, StageName, StoredModel
from runs.tests.rows import run_make, user_make

pytestmark = pytest.mark.django_db

WEIGHTS = safetensors_save({"bias": np.ones(3, dtype=np.float32)})
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture(autouse=True)
def store(tmp_path: Path, settings: Any) -> None:
    """A store of the test's own."""
    settings.STORE_DIR = tmp_path / "store"
    options = {"location": settings.STORE_DIR}
    default = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": options}
    settings.STORAGES = {**django_settings.STORAGES, "default": default}


@pytest.fixture
def ada() -> User:
    return user_make("ada")


@pytest.fixture
def run(ada: User) -> Run:
    return run_make(user=ada, best_metric={"name": "accuracy", "value": 0.9, "round": 1}, configuration_copy={})


@pytest.fixture
def page(ada: User, client: Client) -> Client:
    client.force_login(ada)
    return client


def model_make(run: Run, round_index: int, **metrics: float) -> StoredModel:
    kept, _ = model_keep(
        run_id=run.pk,
        edge_id=0,
        kind=ModelKind.AGGREGATED,
        round_index=round_index,
        sha256=SHA256,
        body=io.BytesIO(WEIGHTS),
    )
    StoredModel.objects.filter(pk=kept.pk).update(metrics=metrics)
    return StoredModel.objects.select_related("run__project").get(pk=kept.pk)


def test_a_promoted_model_outlives_its_run(run: Run, ada: User, page: Client) -> None:
    model = model_make(run, 1, accuracy=0.9)
    promoted = page.post(
        f"/runs/{run.pk}/models/{model.pk}/promote/", {"name": " digits  one ", "stage": "staging", "notes": "good"}
    )
    registered = RegisteredModel.objects.get()
    assert promoted.url == f"/projects/{run.project_id}/models/{registered.pk}/"  # type: ignore[attr-defined]
    version = registered.versions.get()
    assert (registered.name, version.number, version.stage, version.notes) == ("digits one", 1, "staging", "good")
    assert (version.sha256, version.size, version.metrics) == (SHA256, len(WEIGHTS), {"accuracy": 0.9})
    model_path(model).unlink()
    run.delete()
    answer = page.get(f"/projects/{run.project_id}/models/versions/{version.pk}/download")
    assert b"".join(answer.streaming_content) == WEIGHTS  # type: ignore[attr-defined]
    assert answer["Content-Disposition"] == 'attachment; filename="digits-one-v1.safetensors"'
    assert f"round 2 of {run.name}" in page.get(registered.get_absolute_url()).content.decode()


def test_one_version_is_in_production_and_the_history_says_who_did_what(run: Run, ada: User) -> None:
    first = model_promote(model=model_make(run, 0), user=ada, name="digits", stage="production")
    second = model_promote(model=model_make(run, 1), user=ada, name="digits", stage="candidate")
    bob = user_make("bob")
    run.project.memberships.create(user=bob, role=Role.MEMBER)
    version_change(version=second, user=bob, stage="production", notes="better")
    version_change(version=second, user=bob, stage="production", notes="better")
    first.refresh_from_db()
    assert (first.number, first.stage, second.number, second.stage) == (1, "archived", 2, "production")
    history = VersionChange.objects.order_by("pk").values_list("version__number", "user__username", "text")
    assert list(history)[1:] == [
        (1, "ada", "moved it from candidate to production"),
        (2, "ada", f"made version 2 from the aggregated model of round 2 of {run.name} (run {run.pk})"),
        (2, "bob", "changed the notes"),
        (1, "bob", "archived it, since version 2 took its place"),
        (2, "bob", "moved it from candidate to production"),
    ]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": " "}, "A name has 1 to 120 characters."),
        ({"stage": "best"}, "The stage is one of candidate, staging, production, archived."),
        ({"notes": "x" * 4001}, "Notes have at most 4000 characters."),
    ],
)
def test_what_cannot_be_promoted_is_refused(run: Run, ada: User, fields: dict[str, str], sentence: str) -> None:
    model = model_make(run, 0)
    with pytest.raises(PromotionRefused, match=sentence):
        model_promote(model=model, user=ada, **{"name": "digits", "stage": "candidate", **fields})
    model_path(model).unlink()
    with pytest.raises(PromotionRefused, match="not in the store"):
        model_promote(model=model, user=ada, name="digits", stage="candidate")
    assert ModelVersion.objects.count() == 0


def test_viewers_see_and_strangers_find_nothing(run: Run, ada: User, client: Client) -> None:
    model = model_make(run, 0)
    version = model_promote(model=model, user=ada, name="digits", stage="candidate")
    project = f"/projects/{run.project_id}/models/"
    pages = [
        project,
        f"{project}{version.registered_id}/",
        f"{project}compare/?a={model.pk}",
        f"/runs/{run.pk}/models/{model.pk}/",
        f"/runs/{run.pk}/lineage/",
        f"/packages/{run.server_package_id}/",
    ]
    viewer = user_make("viewer")
    run.project.memberships.create(user=viewer, role=Role.VIEWER)
    changes = [
        (f"/runs/{run.pk}/models/{model.pk}/promote/", {"name": "mine", "stage": "candidate"}),
        (f"{project}versions/{version.pk}/", {"stage": "production"}),
    ]
    for user, status in ((viewer, 200), (user_make("stranger"), 404)):
        client.force_login(user)
        assert {url: client.get(url).status_code for url in pages} == dict.fromkeys(pages, status)
        for url, fields in changes:
            assert client.post(url, fields).status_code == (302 if status == 200 else 404)
            assert client.get(url).status_code == 405
    assert client.get(f"{project}versions/{version.pk}/download").status_code == 404
    version.refresh_from_db()
    assert (version.stage, ModelVersion.objects.count()) == ("candidate", 1)


def test_two_models_metrics_stand_beside_each_other(run: Run, page: Client) -> None:
    first, second = model_make(run, 0, accuracy=0.5, loss=1.25), model_make(run, 1, accuracy=0.75)
    text = page.get(f"/projects/{run.project_id}/models/compare/?a={first.pk}&b={second.pk}").content.decode()
    assert "+0.25" in text
    assert "the same bytes" in text
    elsewhere = model_make(run_make(), 0)
    assert page.get(f"/projects/{run.project_id}/models/compare/?a={elsewhere.pk}").status_code == 404
    assert "Choose two models" in page.get(f"/projects/{run.project_id}/models/compare/").content.decode()


def test_from_a_run_one_gets_to_all_that_it_came_from_and_that_came_of_it(run: Run, ada: User, page: Client) -> None:
    model = model_make(run, 1)
    reference = f"registry:5000/server@sha256:{'a' * 64}"
    Stage.objects.create(run=run, position=1, name=StageName.PUSH_SERVER, result={"reference": reference})
    version = model_promote(model=model, user=ada, name="digits", stage="candidate")
    child = run_make(user=ada)
    Run.objects.filter(pk=child.pk).update(project=run.project, parent=run, initial_model=model, initial_key=model.key)
    text = page.get(f"/runs/{run.pk}/lineage/").content.decode()
    for link in (
        f"/packages/{run.server_package_id}/",
        f"/packages/{run.client_package_id}/",
        f"/runs/{run.pk}/models/{model.pk}/",
        version.registered.get_absolute_url(),
        f"/runs/{child.pk}/",
        *(part.device.get_absolute_url() for part in run.run_devices.all() if part.device),
    ):
        assert f'href="{link}"' in text
    assert reference in text
    package = page.get(f"/packages/{run.server_package_id}/").content.decode()
    assert f'href="/runs/{run.pk}/?tab=lineage"' in package
    assert reference in package
    assert f'href="/runs/{run.pk}/models/{model.pk}/"' in page.get(f"/runs/{child.pk}/lineage/").content.decode()
    assert f'href="/runs/{child.pk}/"' in page.get(f"/runs/{run.pk}/models/{model.pk}/").content.decode()


def test_a_project_without_promoted_models_says_how_to_get_some(run: Run, page: Client) -> None:
    assert "No models in the registry" in page.get(f"/projects/{run.project_id}/models/").content.decode()
