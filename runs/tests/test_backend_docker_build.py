"""Images: built by a real engine, pushed to a real registry, and neither twice."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection
from pytest_django import Settings

from deploy.local.engine import Engine, Registry
from runs.pipeline.backends.docker import DockerBackend
from runs.pipeline.backends.engine import EngineClient, engine_client
from runs.pipeline.backends.interface import (
    StageCancelled,
    StageFailed,
    StageResult,
    StageTimedOut,
    StageTransient,
)
from runs.tests.docker_images import build, names, pip_runs, push, reference_of, run_of, wait_for
from runs.tests.pip_index import index_mute, index_of, wheel_write
from runs.tests.stage_context import TestContext
from tests.containers import SMALL_BASE_IMAGE

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _containers(containers: Settings) -> None:
    """Every test here uses the session's engine and registry."""


@pytest.fixture
def client() -> Iterator[EngineClient]:
    with engine_client() as client:
        yield client


@pytest.fixture
def mute_index(containers: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """pip waits for an index that takes connections and never answers."""
    with index_mute() as url:
        monkeypatch.setenv("PIP_INDEX_URL", url)
        containers.BUILD_ARGS = ["PIP_INDEX_URL"]
        yield


@pytest.fixture
def wheels(containers: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """pip finds ``roundtable-sample`` 1.0 and nothing else."""
    wheel_write(tmp_path, "roundtable-sample")
    with index_of(tmp_path) as port:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{port}/simple")
        containers.BUILD_ARGS = ["PIP_INDEX_URL"]
        yield


def test_a_package_becomes_an_image_that_is_built_and_pushed_once(containers: Settings, client: EngineClient) -> None:
    run = run_of(program="print('once')\n")
    context = TestContext(run)
    built = build(run, context)
    assert built.unchanged == ""
    reference = reference_of(containers, built)
    image = client.inspect_image(reference)
    assert image["Config"]["User"] == "10001:10001"
    assert image["Config"]["Entrypoint"] is None
    assert image["Config"]["WorkingDir"] == "/fedml/fedml-package"
    assert image["Config"]["Labels"] == {
        "roundtable.image": "1",
        "roundtable.kind": "server",
        "roundtable.package": run.server_package.sha256,
    }
    steps = int(re.findall(r"Step 1/(\d+) : FROM sha256:", context.lines[0])[0])
    assert [fraction for fraction in context.fractions if fraction is not None] == [
        step / steps for step in range(steps)
    ]

    pushing = TestContext(run)
    pushed = push(run, built, pushing)
    assert pushed.unchanged == ""
    assert pushed.data["reference"] == f"{containers.REGISTRY}/roundtable-server@{pushed.data['digest']}"
    assert pushed.note == f"{containers.REGISTRY}/roundtable-server@{pushed.data['digest'][:19]}"
    assert f"digest: {pushed.data['digest']}" in pushing.lines
    assert pushing.fractions[-1] == 1.0

    again = TestContext(run)
    rebuilt = build(run, again)
    assert rebuilt.data == built.data
    assert rebuilt.unchanged == f"unchanged: the registry has it as {pushed.note}"
    repushed = push(run, rebuilt, again)
    assert repushed.data == pushed.data
    assert repushed.unchanged == f"unchanged: {pushed.note}"
    assert again.lines == []


def test_a_change_of_the_code_builds_the_last_layer_alone(wheels: None) -> None:
    first = TestContext(run := run_of(program="print(1)\n", requirements="roundtable-sample==1.0\n"))
    one = build(run, first)
    assert any("Successfully installed roundtable-sample-1.0" in line for line in first.lines)
    second = TestContext(run := run_of(program="print(2)\n", requirements="roundtable-sample==1.0\n"))
    two = build(run, second)
    assert one.data["tag"] != two.data["tag"]
    text = "\n".join(second.lines)
    until_package, after = text.split(" : COPY package ")
    assert until_package.count("Step ") - 1 == until_package.count(" ---> Using cache") + 1  # all but FROM
    assert "Using cache" not in after
    assert "Successfully installed" not in text


def test_the_package_is_in_the_image_and_cannot_be_changed_by_its_user(
    containers: Settings, client: EngineClient, wheels: None
) -> None:
    run = run_of(requirements="roundtable-sample==1.0\n")
    image = reference_of(containers, build(run))
    script = (
        "import os, pathlib, roundtable_sample\n"
        "package = pathlib.Path('/fedml/fedml-package')\n"
        "print(os.getuid(), os.getgid(), roundtable_sample.VALUE, pathlib.Path.cwd())\n"
        "print(sorted(str(path.relative_to(package)) for path in package.rglob('*') if path.is_file()))\n"
        "print(*(os.access(path, os.W_OK) for path in (package, package / 'fedml/main.py', '/fedml/data')))\n"
    )
    container = client.create_container(image, ["python", "-c", script])
    client.start(container["Id"])
    client.wait(container["Id"])
    output = client.logs(container["Id"]).decode().splitlines()
    client.remove_container(container["Id"])
    assert output == [
        "10001 10001 42 /fedml/fedml-package",
        "['conf/fedml.yaml', 'fedml/main.py', 'requirements.txt']",
        "False False True",
    ]


def test_a_requirement_that_does_not_resolve_is_named(wheels: None, client: EngineClient) -> None:
    run = run_of(requirements="roundtable-sample==9.9\n")
    context = TestContext(run)
    before = names(client)
    with pytest.raises(StageFailed) as error:
        build(run, context)
    assert str(error.value) == (
        "The requirement roundtable-sample==9.9 cannot be found. Correct requirements.txt of the server package and "
        "upload it again."
    )
    assert any("ERROR: No matching distribution found" in line for line in context.lines)
    assert "\x1b" not in "".join(context.lines)
    assert names(client) == before


def test_a_base_image_that_is_nowhere_is_named(containers: Settings) -> None:
    run = run_of()
    containers.BASE_IMAGE = f"{containers.REGISTRY}/no-such-base:1"
    with pytest.raises(StageFailed) as error:
        build(run)
    assert str(error.value) == (
        f"The base image {containers.REGISTRY}/no-such-base:1 is neither on the engine nor in its registry. Correct "
        "ROUNDTABLE_BASE_IMAGE, or make a base image on this engine: make base-image."
    )
    containers.BASE_IMAGE = "127.0.0.1:1/base"
    with pytest.raises(
        StageTransient, match=r"^The base image 127\.0\.0\.1:1/base is not on the engine\. The registry"
    ):
        build(run)


def test_a_base_image_without_python_is_named(containers: Settings, client: EngineClient) -> None:
    client.import_image_from_data(_tar_of_nothing(), repository="roundtable-empty", tag="1")
    containers.BASE_IMAGE = "roundtable-empty:1"
    with pytest.raises(StageFailed, match=r"^The base image roundtable-empty:1 has no shell\."):
        build(run_of())


def _tar_of_nothing() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("nothing"), io.BytesIO())
    return content.getvalue()


def test_a_build_that_is_cancelled_ends_on_the_engine_too(mute_index: None, client: EngineClient) -> None:
    run = run_of(program="print('cancelled')\n", requirements="roundtable-sample==1.0\n")
    context = TestContext(run)
    before = names(client)

    def cancel() -> None:
        wait_for("pip runs", lambda: pip_runs(client))
        context.unwanted = True

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(StageCancelled):
        build(run, context)
    thread.join()
    wait_for("pip has ended", lambda: not pip_runs(client), 5)
    assert names(client) == before


def test_a_build_that_takes_too_long_ends_on_the_engine_too(mute_index: None, client: EngineClient) -> None:
    run = run_of(program="print('late')\n", requirements="roundtable-sample==1.0\n")
    with pytest.raises(StageTimedOut):
        build(run, TestContext(run, seconds=3))
    wait_for("pip has ended", lambda: not pip_runs(client), 5)


@pytest.mark.django_db(transaction=True)
def test_two_workers_build_the_same_image_once(client: EngineClient) -> None:
    run = run_of(program="print('together')\n")
    results: list[StageResult] = []
    contexts = [TestContext(run), TestContext(run)]

    def work(context: TestContext) -> None:
        try:
            results.append(build(run, context))
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(context,)) for context in contexts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(bool(result.unchanged) for result in results) == [False, True]
    assert sum(any(line.startswith("Step 1/") for line in context.lines) for context in contexts) == 1


KILLED = """
import json, sys
import django
django.setup()
from django.conf import settings
settings.DOCKER_HOST, settings.BUILD_NETWORK, settings.BUILD_ARGS = sys.argv[1], "host", ["PIP_INDEX_URL"]
settings.BASE_IMAGE, settings.REGISTRY = sys.argv[2], "127.0.0.1:1"
from types import SimpleNamespace
from configurations.models import PackageKind
from runs.pipeline.backends.docker import DockerBackend
from runs.tests.stage_context import TestContext
package = SimpleNamespace(**json.loads(sys.argv[3]))
DockerBackend().build(TestContext(SimpleNamespace(server_package=package)), PackageKind.SERVER)
"""


def test_a_build_whose_worker_is_killed_ends_and_is_done_anew(
    containers: Settings, engine: Engine, client: EngineClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    containers.REGISTRY = "127.0.0.1:1"
    containers.BUILD_ARGS = ["PIP_INDEX_URL"]
    run = run_of(program="print('killed')\n", requirements="roundtable-sample==1.0\n")
    package = run.server_package
    fields = {name: getattr(package, name) for name in ("sha256", "storage_name", "manifest", "file_name")}
    with index_mute() as url:
        worker = subprocess.Popen(
            [sys.executable, "-c", KILLED, engine.url, SMALL_BASE_IMAGE, json.dumps(fields)],
            env={**os.environ, "PIP_INDEX_URL": url, "ROUNDTABLE_VAR": str(containers.VAR_DIR),
                 "DJANGO_SETTINGS_MODULE": "mlops_site.settings"},
        )  # fmt: skip
        wait_for("pip runs", lambda: pip_runs(client))
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    wheel_write(tmp_path, "roundtable-sample")
    with index_of(tmp_path) as port:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{port}/simple")
        built = build(run)
    wait_for("the killed worker's pip has ended", lambda: not pip_runs(client), 5)
    assert built.unchanged == ""
    assert [name for name in names(client) if built.data["tag"] in name] == [reference_of(containers, built)]


def test_a_password_in_a_build_argument_is_refused(containers: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:secret@index.example/simple")
    containers.BUILD_ARGS = ["PIP_INDEX_URL"]
    with pytest.raises(StageFailed, match=r"^The build argument PIP_INDEX_URL holds a password") as error:
        build(run_of(requirements="roundtable-sample==1.0\n"))
    assert "secret" not in str(error.value)


def test_no_password_stands_in_an_image_or_a_log(
    containers: Settings, client: EngineClient, monkeypatch: pytest.MonkeyPatch, registry: Registry
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:proxy-secret@127.0.0.1:9")
    containers.BUILD_ARGS = ["HTTPS_PROXY"]
    run = run_of(requirements="PyYAML\n")  # the base image has it
    context = TestContext(run)
    built = build(run, context)
    push(run, built, context)
    reference = reference_of(containers, built)
    said = json.dumps([client.inspect_image(reference), client.history(reference), context.lines])
    assert "proxy-secret" not in said
    assert registry.password not in said


def test_an_engine_that_is_away_is_named(containers: Settings) -> None:
    containers.DOCKER_HOST = "unix:///tmp/no-such-engine.sock"
    sentence = (
        "The container engine at unix:///tmp/no-such-engine.sock does not answer. Start it, or set "
        "ROUNDTABLE_DOCKER_HOST."
    )
    with pytest.raises(StageTransient) as error:
        build(run_of())
    assert str(error.value) == sentence
    assert DockerBackend().available() == (False, sentence)
