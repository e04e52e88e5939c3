"""The checks of backend, engine and registry, with a real engine and a real registry."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import override_settings
from pytest_django import Settings

from deploy.local.engine import Engine, Registry
from health.checks import CHECKS
from health.checks import registry as registry_check
from health.checks.interface import Level, Outcome
from runs.pipeline.backends.engine import engine_client
from tests.containers import registry_started

NO_ENGINE = "tcp://127.0.0.1:1"


@pytest.fixture
def own_registry(containers: Settings) -> Iterator[Registry]:
    """A registry that a test may stop, and settings that name it."""
    with registry_started() as started:
        containers.REGISTRY = started.address
        containers.REGISTRY_USER = containers.REGISTRY_PULL_USER = started.username
        containers.REGISTRY_PASSWORD = containers.REGISTRY_PULL_PASSWORD = started.password
        yield started


def ask(name: str) -> Outcome:
    return CHECKS[name].ask()


# --- Without any ---


@pytest.mark.parametrize("name", ["engine", "registry"])
def test_what_the_process_backend_does_not_need_is_not_missed(name: str) -> None:
    with override_settings(BACKEND="auto", REGISTRY="", DOCKER_HOST=NO_ENGINE):
        outcome = ask(name)
    assert (outcome.level, outcome.text) == (Level.NEUTRAL, "Not configured: the process backend is used.")


def test_the_process_backend_is_found_by_itself() -> None:
    with override_settings(BACKEND="auto", REGISTRY="", DOCKER_HOST=NO_ENGINE):
        outcome = ask("backend")
    assert (outcome.level, outcome.text) == (
        Level.OK,
        "New runs use the backend process: Processes on this machine.",
    )
    assert dict(outcome.facts)["docker"].startswith("not available: ")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("backend", "New runs use the backend docker, which is not available."),
        ("engine", "The container engine cannot be used: runs that need it wait."),
        ("registry", "The registry is asked through the container engine, which cannot be used."),
    ],
)
def test_an_engine_that_is_needed_and_away_fails(name: str, text: str) -> None:
    with override_settings(BACKEND="docker", REGISTRY="127.0.0.1:1", DOCKER_HOST=NO_ENGINE):
        outcome = ask(name)
    assert (outcome.level, outcome.text) == (Level.FAILED, text)
    assert NO_ENGINE not in outcome.text


def test_a_registry_that_is_needed_and_not_configured_fails() -> None:
    with override_settings(BACKEND="docker", REGISTRY="", DOCKER_HOST=NO_ENGINE):
        outcome = ask("registry")
    assert (outcome.level, outcome.text) == (Level.FAILED, "No registry is configured, and new runs need one.")
    assert "ROUNDTABLE_REGISTRY" in outcome.fix


def test_a_backend_that_does_not_exist_fails() -> None:
    with override_settings(BACKEND="kubernetes"):
        outcome = ask("backend")
    assert (outcome.level, outcome.text) == (Level.FAILED, "No backend can be used: runs cannot be started.")
    assert "There is no backend named kubernetes" in outcome.fix


def test_the_tiny_image_is_the_same_every_time() -> None:
    assert registry_check.image_archive("a:b") == registry_check.image_archive("a:b")


# --- With both ---


def test_the_engine_answers(containers: Settings, engine: Engine) -> None:
    outcome = ask("engine")
    assert outcome.level is Level.OK
    facts = dict(outcome.facts)
    assert facts["engine"] == engine.url
    assert facts["base image"] == f"{containers.BASE_IMAGE}, here"
    assert facts["swarm"] == "none"


def test_containers_are_found_by_themselves(containers: Settings) -> None:
    containers.BACKEND = "auto"
    outcome = ask("backend")
    assert (outcome.level, outcome.text) == (Level.OK, "New runs use the backend docker: Containers of the engine.")
    assert dict(outcome.facts)["why"].startswith("Found by itself.")


def test_an_image_is_pushed_and_pulled_and_nothing_of_it_stays(containers: Settings) -> None:
    first, second = ask("registry"), ask("registry")
    assert first.level is Level.OK
    assert first.text.startswith("An image was pushed and pulled in ")
    assert dict(first.facts)["digest"] == dict(second.facts)["digest"]
    with engine_client() as client:
        names = [tag for image in client.images() for tag in image["RepoTags"] or []]
    assert [name for name in names if registry_check.NAME in name] == []


def test_a_wrong_password_is_named_and_not_shown(containers: Settings) -> None:
    containers.REGISTRY_PASSWORD = "wrong-secret"
    outcome = ask("registry")
    assert (outcome.level, outcome.text) == (Level.FAILED, "The registry does not take an image.")
    assert "ROUNDTABLE_REGISTRY_PASSWORD" in outcome.fix
    assert "wrong-secret" not in repr(outcome)


@pytest.mark.parametrize("user", ["", "roundtable"])
def test_devices_that_cannot_pull_are_found(containers: Settings, user: str) -> None:
    containers.REGISTRY_PULL_USER = user
    containers.REGISTRY_PULL_PASSWORD = "wrong-secret"
    outcome = ask("registry")
    assert (outcome.level, outcome.text) == (
        Level.FAILED,
        "An image was pushed, but cannot be pulled as devices pull it.",
    )
    assert "ROUNDTABLE_REGISTRY_PULL_USER" in outcome.fix
    assert "wrong-secret" not in repr(outcome)


def test_a_registry_that_is_away_fails(own_registry: Registry) -> None:
    assert ask("registry").level is Level.OK
    own_registry.stop()
    outcome = ask("registry")
    assert (outcome.level, outcome.text) == (Level.FAILED, "The registry does not take an image.")
    assert "connection refused" in outcome.fix


def test_one_that_takes_too_long_is_given_up(containers: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_check._Watch, "seconds_left", lambda self: 0.0)
    outcome = ask("registry")
    assert (outcome.level, outcome.text) == (
        Level.FAILED,
        "The registry has not taken and given back an image within 25 s.",
    )
