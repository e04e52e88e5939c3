"""Images: built by a real engine, pushed to a real registry, and neither twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_django import Settings

from configurations.models import PackageKind
from runs.models import Run
from runs.pipeline.backends.docker import DockerBackend
from runs.pipeline.backends.engine import EngineClient, engine_client
from runs.pipeline.backends.interface import StageResult
from runs.tests.flow import flow_make, package_real
from runs.tests.stage_context import TestContext

pytestmark = pytest.mark.django_db

SERVER = PackageKind.SERVER


@pytest.fixture(autouse=True)
def _containers(containers: Settings) -> None:
    """Every test here uses the session's engine and registry."""


@pytest.fixture
def client() -> Iterator[EngineClient]:
    with engine_client() as client:
        yield client


def run_of(program: str = "", requirements: str | None = None) -> Run:
    """A run of real packages."""
    user = flow_make().user
    server = package_real(SERVER, user, program=program, requirements=requirements)
    return flow_make(packages=(server, package_real(PackageKind.CLIENT, user))).run(backend="docker")


def build(run: Run, context: TestContext | None = None) -> StageResult:
    return DockerBackend().build(context or TestContext(run), SERVER)


def test_a_package_becomes_an_image_that_is_built_and_pushed_once(containers: Settings, client: EngineClient) -> None:
    run = run_of()
    context = TestContext(run)
    built = build(run, context)
    assert built.unchanged == ""
    reference = f"{containers.REGISTRY}/roundtable-server:{built.data['tag']}"
    image = client.inspect_image(reference)
    assert image["Config"]["User"] == "10001:10001"
    assert context.lines[0].startswith("Step 1/")
    assert context.fractions[:2] == [0.0, 1 / int(context.lines[0].split("/")[1].split()[0])]

    pushing = TestContext(run)
    pushed = DockerBackend().push(pushing, SERVER, built.data)
    assert pushed.unchanged == ""
    assert pushed.data["reference"].startswith(f"{containers.REGISTRY}/roundtable-server@sha256:")
    assert f"digest: {pushed.data['digest']}" in pushing.lines

    again = TestContext(run)
    rebuilt = build(run, again)
    assert rebuilt.data == built.data
    assert rebuilt.unchanged.startswith("unchanged: the registry has it as ")
    assert again.lines == []
    repushed = DockerBackend().push(again, SERVER, rebuilt.data)
    assert repushed.data == pushed.data
    assert repushed.unchanged.startswith("unchanged: ")
    assert again.lines == []
