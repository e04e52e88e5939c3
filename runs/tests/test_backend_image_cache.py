"""The images that the engine keeps: those that were used last, as far as the budget goes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from pytest_django import Settings

from configurations.models import PackageKind
from runs.models import Run, Stage, StageName
from runs.pipeline.backends.docker import DockerBackend
from runs.pipeline.backends.engine import EngineClient, engine_client
from runs.pipeline.backends.image_cache import images_kept, images_trim
from runs.states import RunState, StageState
from runs.tests.flow import flow_make, package_real
from runs.tests.stage_context import TestContext

pytestmark = pytest.mark.django_db

MIB = 2**20


@pytest.fixture(autouse=True)
def _own_registry(containers: Settings) -> None:
    """Images of other tests are not of this registry, and are left alone."""
    containers.REGISTRY = "127.0.0.1:1/cache"


@pytest.fixture
def client(containers: Settings) -> Iterator[EngineClient]:
    with engine_client() as client:
        yield client
        for image in images_kept(client):
            for name in image.names:
                client.remove_image(name, force=True)


def image_of(name: str, *, hours_ago: int, state: RunState = RunState.FINISHED) -> tuple[Run, str]:
    """A run that started some hours ago, and the name of its server image, of about 1 MiB, on the engine."""
    user = flow_make().user
    server = package_real(PackageKind.SERVER, user, files={"fedml/content": name.encode() * (MIB // len(name))})
    run = flow_make(packages=(server, package_real(PackageKind.CLIENT, user))).run(backend="docker")
    built = DockerBackend().build(TestContext(run), PackageKind.SERVER)
    started = timezone.now() - timedelta(hours=hours_ago)
    Run.objects.filter(pk=run.pk).update(started_at=started, state=state)
    Stage.objects.create(
        run=run, position=0, name=StageName.BUILD_SERVER, state=StageState.DONE, result=dict(built.data)
    )
    return run, f"{built.data['repository']}:{built.data['tag']}"


def names(client: EngineClient) -> set[str]:
    return {name for image in images_kept(client) for name in image.names}


def test_the_least_recently_used_images_fall_out(containers: Settings, client: EngineClient) -> None:
    _, oldest = image_of("oldest", hours_ago=-1)
    _, newest = image_of("newest", hours_ago=-9)
    _, middle = image_of("middle", hours_ago=-5)
    containers.IMAGES_KEEP_GIB = 1
    assert images_trim(client) == []
    containers.IMAGES_KEEP_GIB = 2.5 / 1024
    assert images_trim(client) == [oldest]
    assert names(client) == {newest, middle}
    containers.IMAGES_KEEP_GIB = 0
    assert set(images_trim(client)) == {newest, middle}
    assert names(client) == set()


def test_what_a_run_under_way_is_made_of_stays(containers: Settings, client: EngineClient) -> None:
    _, needed = image_of("needed", hours_ago=5, state=RunState.RUNNING)
    _, other = image_of("another", hours_ago=1)
    containers.IMAGES_KEEP_GIB = 0
    assert images_trim(client) == [other]
    assert names(client) == {needed}


def test_an_image_that_a_container_uses_stays(containers: Settings, client: EngineClient) -> None:
    _, used = image_of("in use", hours_ago=5)
    container = client.create_container(used, ["python", "-c", "pass"])
    containers.IMAGES_KEEP_GIB = 0
    assert images_trim(client) == []
    client.remove_container(container["Id"])
    assert images_trim(client) == [used]


def test_images_are_looked_at_now_and_then(
    containers: Settings, client: EngineClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    containers.VAR_DIR, containers.IMAGES_KEEP_GIB = tmp_path, 0
    image_of("first", hours_ago=5)
    DockerBackend().tidy()
    assert names(client) == set()
    _, second = image_of("second", hours_ago=5)
    DockerBackend().tidy()
    assert names(client) == {second}
    monkeypatch.setattr("runs.pipeline.backends.image_cache.TRIM_SECONDS", 0)
    DockerBackend().tidy()
    assert names(client) == set()
