"""The process backend's aggregators: a real supervisor, a real process, a real broker."""

from __future__ import annotations

import json
import os
import queue
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from configurations.models import PackageKind
from devices.broker import aggregator_credential_create
from devices.tests.mqtt import Mqtt, platform
from runs.models import Run
from runs.pipeline.backends.interface import AggregatorSpec, FoundAggregator, Handle, StageCancelled
from runs.pipeline.backends.process import ProcessBackend
from runs.pipeline.processes import process_identity, process_runs
from runs.states import InstanceStatus
from runs.tests.flow import flow_make, package_real
from runs.tests.stage_context import TestContext
from tests.servers import MosquittoServer

pytestmark = pytest.mark.django_db

WAITS = "import time\nprint('aggregating', flush=True)\ntime.sleep(120)\n"
SECONDS = 20.0


@pytest.fixture(autouse=True)
def backend(tmp_path: Path, settings: Settings, broker: MosquittoServer) -> Iterator[ProcessBackend]:
    """The backend in folders of the test; what it started is ended."""
    settings.RUNS_DIR = tmp_path / "runs"
    settings.VENVS_DIR = tmp_path / "venvs"
    backend = ProcessBackend()
    yield backend
    for found in backend.aggregators_find():
        backend.stop_aggregator(found.handle)


def run_of(program: str) -> Run:
    """A run whose aggregator is this program."""
    user = flow_make().user
    packages = (package_real(PackageKind.SERVER, user, program=program), package_real(PackageKind.CLIENT, user))
    run = flow_make(packages=packages).run()
    run.attempt_id = "0123456789abcdef" * 2
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
        limits={"memory_mb": 512, "cpus": 1.0, "pids": 64},
        package_name="package.zip",
        package_url="http://platform.example/package.zip",
    )


def launch(backend: ProcessBackend, run: Run) -> Handle:
    context = TestContext(run)
    built = backend.build(context, PackageKind.SERVER).data
    return backend.launch(context, built, {}, spec_of(run))


def home_of(handle: Handle, settings: Settings) -> Path:
    return Path(settings.RUNS_DIR) / str(handle["home"])


def wait_for(condition: Callable[[], Any]) -> Any:
    """Wait until the condition is true; return what it is."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("it did not come about in time")


def instance_of(home: Path) -> tuple[int, str] | None:
    try:
        entry = json.loads((home / "launch.json").read_text())["instance"]
    except (OSError, ValueError):
        return None
    return (entry["pid"], entry["identity"]) if entry else None


def supervisor_of(home: Path) -> tuple[int, str]:
    record = json.loads((home / "supervise.json").read_text())
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


def test_an_aggregator_is_launched_once_and_reports_itself(backend: ProcessBackend, settings: Settings) -> None:
    run = run_of(WAITS)
    with platform() as listener:
        listener.subscribe("runs/#")
        assert backend.aggregator_find(run) is None
        handle = launch(backend, run)
        status_of(listener, run, "TRAINING")
    home = home_of(handle, settings)
    instance = wait_for(lambda: instance_of(home))
    assert backend.aggregator_find(run) == handle
    assert backend.aggregator_state(handle).runs
    assert backend.aggregators_find() == [FoundAggregator(run.pk, handle)]
    supervisor = supervisor_of(home)
    backend.watch(handle)
    assert launch(backend, run) == handle
    assert (supervisor_of(home), instance_of(home)) == (supervisor, instance)


def test_secrets_stand_in_files_of_the_owner_alone(backend: ProcessBackend, settings: Settings) -> None:
    run = run_of(WAITS)
    spec = spec_of(run)
    assert "rtr_secret" not in repr(spec)
    assert spec.mqtt_password not in repr(spec)
    handle = launch(backend, run)
    home = home_of(handle, settings)
    assert "secret" not in json.dumps(handle)
    assert (home / "spec.json").stat().st_mode & 0o777 == 0o600
    assert home.stat().st_mode & 0o077 == 0
    supervisor, _ = supervisor_of(home)
    assert b"rtr_secret" not in Path(f"/proc/{supervisor}/cmdline").read_bytes()
    environment = Path(f"/proc/{supervisor}/environ").read_bytes()
    assert b"rtr_secret" not in environment
    assert b"ROUNDTABLE_" not in environment
    backend.stop_aggregator(handle)
    assert not (home / "spec.json").exists()


def test_a_supervisor_that_was_killed_is_replaced_and_the_aggregator_goes_on(
    backend: ProcessBackend, settings: Settings
) -> None:
    run = run_of(WAITS)
    handle = launch(backend, run)
    home = home_of(handle, settings)
    instance = wait_for(lambda: instance_of(home))
    first = supervisor_of(home)
    os.kill(first[0], signal.SIGKILL)
    wait_for(lambda: not process_runs(*first))
    assert backend.aggregator_state(handle).runs
    backend.watch(handle)
    assert supervisor_of(home) != first
    assert process_runs(*supervisor_of(home))
    assert process_runs(*instance)
    assert instance_of(home) == instance


@pytest.mark.parametrize(
    ("program", "ended", "code"),
    [("print('done')\n", InstanceStatus.FINISHED, 0), ("import sys\nsys.exit(3)\n", InstanceStatus.FAILED, 3)],
)
def test_how_an_aggregator_ended_is_known(
    backend: ProcessBackend, program: str, ended: InstanceStatus, code: int
) -> None:
    run = run_of(program)
    handle = launch(backend, run)
    wait_for(lambda: not backend.aggregator_state(handle).runs)
    state = backend.aggregator_state(handle)
    assert (state.ended, state.exit_code) == (ended, code)
    assert state.ended_at is not None
    assert ("exit code 3" in state.reason) == (code == 3)
    backend.watch(handle)
    assert backend.aggregator_state(handle) == state


def test_stopping_ends_the_aggregator_and_its_supervisor(backend: ProcessBackend, settings: Settings) -> None:
    run = run_of(WAITS)
    with platform() as listener:
        listener.subscribe("runs/#")
        handle = launch(backend, run)
        status_of(listener, run, "TRAINING")
        home = home_of(handle, settings)
        instance, supervisor = instance_of(home), supervisor_of(home)
        assert instance is not None
        backend.stop_aggregator(handle)
        assert not process_runs(*instance)
        assert status_of(listener, run, "KILLED")["exit_code"] is None
        wait_for(lambda: not process_runs(*supervisor))
    assert backend.aggregator_state(handle).ended == InstanceStatus.KILLED
    backend.stop_aggregator(handle)
    backend.watch(handle)
    assert backend.aggregators_find() == []


def test_an_aggregator_without_supervisor_is_stopped_all_the_same(backend: ProcessBackend, settings: Settings) -> None:
    run = run_of(WAITS)
    handle = launch(backend, run)
    home = home_of(handle, settings)
    instance = wait_for(lambda: instance_of(home))
    os.kill(supervisor_of(home)[0], signal.SIGKILL)
    assert backend.aggregators_find() == [FoundAggregator(run.pk, handle)]
    backend.stop_aggregator(handle)
    assert not process_runs(*instance)
    state = backend.aggregator_state(handle)
    assert (state.ended, state.reason) == (InstanceStatus.KILLED, "It was stopped.")


def test_a_launch_that_was_killed_half_way_is_gone_on_with(backend: ProcessBackend, settings: Settings) -> None:
    run = run_of(WAITS)

    class Killed(Exception):
        """Stands for SIGKILL after the spec was written."""

    class Half(ProcessBackend):
        def watch(self, handle: Handle) -> None:
            raise Killed

    with pytest.raises(Killed):
        launch(Half(), run)
    handle = backend.aggregator_find(run)
    assert handle is not None
    assert not (home_of(handle, settings) / "supervise.json").exists()
    assert backend.aggregator_state(handle).runs
    backend.watch(handle)
    assert process_runs(*supervisor_of(home_of(handle, settings)))


def test_a_new_attempt_stops_the_aggregator_of_the_one_before(backend: ProcessBackend, settings: Settings) -> None:
    run = run_of(WAITS)
    first = launch(backend, run)
    instance = wait_for(lambda: instance_of(home_of(first, settings)))
    run.attempt_id = "fedcba9876543210" * 2
    assert backend.aggregator_find(run) is None
    second = launch(backend, run)
    assert second != first
    assert not process_runs(*instance)
    assert [found.handle for found in backend.aggregators_find()] == [second]


def test_a_cancelled_launch_starts_nothing(backend: ProcessBackend, settings: Settings) -> None:
    run = run_of(WAITS)
    context = TestContext(run)
    built = backend.build(context, PackageKind.SERVER).data
    context.unwanted = True
    with pytest.raises(StageCancelled):
        backend.launch(context, built, {}, spec_of(run))
    assert backend.aggregator_find(run) is None
    assert backend.aggregators_find() == []


def test_a_spec_that_the_supervisor_refuses_fails_with_its_sentence(backend: ProcessBackend) -> None:
    run = run_of(WAITS)
    context = TestContext(run)
    built = backend.build(context, PackageKind.SERVER).data
    with pytest.raises(Exception, match=r"^The aggregator's supervisor ended at once: .*entry"):
        backend.launch(context, built, {}, replace(spec_of(run), entry_file="../outside.py"))


def test_cleaning_removes_what_the_run_left_and_nothing_else(backend: ProcessBackend, settings: Settings) -> None:
    run = run_of("print('done')\n")
    handle = launch(backend, run)
    wait_for(lambda: not backend.aggregator_state(handle).runs)
    backend.stop_aggregator(handle)
    backend.clean(run)
    backend.clean(run)
    assert [path.name for path in Path(settings.RUNS_DIR).iterdir()] == ["packages"]


def test_an_identity_is_of_one_start_of_one_process() -> None:
    mine = process_identity(os.getpid())
    assert mine is not None
    assert process_runs(os.getpid(), mine)
    assert not process_runs(os.getpid(), "another")
    assert process_identity(2**22 + 1) is None
    assert not process_runs(None, None)
