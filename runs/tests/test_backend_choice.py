"""Which backend a new run uses, and what it says of itself."""

from __future__ import annotations

from collections.abc import Iterator

import docker
import pytest
from pytest_django import Settings

from deploy.local.engine import Engine
from runs.pipeline.backend_choice import BackendChoice, backend_choice, backend_choose
from runs.pipeline.backends import BackendUnknown, backend_get
from runs.pipeline.backends.docker import DockerBackend
from runs.pipeline.backends.engine import engine_look
from runs.pipeline.backends.swarm import SwarmBackend

NO_REGISTRY = "No registry is configured (ROUNDTABLE_REGISTRY)."


@pytest.fixture
def swarm_of_one(engine: Engine) -> Iterator[None]:
    client = docker.APIClient(base_url=engine.url, version="auto")
    client.init_swarm(advertise_addr="127.0.0.1", listen_addr="127.0.0.1")
    yield
    client.leave_swarm(force=True)
    client.close()


def test_processes_are_used_where_there_is_no_registry(settings: Settings) -> None:
    settings.BACKEND, settings.REGISTRY = "auto", ""
    choice = backend_choice()
    assert (choice.name, choice.label) == ("process", "Processes on this machine")
    assert choice.why.startswith("Found by itself. Aggregators run as processes of Python 3.")
    assert choice.why.endswith(f"Not swarm: {NO_REGISTRY} Not docker: {NO_REGISTRY}")


def test_processes_are_used_where_no_engine_answers(settings: Settings) -> None:
    settings.BACKEND, settings.REGISTRY = "auto", "127.0.0.1:5000"
    settings.DOCKER_HOST = "unix:///tmp/no-such-engine.sock"
    choice = backend_choice()
    assert choice.name == "process"
    assert "Not docker: The container engine at unix:///tmp/no-such-engine.sock does not answer." in choice.why


def test_containers_are_used_where_there_is_an_engine_and_a_registry(containers: Settings) -> None:
    containers.BACKEND = "auto"
    version = engine_look().version
    assert backend_choice() == BackendChoice(
        "docker",
        "Containers of the engine",
        f"Found by itself. Engine {version} at {containers.DOCKER_HOST}, registry {containers.REGISTRY}. Not swarm: "
        f"The engine at {containers.DOCKER_HOST} manages no swarm. Type: docker swarm init.",
    )


def test_a_swarm_is_used_by_itself_only_with_several_nodes(
    containers: Settings, swarm_of_one: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    containers.BACKEND = "auto"
    works, why = SwarmBackend().available()
    assert works
    assert why.startswith("A swarm of 1 node, engine ")
    assert backend_choice().name == "docker"
    assert backend_choice().why.endswith("Not swarm: Its swarm has a single node.")
    assert backend_choose("swarm") == "swarm"
    monkeypatch.setattr("runs.pipeline.backends.swarm.NODES_BY_ITSELF", 1)
    assert backend_choose() == "swarm"


def test_a_backend_that_is_named_is_used_and_says_what_it_lacks(settings: Settings) -> None:
    settings.BACKEND, settings.REGISTRY = "docker", ""
    assert backend_choice().why == f"Set by ROUNDTABLE_BACKEND. {NO_REGISTRY}"
    assert backend_choice("process").why.startswith("Chosen for this run. Aggregators run as processes")


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(BackendUnknown, match=r"^There is no backend named cloud; there are swarm, docker, process\.$"):
        backend_get("cloud")


def test_nothing_is_tidied_without_a_registry(settings: Settings) -> None:
    settings.REGISTRY, settings.DOCKER_HOST = "", "unix:///tmp/no-such-engine.sock"
    DockerBackend().tidy()
