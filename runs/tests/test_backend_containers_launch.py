"""Aggregators as containers and as jobs of a swarm: a real engine, registry, broker and supervisor."""

from __future__ import annotations

import json
import os
import queue
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml
from django.test import override_settings
from django.utils import timezone
from pytest_django import Settings

from configurations.models import PackageKind
from deploy.local.engine import Engine
from devices.broker import aggregator_credential_create
from devices.tests.mqtt import Mqtt, platform
from runs.models import Run
from runs.pipeline.backends.docker import DockerBackend
from runs.pipeline.backends.engine import EngineClient, engine_client
from runs.pipeline.backends.interface import AggregatorSpec, FoundAggregator, Handle, InstanceState
from runs.pipeline.backends.swarm import SwarmBackend
from runs.pipeline.processes import process_runs
from runs.states import InstanceStatus, RunState
from runs.tests.flow import flow_make, package_real
from runs.tests.stage_context import TestContext
from tests.containers import engine_started, small_base_image_make
from tests.servers import MosquittoServer

pytestmark = pytest.mark.django_db

WAITS = "import time\nprint('aggregating', flush=True)\ntime.sleep(300)\n"
SECONDS = 60.0
MEMORY_MB = 128

Backend = DockerBackend | SwarmBackend


@pytest.fixture(scope="module")
def swarm(engine: Engine) -> Iterator[None]:
    """The session's engine manages a swarm of one node."""
    client = docker.APIClient(base_url=engine.url, version="auto")
    client.init_swarm(advertise_addr="127.0.0.1", listen_addr="127.0.0.1")
    yield
    client.leave_swarm(force=True)
    client.close()


@pytest.fixture(autouse=True)
def _folders(containers: Settings, tmp_path: Path, broker: MosquittoServer) -> None:
    containers.RUNS_DIR = tmp_path / "runs"


@pytest.fixture(params=[DockerBackend, SwarmBackend], ids=["docker", "swarm"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Each of the backends; what it started is ended."""
    if request.param is SwarmBackend:
        request.getfixturevalue("swarm")
    backend: Backend = request.param()
    yield backend
    end_all(backend)


@pytest.fixture
def on_docker() -> Iterator[DockerBackend]:
    """The docker backend, where the two do not differ."""
    backend = DockerBackend()
    yield backend
    end_all(backend)


@pytest.fixture
def client() -> Iterator[EngineClient]:
    with engine_client() as client:
        yield client


def end_all(backend: Backend) -> None:
    for found in backend.aggregators_find():
        backend.stop_aggregator(found.handle)
    with engine_client() as client:
        for instance in backend._instances(client, None):
            backend._remove(client, instance)
        backend._leftovers_remove(client, None)


def run_of(program: str, backend: Backend, files: Mapping[str, str] | None = None) -> Run:
    """A run whose aggregator is this program."""
    user = flow_make().user
    server = package_real(PackageKind.SERVER, user, program=program, files=files)
    packages = (server, package_real(PackageKind.CLIENT, user))
    run = flow_make(packages=packages).run(backend=backend.name)
    run.attempt_id = secrets.token_hex(16)
    run.save()
    return run


def spec_of(run: Run) -> AggregatorSpec:
    username, password = aggregator_credential_create(run.pk)
    return AggregatorSpec(
        run_id=run.pk,
        attempt_id=run.attempt_id,
        token="rtr_secret",
        mqtt_username=username,
        mqtt_password=password,
        entry_file="fedml/main.py",
        entry_arguments=["--run_id", str(run.pk)],
        config={"model_config": {}},
        limits={"memory_mb": MEMORY_MB, "cpus": 0.5, "pids": 32},
        package_name="package.zip",
        package_url="http://platform.example/package.zip",
        placement=["node.role==manager"],
        reservations={"memory_mb": 64, "cpus": 0.25},
    )


def launch(backend: Backend, run: Run) -> Handle:
    context = TestContext(run)
    built = backend.build(context, PackageKind.SERVER).data
    pushed = backend.push(context, PackageKind.SERVER, built).data
    return backend.launch(context, built, pushed, spec_of(run))


def wait_for(look: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """Wait until there is something to be found; return it."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)
    return found


def containers_of(client: EngineClient, run: Run) -> list[dict[str, Any]]:
    """The containers of a run's aggregator, running or not, also those of a job."""
    labels = [f"roundtable.run={run.pk}", "roundtable.edge=0", f"roundtable.attempt={run.attempt_id[:12]}"]
    return list(client.containers(all=True, filters={"label": labels}))


def the_container(client: EngineClient, run: Run) -> dict[str, Any]:
    """What the engine says of the one container of a run's aggregator, once it runs."""

    def look() -> list[dict[str, Any]]:
        return [container for container in containers_of(client, run) if container["State"] == "running"]

    (container,) = wait_for(look)
    found: dict[str, Any] = client.inspect_container(container["Id"])
    return found


def ended(backend: Backend, handle: Handle) -> InstanceState:
    wait_for(lambda: not backend.aggregator_state(handle).runs)
    return backend.aggregator_state(handle)


def supervisor_of(backend: Backend, handle: Handle) -> tuple[int, str]:
    record = json.loads((backend.supervisors.home(handle) / "supervise.json").read_text())
    return record["pid"], record["process"]


def status_of(listener: Mqtt, run: Run, wanted: str) -> dict[str, Any]:
    """The next status message of the aggregator that says what is wanted."""
    while True:
        try:
            topic, payload = listener.received.get(timeout=SECONDS)
        except queue.Empty:
            raise AssertionError(f"no status {wanted} came") from None
        message: dict[str, Any] = json.loads(payload)
        if topic == f"runs/{run.pk}/0/status" and message["status"] == wanted:
            return message


def test_an_aggregator_is_a_hardened_container_by_digest(backend: Backend, client: EngineClient) -> None:
    run = run_of(WAITS, backend)
    with platform() as listener:
        listener.subscribe("runs/+/0/status")
        assert backend.aggregator_find(run) is None
        handle = launch(backend, run)
        status_of(listener, run, "TRAINING")
    container = the_container(client, run)
    host, config = container["HostConfig"], container["Config"]
    assert "@sha256:" in config["Image"]
    assert config["User"].split(":")[0] not in ("", "0", "root")
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert host["Privileged"] is False
    assert host["PidsLimit"] == 32
    assert host["Memory"] == MEMORY_MB * 2**20
    assert host["NanoCpus"] == 500_000_000
    assert not any("docker.sock" in json.dumps(mount) for mount in container["Mounts"])
    assert host["NetworkMode"] == "host"
    processes = [row[1] for row in client.top(container["Id"])["Processes"] if "main.py" in row[-1]]
    for process in processes:
        status = dict(line.split(":\t") for line in Path(f"/proc/{process}/status").read_text().splitlines())
        assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert "0" not in status["Uid"].split()
    assert status["NoNewPrivs"] == "1"
    assert config["Labels"]["roundtable.run"] == str(run.pk)
    assert config["Labels"]["roundtable.edge"] == "0"
    assert execute(client, container["Id"], "sh", "-c", "ls /fedml; touch /x /fedml/fedml-package/x 2>&1; id -u").split(
        "\n"
    )[:3] == ["conf", "data", "fedml-package"]
    if isinstance(backend, SwarmBackend):
        (service,) = client.services(filters={"label": f"roundtable.attempt={run.attempt_id[:12]}"})
        task = service["Spec"]["TaskTemplate"]
        assert task["Placement"]["Constraints"] == ["node.role==manager"]
        assert task["Resources"]["Reservations"] == {"MemoryBytes": 64 * 2**20, "NanoCPUs": 250_000_000}
        assert "ReplicatedJob" in service["Spec"]["Mode"]
    words = json.dumps(config["Cmd"]) + json.dumps(config["Labels"])
    assert "rtr_secret" not in words

    assert backend.aggregator_find(run) == handle
    assert backend.aggregator_state(handle).runs
    assert backend.aggregators_find() == [FoundAggregator(run.pk, handle)]
    backend.watch(handle)
    assert launch(backend, run) == handle
    assert len(containers_of(client, run)) == 1


def execute(client: EngineClient, container: str, *command: str) -> str:
    created = client.exec_create(container, list(command))
    output: bytes = client.exec_start(created["Id"])
    return output.decode()


SHOWS = """
import json, os, pathlib, sys
fedml = pathlib.Path("/fedml")
(fedml / "data" / "fedavg-cross-silo-run-1-edge-0.log").write_text("log_file_dir")
print(json.dumps({
    "argv": sys.argv,
    "cwd": os.getcwd(),
    "folders": sorted(path.name for path in fedml.iterdir()),
    "conf": {path.name: path.read_text() for path in sorted((fedml / "conf").glob("*.yaml"))},
    "environment": {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "ROUNDTABLE_"))},
}), flush=True)
"""


def test_what_packages_of_the_original_expect_is_there(backend: Backend, containers: Settings) -> None:
    containers.S3_BUCKET, containers.S3_REGION, containers.S3_ENDPOINT_URL = "weights", "eu-1", "https://s3.example"
    containers.S3_ACCESS_KEY, containers.S3_SECRET_KEY = "key", "s3-secret"
    run = run_of("", backend, files={"main.py": SHOWS})
    handle = launch(backend, run)
    assert ended(backend, handle).ended == InstanceStatus.FINISHED
    output = (backend.supervisors.home(handle) / "data" / "stdout.log").read_text()
    shown = json.loads(output)
    assert shown["argv"] == [
        "main.py",
        *("--package_name", "package.zip", "--package_url", "http://platform.example/package.zip"),
        *("--config", "/fedml/conf/fedml.yaml", "--", "--run_id", str(run.pk)),
    ]
    assert shown["cwd"] == "/fedml/fedml-package"
    assert shown["folders"] == ["conf", "data", "fedml-package"]
    mqtt = yaml.safe_load(shown["conf"]["mqtt_config.yaml"])
    assert (mqtt["BROKER_HOST"], mqtt["BROKER_PORT"]) == (containers.MQTT_PUBLIC_HOST, containers.MQTT_PUBLIC_PORT)
    assert mqtt["MQTT_USER"] == f"aggregator-{run.pk}"
    assert mqtt["MQTT_PWD"]
    assert yaml.safe_load(shown["conf"]["s3_config.yaml"]) == {
        "BUCKET_NAME": "weights",
        "CN_S3_AKI": "key",
        "CN_S3_SAK": "s3-secret",
        "CN_REGION_NAME": "eu-1",
        "ENDPOINT_URL": "https://s3.example",
    }
    assert yaml.safe_load(shown["conf"]["fedml.yaml"]) == {"model_config": {}}
    assert {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "s3-secret",
        "AWS_DEFAULT_REGION": "eu-1",
        "AWS_ENDPOINT_URL": "https://s3.example",
        "ROUNDTABLE_RUN_ID": str(run.pk),
        "ROUNDTABLE_EDGE_ID": "0",
        "ROUNDTABLE_TOKEN": "rtr_secret",
        "ROUNDTABLE_HOME": "/fedml",
    }.items() <= shown["environment"].items()


def test_stopping_ends_the_aggregator_and_leaves_no_container(backend: Backend, client: EngineClient) -> None:
    run = run_of(WAITS, backend)
    handle = launch(backend, run)
    the_container(client, run)
    backend.stop_aggregator(handle)
    assert backend.aggregator_state(handle).ended == InstanceStatus.KILLED
    assert backend.aggregators_find() == []
    backend.stop_aggregator(handle)
    backend.watch(handle)
    assert not any(container["State"] == "running" for container in containers_of(client, run))
    backend.clean(run)
    backend.clean(run)
    assert containers_of(client, run) == []
    assert not backend.supervisors.home(handle).exists()


def test_an_entry_file_that_crashes_at_once_is_told_with_its_last_line(backend: Backend) -> None:
    run = run_of("raise SystemExit('no such data set')\n", backend)
    state = ended(backend, launch(backend, run))
    assert (state.ended, state.exit_code) == (InstanceStatus.FAILED, 1)
    assert "exit code 1" in state.reason
    assert "no such data set" in state.reason


def test_a_container_that_needs_more_memory_than_it_may_have_is_told_so(backend: Backend) -> None:
    run = run_of("held = []\nwhile True:\n    held.append(bytearray(8 * 2**20))\n", backend)
    state = ended(backend, launch(backend, run))
    assert state.ended == InstanceStatus.FAILED
    assert f"killed by the kernel: the {MEMORY_MB} MiB limit was reached" in state.reason


def test_a_supervisor_that_was_killed_is_replaced_and_the_container_goes_on(
    backend: Backend, client: EngineClient
) -> None:
    run = run_of(WAITS, backend)
    handle = launch(backend, run)
    before = the_container(client, run)["Id"]
    first = supervisor_of(backend, handle)
    os.kill(first[0], signal.SIGKILL)
    wait_for(lambda: not process_runs(*first))
    assert backend.aggregator_state(handle).runs
    backend.watch(handle)
    assert supervisor_of(backend, handle) != first
    time.sleep(1)
    assert the_container(client, run)["Id"] == before
    assert len(containers_of(client, run)) == 1


def test_an_aggregator_without_supervisor_is_found_and_stopped(on_docker: DockerBackend, client: EngineClient) -> None:
    run = run_of(WAITS, on_docker)
    handle = launch(on_docker, run)
    the_container(client, run)
    os.kill(supervisor_of(on_docker, handle)[0], signal.SIGKILL)
    assert on_docker.aggregators_find() == [FoundAggregator(run.pk, handle)]
    on_docker.stop_aggregator(handle)
    state = on_docker.aggregator_state(handle)
    assert (state.ended, state.reason) == (InstanceStatus.KILLED, "It was stopped.")
    assert [container["State"] for container in containers_of(client, run)] == ["exited"]
    on_docker.clean(run)
    assert containers_of(client, run) == []


def test_a_new_attempt_stops_the_container_of_the_one_before(on_docker: DockerBackend, client: EngineClient) -> None:
    run = run_of(WAITS, on_docker)
    first = launch(on_docker, run)
    before = the_container(client, run)["Id"]
    run.attempt_id = "fedcba9876543210" * 2
    second = launch(on_docker, run)
    assert second != first
    assert the_container(client, run)["Id"] != before
    assert [found.handle for found in on_docker.aggregators_find()] == [second]


def test_containers_that_no_run_needs_are_removed(on_docker: DockerBackend, client: EngineClient) -> None:
    run = run_of(WAITS, on_docker)
    handle = launch(on_docker, run)
    kept = the_container(client, run)["Id"]
    on_docker.tidy()
    assert [container["Id"] for container in containers_of(client, run)] == [kept]
    os.kill(supervisor_of(on_docker, handle)[0], signal.SIGKILL)
    Run.objects.filter(pk=run.pk).update(state=RunState.FAILED, ended_at=timezone.now() - timedelta(hours=1))
    on_docker.tidy()
    assert containers_of(client, run) == []


def test_containers_of_another_installation_are_left_alone(
    on_docker: DockerBackend, client: EngineClient, settings: Settings
) -> None:
    run = run_of(WAITS, on_docker)
    launch(on_docker, run)
    kept = the_container(client, run)["Id"]
    mine = settings.PLATFORM_ID
    settings.PLATFORM_ID = "another"
    Run.objects.filter(pk=run.pk).update(state=RunState.FAILED, ended_at=timezone.now() - timedelta(hours=1))
    on_docker.tidy()
    assert [container["Id"] for container in containers_of(client, run)] == [kept]
    settings.PLATFORM_ID = mine
    assert len(on_docker.aggregators_find()) == 1


def test_an_engine_that_is_restarted_while_the_aggregator_works(on_docker: DockerBackend) -> None:
    with engine_started("rst") as engine, override_settings(DOCKER_HOST=engine.url):
        small_base_image_make(engine)
        state = _state_after_restart(on_docker, engine)
        assert (state.ended, state.reason) == (
            InstanceStatus.FAILED,
            "the aggregator ended: the container engine stopped or was restarted, and the container ended with it",
        )
        engine.stop()
        engine.live_restore = True
        engine.start()
        state = _state_after_restart(on_docker, engine)
        assert (state.ended, state.exit_code) == (InstanceStatus.FINISHED, 0)
        end_all(on_docker)


def _state_after_restart(backend: DockerBackend, engine: Engine) -> InstanceState:
    """How an aggregator of a few seconds ends whose engine is killed and started again."""
    run = run_of("import time\nprint('aggregating', flush=True)\ntime.sleep(8)\nprint('done')\n", backend)
    handle = launch(backend, run)
    with engine_client() as client:
        the_container(client, run)
    engine.kill()
    time.sleep(1)
    assert backend.aggregator_state(handle).runs
    engine.start()
    return ended(backend, handle)
