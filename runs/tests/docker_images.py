"""What the tests of images start from: runs of real packages, and what the engine has of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from pytest_django import Settings

from configurations.models import PackageKind
from runs.models import Run
from runs.pipeline.backends.docker import DockerBackend
from runs.pipeline.backends.engine import EngineClient
from runs.pipeline.backends.interface import (
    StageResult,
)
from runs.tests.flow import flow_make, package_real
from runs.tests.stage_context import TestContext

SERVER = PackageKind.SERVER
SECONDS = 30.0


def run_of(program: str = "", requirements: str | None = None, files: Mapping[str, bytes] | None = None) -> Run:
    """A run of real packages."""
    user = flow_make().user
    server = package_real(SERVER, user, program=program, requirements=requirements, files=files)
    return flow_make(packages=(server, package_real(PackageKind.CLIENT, user))).run(backend="docker")


def build(run: Run, context: TestContext | None = None) -> StageResult:
    return DockerBackend().build(context or TestContext(run), SERVER)


def push(run: Run, built: StageResult, context: TestContext | None = None) -> StageResult:
    return DockerBackend().push(context or TestContext(run), SERVER, built.data)


def reference_of(containers: Settings, built: StageResult) -> str:
    return f"{containers.REGISTRY}/roundtable-server:{built.data['tag']}"


def wait_for(what: str, look: Callable[[], Any], seconds: float = SECONDS) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


def pip_runs(client: EngineClient) -> bool:
    """Whether a container of a build runs pip."""
    return any("pip install" in container["Command"] for container in client.containers())


def names(client: EngineClient) -> set[str]:
    """The tags of all images of packages on the engine."""
    images = client.images(filters={"label": "roundtable.image=1"})
    return {tag for image in images for tag in image["RepoTags"] or [] if not tag.startswith("<none>")}
