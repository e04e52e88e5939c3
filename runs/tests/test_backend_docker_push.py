"""Images and the registry: asked first, pushed once, refused, away, broken off in the middle."""

from __future__ import annotations

import io
import os
import re
import tarfile
import threading
from collections.abc import Iterator

import pytest
from pytest_django import Settings

from runs.pipeline import stages
from runs.pipeline.backends.engine import EngineClient, engine_client
from runs.pipeline.backends.interface import (
    StageCancelled,
    StageFailed,
    StageResult,
    StageTransient,
)
from runs.pipeline.backends.registry import image_push
from runs.tests.docker_images import build, names, push, reference_of, run_of, wait_for
from runs.tests.stage_context import TestContext
from tests.containers import SMALL_BASE_IMAGE, registry_started

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _containers(containers: Settings) -> None:
    """Every test here uses the session's engine and registry."""


@pytest.fixture
def client() -> Iterator[EngineClient]:
    with engine_client() as client:
        yield client


def test_a_wrong_password_is_said_at_once_and_stands_nowhere(containers: Settings) -> None:
    run = run_of(program="print('refused')\n")
    containers.REGISTRY_PASSWORD = "not-the-password"
    context = TestContext(run)
    with pytest.raises(StageFailed) as error:
        build(run, context)
    assert str(error.value) == (
        f"The registry {containers.REGISTRY} refuses the user roundtable. Correct ROUNDTABLE_REGISTRY_USER and "
        "ROUNDTABLE_REGISTRY_PASSWORD. It said: unauthorized: authentication required."
    )
    assert "not-the-password" not in f"{error.value!r} {context.lines}"


def test_a_login_that_is_refused_at_the_push_is_said(containers: Settings, client: EngineClient) -> None:
    run = run_of(program="print('refused later')\n")
    built = build(run)
    containers.REGISTRY_PASSWORD = "not-the-password"
    context = TestContext(run)
    with pytest.raises(StageFailed, match=r"^The registry 127\.0\.0\.1:\d+ refuses the user roundtable\."):
        image_push(context, client, built.data["repository"], built.data["tag"])
    assert "not-the-password" not in str(context.lines)


def test_a_registry_that_is_away_does_not_keep_from_building(containers: Settings) -> None:
    containers.REGISTRY = "127.0.0.1:1"
    run = run_of(program="print('away')\n")
    context = TestContext(run)
    built = build(run, context)
    assert "connection refused. Building first." in context.lines[0]
    with pytest.raises(StageTransient, match=r"^The registry 127\.0\.0\.1:1 cannot be used: .*connection refused\.$"):
        push(run, built)


def test_a_registry_that_goes_down_in_the_middle_of_a_push_is_waited_for(
    containers: Settings, client: EngineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "FIRST_PAUSE_SECONDS", 0.5)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        information = tarfile.TarInfo("random")
        information.size = 60 * 1024 * 1024
        with open("/dev/urandom", "rb") as random:  # noqa: PTH123
            tar.addfile(information, random)
    with registry_started() as registry:
        containers.REGISTRY = registry.address
        containers.REGISTRY_USER, containers.REGISTRY_PASSWORD = registry.username, registry.password
        repository = f"{registry.address}/roundtable-server"
        client.import_image_from_data(content.getvalue(), repository=repository, tag="large")
        context = TestContext(run_of())
        again = threading.Timer(3.0, registry.start)

        def restart() -> None:
            wait_for("half of it is pushed", lambda: any((part or 0) > 0.3 for part in context.fractions))
            registry.kill()
            again.start()

        breaker = threading.Thread(target=restart)
        breaker.start()
        digest = stages._with_patience(
            context,  # type: ignore[arg-type]  # has what is used of a worker's
            lambda _: StageResult({"digest": image_push(context, client, repository, "large")}),
        ).data["digest"]
        breaker.join()
        again.join()
        assert (
            client.inspect_distribution(
                f"{repository}:large", auth_config={"username": registry.username, "password": registry.password}
            )["Descriptor"]["digest"]
            == digest
        )
        assert any(
            "the registry does not take it. Retrying in" in line or "Trying again in" in line for line in context.lines
        )
        client.remove_image(f"{repository}:large", force=True)


def test_a_base_image_in_the_registry_is_pulled_once(containers: Settings, client: EngineClient) -> None:
    name = f"{containers.REGISTRY}/bases/python"
    client.tag(SMALL_BASE_IMAGE, name, "3")
    login = {"username": containers.REGISTRY_USER, "password": containers.REGISTRY_PASSWORD}
    client.push(name, "3", auth_config=login)
    client.remove_image(f"{name}:3")
    containers.BASE_IMAGE = f"{name}:3"
    run = run_of(program="print('pulled')\n")
    context = TestContext(run)
    built = build(run, context)
    assert context.lines[0] == f"Pulling the base image {name}:3"
    assert any(
        re.fullmatch(rf"Step 1/\d+ : FROM {re.escape(name)}@sha256:[0-9a-f]{{64}}", line) for line in context.lines
    )
    assert build(run).data["tag"] == built.data["tag"]
    other = TestContext(run_of(program="print('again')\n"))
    build(other.run, other)
    assert not any("Pulling" in line for line in other.lines)
    # Without the base image at hand the name of the image is the same, so that the registry still knows it.
    push(run, built)
    client.remove_image(f"{name}:3", force=True)
    assert build(run).unchanged.startswith("unchanged: the registry has it as ")


def test_a_push_that_is_cancelled_ends_and_can_be_done_again(containers: Settings, client: EngineClient) -> None:
    run = run_of(files={"fedml/large.bin": os.urandom(60 * 1024 * 1024)})
    built = build(run)
    context = TestContext(run)

    def cancel() -> None:
        wait_for("a part is pushed", lambda: any((part or 0) > 0 for part in context.fractions))
        context.unwanted = True

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(StageCancelled):
        push(run, built, context)
    thread.join()
    assert push(run, built).unchanged == ""


def test_what_the_registry_has_is_not_built_where_the_engine_has_nothing(
    containers: Settings, client: EngineClient
) -> None:
    run = run_of(program="print('from the registry')\n")
    built = build(run)
    pushed = push(run, built)
    client.remove_image(reference_of(containers, built), force=True)
    again = TestContext(run)
    assert build(run, again).unchanged.startswith("unchanged: the registry has it as ")
    assert push(run, built, again).data == pushed.data
    assert again.lines == []
    assert reference_of(containers, built) not in names(client)


def test_an_image_that_was_built_but_not_pushed_is_not_built_again(client: EngineClient) -> None:
    run = run_of(program="print('built alone')\n")
    built = build(run)
    again = TestContext(run)
    assert build(run, again).unchanged.startswith("unchanged: the engine has it as ")
    assert again.lines == []
    client.remove_image(f"{built.data['repository']}:{built.data['tag']}", force=True)
    elsewhere = TestContext(run)  # as on another worker's machine
    assert push(run, built, elsewhere).unchanged == ""
    assert elsewhere.lines[0] == "The image is not on this worker's engine: another one built it. Building it here."
