"""A real worker that builds, pushes, launches and dispatches: stopped in each stage, and killed in each stage."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from pytest_django import Settings

from configurations.models import PackageKind
from deploy.local.engine import Engine, Registry
from devices.broker import aggregator_credential_create, aggregator_credential_revoke
from devices.tests.mqtt import platform
from runs import lifecycle
from runs.models import Run, Stage, StageName
from runs.pipeline.backends.docker import DockerBackend
from runs.pipeline.backends.engine import EngineClient, engine_client
from runs.states import RunState, StageState
from runs.tests.flow import Flow, flow_make, package_real, states_of_stages
from runs.tests.pip_index import index_of, wheel_write
from runs.tests.worker import HEARTBEAT_SECONDS, Worker, wait_for
from tests.gate import Gate
from tests.servers import MosquittoServer

pytestmark = pytest.mark.django_db(transaction=True)

WAITS = "import time\nprint('aggregating', flush=True)\ntime.sleep(300)\n"
REQUIREMENTS = "roundtable-sample==1.0\n"
QUESTION_BYTES = 100_000  # what asking a registry takes at most; the packages are larger


@dataclass(frozen=True)
class Site:
    """Everything that a worker speaks to, behind gates."""

    index: Gate
    registry: Gate
    broker: Gate
    start: Callable[[], Worker]
    log: Path


@pytest.fixture
def site(
    containers: Settings,
    engine: Engine,
    registry: Registry,
    broker: MosquittoServer,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Site]:
    """A site without workers; what they started is ended with the test."""
    containers.STAGE_HEARTBEAT_SECONDS = HEARTBEAT_SECONDS
    # No ingest worker runs here, so that the reaper alone learns how the aggregator ended.
    monkeypatch.setattr("runs.lifecycle.reaper.AGGREGATOR_REPORT_SECONDS", 0)
    (tmp_path / "wheels").mkdir()
    wheel_write(tmp_path / "wheels", "roundtable-sample")
    workers: list[Worker] = []
    with (
        index_of(tmp_path / "wheels") as index_port,
        Gate(index_port) as index,
        Gate(registry.port) as registry_gate,
        Gate(broker.port) as broker_gate,
    ):
        containers.REGISTRY = f"127.0.0.1:{registry_gate.port}"
        log = tmp_path / "worker.log"

        def start() -> Worker:
            worker = Worker(
                broker,
                log,
                ROUNDTABLE_DOCKER_HOST=engine.url,
                ROUNDTABLE_REGISTRY=containers.REGISTRY,
                ROUNDTABLE_REGISTRY_USER=registry.username,
                ROUNDTABLE_REGISTRY_PASSWORD=registry.password,
                ROUNDTABLE_BASE_IMAGE=containers.BASE_IMAGE,
                ROUNDTABLE_BUILD_NETWORK="host",
                ROUNDTABLE_BUILD_ARGS="PIP_INDEX_URL",
                PIP_INDEX_URL=f"http://127.0.0.1:{index.port}/simple",
                ROUNDTABLE_MQTT_PORT=str(broker_gate.port),
                ROUNDTABLE_MQTT_PUBLIC_PORT=str(broker.port),
            )
            workers.append(worker)
            return worker

        yield Site(index, registry_gate, broker_gate, start, log)
        for worker in workers:
            worker.end(signal.SIGKILL)
    backend = DockerBackend()
    for found in backend.aggregators_find():
        backend.stop_aggregator(found.handle)
    with engine_client() as client:
        for instance in backend._instances(client, None):
            backend._remove(client, instance)
    shutil.rmtree(django_settings.RUNS_DIR, ignore_errors=True)


@pytest.fixture
def client(containers: Settings) -> Iterator[EngineClient]:
    with engine_client() as client:
        yield client


def flow_with(server: dict[str, Any], client: dict[str, Any]) -> tuple[Flow, Run]:
    """A run on one device, which is not there: nobody follows its command."""
    user = flow_make().user
    packages = (
        package_real(PackageKind.SERVER, user, program=WAITS, **server),
        package_real(PackageKind.CLIENT, user, **client),
    )
    flow = flow_make(devices=1, packages=packages)
    return flow, flow.run(backend="docker")


def in_stage(run: Run, name: StageName) -> bool:
    return Stage.objects.filter(run=run, name=name, state=StageState.ACTIVE).exists()


def state_of(run: Run) -> str:
    return Run.objects.values_list("state", flat=True).get(pk=run.pk)


def aggregators(client: EngineClient) -> list[str]:
    """The states of the containers of all aggregators of this installation."""
    labels = [f"roundtable.platform={django_settings.PLATFORM_ID}", "roundtable.edge=0"]
    return [container["State"] for container in client.containers(all=True, filters={"label": labels})]


def builders(client: EngineClient) -> list[str]:
    """The commands of containers in which a build runs pip."""
    return [one["Command"] for one in client.containers() if "pip install" in one["Command"]]


def gate_for(site: Site, stage: StageName) -> tuple[Gate, int, dict[str, Any], dict[str, Any]]:
    """Where a stage is to be held up and after how many bytes, and the packages by which no stage before it is."""
    light: dict[str, Any] = {"files": {"fedml/fresh": os.urandom(16)}}
    heavy, needy = _heavy(), _needy()
    return {
        StageName.BUILD_SERVER: (site.index, 0, needy, light),
        StageName.PUSH_SERVER: (site.registry, QUESTION_BYTES, heavy, light),
        StageName.BUILD_CLIENT: (site.index, 0, light, needy),
        StageName.PUSH_CLIENT: (site.registry, QUESTION_BYTES, light, heavy),
        StageName.LAUNCH: (site.broker, 0, light, light),
        StageName.DISPATCH: (site.broker, _launch_bytes(site), light, light),
    }[stage]


def _heavy() -> dict[str, Any]:
    """What makes a package whose layer nobody has and that is long to push."""
    return {"files": {"fedml/large.bin": os.urandom(1024 * 1024)}}


def _needy() -> dict[str, Any]:
    """What makes a package whose requirements nobody has installed."""
    return {"requirements": f"# {os.urandom(8).hex()}\n{REQUIREMENTS}"}


def _launch_bytes(site: Site) -> int:
    """What the launch says to the broker, with room for other numbers; a command is much longer."""
    with Gate(site.broker._target) as gate, pytest.MonkeyPatch.context() as patch:
        patch.setattr(django_settings, "MQTT_PORT", gate.port)
        aggregator_credential_create(10**6)
        aggregator_credential_revoke(10**6)
        return gate.passed


@pytest.mark.parametrize("stage", StageName)
def test_a_run_is_stopped_in_any_stage(site: Site, stage: StageName, client: EngineClient) -> None:
    gate, after, server, its_client = gate_for(site, stage)
    flow, run = flow_with(server, its_client)
    gate.close(after)
    site.start()
    lifecycle.run_start(run=run, user=flow.user)
    wait_for(lambda: gate.holds() and in_stage(run, stage), site.log)
    flow.devices[0].online = False
    flow.devices[0].save()
    lifecycle.run_stop(run=run, user=flow.user)
    if gate is site.broker:
        gate.open()
    wait_for(lambda: state_of(run) == RunState.KILLED, site.log, reaping=True)
    assert states_of_stages(run)[stage] == StageState.CANCELLED
    wait_for(lambda: not builders(client), site.log)
    wait_for(lambda: "running" not in aggregators(client), site.log)
    assert DockerBackend().aggregators_find() == []


def test_a_worker_that_is_killed_in_each_stage_leaves_one_image_and_one_aggregator(
    site: Site, client: EngineClient, containers: Settings, registry: Registry
) -> None:
    flow, run = flow_with(_heavy() | _needy(), _heavy() | _needy())
    launch_bytes = _launch_bytes(site)
    holds = {
        StageName.BUILD_SERVER: (site.index, 0),
        StageName.PUSH_SERVER: (site.registry, QUESTION_BYTES),
        StageName.BUILD_CLIENT: (site.index, 0),
        StageName.PUSH_CLIENT: (site.registry, QUESTION_BYTES),
        StageName.LAUNCH: (site.broker, 0),
        StageName.DISPATCH: (site.broker, launch_bytes),
    }
    opened: Gate | None = None
    with platform() as listener:
        listener.subscribe("edges/+/command")
        lifecycle.run_start(run=run, user=flow.user)
        for stage, (gate, after) in holds.items():
            if opened is gate:
                gate.open()
            gate.close(after)
            if opened is not None and opened is not gate:
                opened.open()
            worker = site.start()
            wait_for(lambda: gate.holds() and in_stage(run, stage), site.log, reaping=True)  # noqa: B023  used at once
            worker.end(signal.SIGKILL)
            opened = gate
        site.broker.open()
        site.start()
        wait_for(lambda: state_of(run) == RunState.RUNNING, site.log, reaping=True)
        commands = [listener.received.get(timeout=10)]
        while not listener.received.empty():
            commands.append(listener.received.get())
    stages = Stage.objects.filter(run=run)
    assert {stage.state for stage in stages} == {StageState.DONE}
    assert {stage.name: stage.attempt for stage in stages} == dict.fromkeys(StageName, 2)
    images = client.images(filters={"label": f"roundtable.package={run.server_package.sha256}"})
    tags = [tag for image in images for tag in image["RepoTags"]]
    assert tags == [f"{containers.REGISTRY}/roundtable-server:{stages.get(name=StageName.BUILD_SERVER).result['tag']}"]
    wait_for(lambda: aggregators(client) == ["running"], site.log)
    assert [found.run_id for found in DockerBackend().aggregators_find()] == [run.pk]
    assert {topic for topic, _ in commands} == {f"edges/{flow.devices[0].pk}/command"}
    assert len({payload for _, payload in commands}) == 1
    # The password of the registry stands in the command, which goes to the device alone, and nowhere else.
    run.refresh_from_db()
    kept = site.log.read_text() + str(vars(run)) + str(list(stages.values())) + str(list(run.log_lines.values()))
    assert registry.password not in kept
    assert registry.password in str(commands)
