"""A real worker with real Redis, broker and processes: killed half-way, started again, and everything in between."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from configurations.models import PackageKind
from mlops_site.celery import BUILDS_QUEUE, TASKS_QUEUE, app
from runs import lifecycle
from runs.live.frames import redis_client
from runs.models import LogLine, Run, Stage, StageName
from runs.pipeline.backends.process import ProcessBackend
from runs.pipeline.heartbeat import reap_last
from runs.pipeline.processes import process_runs
from runs.pipeline.venvs import venv_digest
from runs.states import InstanceStatus, RunState, StageState
from runs.tests.flow import flow_make, package_real, states_of_stages
from runs.tests.pip_index import index_mute, pip_of, wheel_write
from runs.tests.worker import HEARTBEAT_SECONDS, Worker, wait_for
from tests.servers import MosquittoServer

pytestmark = pytest.mark.django_db(transaction=True)

REQUIREMENTS = "roundtable-hangs==1.0\n"
WAITS = "import time\nprint('aggregating', flush=True)\ntime.sleep(120)\n"


@pytest.fixture
def worker(
    redis_url: str, broker: MosquittoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Worker]]:
    """Start workers; what they and their supervisors started is ended with the test."""
    workers: list[Worker] = []

    def start(*options: str, **environment: str) -> Worker:
        options = ("--concurrency", "1", *options)
        workers.append(Worker(broker, tmp_path / "worker.log", options=options, **environment))
        return workers[-1]

    yield start
    for one in workers:
        one.end(signal.SIGKILL)
    backend = ProcessBackend()
    for found in backend.aggregators_find():
        backend.stop_aggregator(found.handle)
    shutil.rmtree(settings.RUNS_DIR, ignore_errors=True)


@pytest.fixture
def mute_index() -> Iterator[str]:
    with index_mute() as url:
        yield url


def run_with(program: str, requirements: str | None) -> tuple[Any, Run]:
    user = flow_make().user
    server = package_real(PackageKind.SERVER, user, program=program, requirements=requirements)
    flow = flow_make(devices=1, packages=(server, package_real(PackageKind.CLIENT, user)))
    return flow, flow.run()


def state_of(run: Run) -> str:
    return Run.objects.values_list("state", flat=True).get(pk=run.pk)


def test_a_worker_killed_during_a_build_is_replaced_and_the_run_goes_on_to_its_end(
    worker: Callable[..., Worker], mute_index: str, tmp_path: Path, settings: Any
) -> None:
    settings.STAGE_HEARTBEAT_SECONDS = HEARTBEAT_SECONDS
    log = tmp_path / "worker.log"
    flow, run = run_with(WAITS, REQUIREMENTS)
    target = Path(settings.VENVS_DIR) / venv_digest(REQUIREMENTS.encode())
    shutil.rmtree(target, ignore_errors=True)

    # pip waits for an index that does not answer, and the worker is killed.
    first = worker(PIP_INDEX_URL=mute_index)
    lifecycle.run_start(run=run, user=flow.user)
    wait_for((target / "bin" / "python").exists, log)
    pip = wait_for(lambda: pip_of(target), log)
    first.end(signal.SIGKILL)
    stage = Stage.objects.get(run=run, name=StageName.BUILD_SERVER)
    assert (stage.state, stage.attempt) == (StageState.ACTIVE, 1)
    assert process_runs(*pip)

    # Another one finds the requirement, and ends the pip that was left.
    wheel_write(tmp_path, "roundtable-hangs")
    worker(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    wait_for(lambda: state_of(run) == RunState.RUNNING, log, reaping=True)
    assert not process_runs(*pip)
    stages = states_of_stages(run)
    assert set(stages.values()) <= {StageState.DONE, StageState.SKIPPED}
    stage.refresh_from_db()
    assert stage.attempt == 2
    assert len(ProcessBackend().aggregators_find()) == 1
    lines = LogLine.objects.filter(run=run, reporter="stage:build_server").values_list("line", flat=True)
    assert "Successfully installed roundtable-hangs-1.0" in list(lines)

    # Nobody is at the device; stopping does not wait for it.
    flow.devices[0].online = False
    flow.devices[0].save()
    lifecycle.run_stop(run=run, user=flow.user)
    wait_for(lambda: state_of(run) == RunState.KILLED, log)
    run.refresh_from_db()
    assert run.aggregator_status == InstanceStatus.KILLED
    assert ProcessBackend().aggregators_find() == []


def test_a_worker_cancels_a_build_and_is_free_for_the_next_run(
    worker: Callable[..., Worker], mute_index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No ingest worker runs here, so that the reaper alone learns how the aggregator ended.
    monkeypatch.setattr("runs.lifecycle.reaper.AGGREGATOR_REPORT_SECONDS", 0)
    log = tmp_path / "worker.log"
    flow, run = run_with(WAITS, REQUIREMENTS)
    target = Path(settings.VENVS_DIR) / venv_digest(REQUIREMENTS.encode())
    shutil.rmtree(target, ignore_errors=True)
    worker(PIP_INDEX_URL=mute_index)
    lifecycle.run_start(run=run, user=flow.user)
    pip = wait_for(lambda: pip_of(target), log)
    lifecycle.run_stop(run=run, user=flow.user)
    wait_for(lambda: state_of(run) == RunState.KILLED, log)
    assert not process_runs(*pip)
    assert states_of_stages(run)[StageName.BUILD_SERVER] == StageState.CANCELLED

    other_flow, other = run_with("import sys\nsys.exit(4)\n", None)
    lifecycle.run_start(run=other, user=other_flow.user)
    wait_for(lambda: state_of(other) in RunState.ended(), log, reaping=True)
    other.refresh_from_db()
    assert other.state == RunState.FAILED
    assert other.reason.startswith("The aggregator did not finish. the aggregator ended with exit code 4")


def test_a_build_that_does_not_end_delays_neither_launches_nor_stops_nor_the_reaper(
    worker: Callable[..., Worker], mute_index: str, tmp_path: Path
) -> None:
    redis_client().flushdb()
    log = tmp_path / "worker.log"
    builder = worker("-Q", BUILDS_QUEUE, "-n", "builder@test", PIP_INDEX_URL=mute_index)
    worker("-Q", TASKS_QUEUE, "--pool", "threads", "-n", "worker@test")
    flow, run = run_with(WAITS, None)
    lifecycle.run_start(run=run, user=flow.user)
    wait_for(lambda: state_of(run) == RunState.RUNNING, log)

    blocked_flow, blocked = run_with(WAITS, REQUIREMENTS)
    target = Path(settings.VENVS_DIR) / venv_digest(REQUIREMENTS.encode())
    shutil.rmtree(target, ignore_errors=True)
    lifecycle.run_start(run=blocked, user=blocked_flow.user)
    wait_for(lambda: pip_of(target), log)

    flow.devices[0].online = False
    flow.devices[0].save()
    lifecycle.run_stop(run=run, user=flow.user)
    wait_for(lambda: state_of(run) == RunState.KILLED, log)
    app.send_task("runs.pipeline.tasks.reap")
    wait_for(reap_last, log)
    assert Stage.objects.get(run=blocked, name=StageName.BUILD_SERVER).state == StageState.ACTIVE
    lifecycle.run_stop(run=blocked, user=blocked_flow.user)
    wait_for(lambda: state_of(blocked) == RunState.KILLED, log)
    builder.end(signal.SIGTERM)
