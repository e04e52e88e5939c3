"""Every task of the worker, run once and run twice. The broker is real, the backend is not."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from configurations.models import PackageKind
from devices.broker import aggregator_credential_create
from devices.tests.mqtt import Mqtt, Refused, platform
from runs import lifecycle
from runs.models import LogLine, Run, Stage, StageName
from runs.pipeline import stages, tasks
from runs.pipeline.backends.interface import (
    InstanceState,
    StageContext,
    StageFailed,
    StageResult,
    StageTransient,
)
from runs.pipeline.supervisors import supervisor_spec
from runs.states import InstanceStatus, RunState, StageState
from runs.tests.conftest import Sent
from runs.tests.flow import Flow, flow_make, stage_pass, states_of_parts, states_of_stages, status
from runs.tests.stub_backend import StubBackend
from runs.tokens import run_token_check, run_token_make
from tests.servers import MosquittoServer

pytestmark = pytest.mark.django_db(transaction=True)

BUILD = StageName.BUILD_SERVER


def perform(run: Run, name: str = BUILD) -> Stage:
    """Do a stage's task in this process, and return the stage."""
    tasks.stage_run(run_id=run.pk, stage=name)
    return Stage.objects.get(run=run, name=name)


def log_of(run: Run, name: str = BUILD) -> list[str]:
    return list(LogLine.objects.filter(run=run, reporter=f"stage:{name}").order_by("id").values_list("line", flat=True))


def commands(listener: Mqtt) -> list[tuple[str, dict[str, Any]]]:
    """The commands that arrived since the last look."""
    assert listener.publish("edges/9999999/command", b"{}") == "Success"
    received: list[tuple[str, dict[str, Any]]] = []
    while True:
        topic, payload = listener.received.get(timeout=10)
        if topic == "edges/9999999/command":
            return received
        received.append((topic, json.loads(payload)))


def test_a_run_goes_through_its_pipeline_and_every_task_may_come_twice(
    sent: Sent, stub: StubBackend, broker: MosquittoServer
) -> None:
    flow = flow_make()
    run = flow.started()
    first, second = (device.pk for device in flow.devices)
    with platform() as listener:
        listener.subscribe("edges/+/command")
        for name in StageName:
            assert sent.pop() == ("stage_run", {"run_id": run.pk, "stage": name})
            stage = perform(run, name)
            assert (stage.state, stage.attempt, stage.reason) == (StageState.DONE, 1, "")
            before = list(sent)
            assert perform(run, name).attempt == 1
            assert sent == before
        received = commands(listener)
    run.refresh_from_db()
    assert run.state == RunState.RUNNING
    assert states_of_parts(run) == [InstanceStatus.DISPATCHED, InstanceStatus.DISPATCHED]
    assert len(stub.launched) == 1
    assert run.aggregator_handle == {"stub": run.pk}
    assert [topic for topic, _ in received] == [f"edges/{first}/command", f"edges/{second}/command"]
    package = run.client_package
    assert received[1][1] == {
        "type": "start_train",
        "command_id": f"{run.attempt_id}-{second}",
        "run_id": run.pk,
        "edge_id": second,
        "token": run_token_make(run, second),
        "package": {"url": f"/api/edge/packages/{package.sha256}", "sha256": package.sha256, "size": 1000},
        "image": None,
        "config": lifecycle.run_render(run, second).config,
        "entry": {"file": "fedml/main.py", "arguments": lifecycle.run_render(run, second).arguments},
        "data": {"private_path": "", "synthetic_url": ""},
        "limits": {"memory_mb": 4096, "cpus": 2.0, "pids": 256},
        "s3": None,
        "log_level": "INFO",
    }
    assert run_token_check(received[0][1]["token"]) == lifecycle.RunReporter(run, first)
    assert run_token_check(stub.launched[0].token) == lifecycle.RunReporter(run, 0)
    assert stub.launched[0].entry_arguments == lifecycle.run_render(run, 0).arguments


def test_devices_and_the_aggregator_are_told_of_the_object_store(
    sent: Sent, stub: StubBackend, broker: MosquittoServer, settings: Settings, tmp_path: Path
) -> None:
    settings.S3_BUCKET, settings.S3_REGION = "weights", "eu-1"
    settings.S3_ENDPOINT_URL = "https://s3.example:9000"
    settings.S3_ACCESS_KEY, settings.S3_SECRET_KEY = "key", "s3-secret"
    store = {
        "endpoint_url": "https://s3.example:9000",
        "bucket": "weights",
        "region": "eu-1",
        "access_key": "key",
        "secret_key": "s3-secret",
    }
    run = flow_make(devices=1).started()
    with platform() as listener:
        listener.subscribe("edges/+/command")
        for name in StageName:
            perform(run, name)
        ((_, command),) = commands(listener)
    assert command["s3"] == store
    assert supervisor_spec(tmp_path, stub.launched[0])["s3"] == store
    assert "s3-secret" not in str(sent) + str(list(run.stages.values())) + str(list(run.log_lines.values()))


def test_no_secret_is_in_task_arguments_logs_or_the_database(
    sent: Sent, stub: StubBackend, broker: MosquittoServer, caplog: pytest.LogCaptureFixture
) -> None:
    flow = flow_make(devices=1)
    run = flow.started()
    for name in StageName:
        perform(run, name)
    run.refresh_from_db()
    spec = stub.launched[0]
    secrets = [run_token_make(run, edge_id).rpartition("_")[2] for edge_id in (0, flow.devices[0].pk)]
    secrets.append(spec.mqtt_password)
    kept = str(sent) + caplog.text + repr(spec) + str(Run.objects.filter(pk=run.pk).values().get())
    kept += str(list(run.run_devices.values())) + str(list(run.stages.values())) + str(list(run.log_lines.values()))
    assert [secret for secret in secrets if secret in kept] == []


def test_a_stage_that_its_backend_refuses_fails_with_the_sentence(sent: Sent, stub: StubBackend) -> None:
    def refuse(context: StageContext, kind: PackageKind) -> StageResult:
        context.log("looking")
        raise StageFailed("The base image is missing. Pull it.")

    stub.work = refuse
    run = flow_make().started()
    stage = perform(run)
    assert (stage.state, stage.reason) == (StageState.FAILED, "The base image is missing. Pull it.")
    run.refresh_from_db()
    assert (run.state, run.reason) == (RunState.FAILED, "Build server image: The base image is missing. Pull it.")
    assert log_of(run) == ["looking", "The base image is missing. Pull it."]


def test_an_unexpected_error_fails_the_stage_and_not_the_worker(sent: Sent, stub: StubBackend) -> None:
    def break_down(context: StageContext, kind: PackageKind) -> StageResult:
        raise KeyError("image")

    stub.work = break_down
    stage = perform(flow_make().started())
    assert (stage.state, stage.reason) == (StageState.FAILED, "An unexpected error: KeyError: 'image'")


def test_an_error_that_passes_is_tried_again_with_growing_pauses(
    sent: Sent, stub: StubBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "FIRST_PAUSE_SECONDS", 0.01)
    failures = [StageTransient("The registry is away."), StageTransient("The registry is away.")]

    def fail_twice(context: StageContext, kind: PackageKind) -> StageResult:
        if failures:
            raise failures.pop()
        return StageResult({"image": "a"})

    stub.work = fail_twice
    run = flow_make().started()
    stage = perform(run)
    assert (stage.state, stage.attempt, stage.result) == (StageState.DONE, 1, {"image": "a"})
    assert [line[:41] for line in log_of(run)] == ["The registry is away. Trying again in 0.0"] * 2


def test_an_error_that_does_not_pass_fails_the_stage_in_the_end(
    sent: Sent, stub: StubBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "FIRST_PAUSE_SECONDS", 0.001)
    tries: list[int] = []

    def fail(context: StageContext, kind: PackageKind) -> StageResult:
        tries.append(1)
        raise StageTransient("The registry is away.")

    stub.work = fail
    stage = perform(flow_make().started())
    assert (stage.state, stage.reason, len(tries)) == (StageState.FAILED, "The registry is away.", 6)


def test_a_broker_that_is_away_fails_the_launch_with_what_to_do(
    sent: Sent, stub: StubBackend, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MQTT_PORT = 1
    monkeypatch.setattr(stages, "FIRST_PAUSE_SECONDS", 0.001)
    run = flow_make().started()
    for name in list(StageName)[:4]:
        stage_pass(run, name)
    stage = perform(run, StageName.LAUNCH)
    assert stage.state == StageState.FAILED
    assert stage.reason.startswith("The MQTT broker at 127.0.0.1:1 cannot be reached")
    assert stub.launched == []


def test_a_stage_that_takes_too_long_fails(sent: Sent, stub: StubBackend, settings: Settings) -> None:
    settings.STAGE_TIMEOUT_SECONDS = 0.2

    def linger(context: StageContext, kind: PackageKind) -> StageResult:
        while True:
            context.check()
            time.sleep(0.05)

    stub.work = linger
    stage = perform(flow_make().started())
    assert stage.state == StageState.FAILED
    assert stage.reason.startswith("It took longer than 0 seconds.")


def in_the_background(run: Run, stub: StubBackend) -> tuple[threading.Thread, threading.Event]:
    """Begin a build that goes on until it is cancelled; return its thread once it has begun."""
    begun = threading.Event()

    def linger(context: StageContext, kind: PackageKind) -> StageResult:
        context.log("begun")
        context.progress(0.5)
        begun.set()
        while not context.cancelled():
            time.sleep(0.02)
        context.check()
        raise AssertionError("check raises")

    stub.work = linger
    thread = threading.Thread(target=tasks.stage_run, kwargs={"run_id": run.pk, "stage": BUILD})
    thread.start()
    assert begun.wait(10)
    return thread, begun


def test_a_stop_cancels_the_stage_that_is_worked_on(sent: Sent, stub: StubBackend) -> None:
    flow = flow_make()
    run = flow.started()
    thread, _ = in_the_background(run, stub)
    deadline = time.monotonic() + 10
    while Stage.objects.get(run=run, name=BUILD).progress != 0.5 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert log_of(run) == ["begun"]  # live, while it works
    lifecycle.run_stop(run=run, user=flow.user)
    thread.join(10)
    run.refresh_from_db()
    assert (run.state, states_of_stages(run)[BUILD]) == (RunState.KILLED, StageState.CANCELLED)
    assert log_of(run) == ["begun", "Cancelled."]


def test_a_stage_that_another_worker_took_over_is_left_to_it(sent: Sent, stub: StubBackend) -> None:
    run = flow_make().started()
    thread, _ = in_the_background(run, stub)
    Stage.objects.filter(run=run, name=BUILD).update(claim="another")
    thread.join(10)
    stage = Stage.objects.get(run=run, name=BUILD)
    assert (stage.state, stage.claim) == (StageState.ACTIVE, "another")
    assert "Cancelled." not in log_of(run)


def test_the_heartbeat_goes_on_while_the_work_does(sent: Sent, stub: StubBackend, settings: Settings) -> None:
    settings.STAGE_HEARTBEAT_SECONDS = 1
    flow = flow_make()
    run = flow.started()
    thread, _ = in_the_background(run, stub)
    first = Stage.objects.get(run=run, name=BUILD).heartbeat_at
    time.sleep(1.5)
    lifecycle.reap()
    stage = Stage.objects.get(run=run, name=BUILD)
    lifecycle.run_stop(run=run, user=flow.user)
    thread.join(10)
    assert first is not None
    assert stage.heartbeat_at is not None
    assert stage.heartbeat_at > first
    assert stage.state == StageState.ACTIVE


def test_an_aggregator_that_is_there_already_is_not_launched_again(
    sent: Sent, stub: StubBackend, broker: MosquittoServer
) -> None:
    run = flow_make().started()
    for name in list(StageName)[:4]:
        stage_pass(run, name)
    perform(run, StageName.LAUNCH)
    # Its worker was killed after the launch and before it could say so.
    Stage.objects.filter(run=run, name=StageName.LAUNCH).update(state=StageState.PENDING, claim="")
    Stage.objects.filter(run=run, name=StageName.DISPATCH).update(state=StageState.PENDING)
    Run.objects.filter(pk=run.pk).update(aggregator_handle=None, state=RunState.STARTING)
    assert perform(run, StageName.LAUNCH).state == StageState.DONE
    run.refresh_from_db()
    assert len(stub.launched) == 1
    assert stub.watched == [{"stub": run.pk}]
    assert run.aggregator_handle == {"stub": run.pk}


def test_a_dispatch_that_was_killed_half_way_sends_the_same_commands_again(
    sent: Sent, stub: StubBackend, broker: MosquittoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = flow_make()
    run = flow.started()
    for name in list(StageName)[:5]:
        stage_pass(run, name)
    monkeypatch.setattr(stages, "COMMANDS_AT_ONCE", 1)

    class Killed(BaseException):
        """Stands for SIGKILL between the broker's answer and the row."""

    def kill(run_id: int, edge_ids: list[int]) -> None:
        raise Killed

    with platform() as listener:
        listener.subscribe("edges/+/command")
        with monkeypatch.context() as patch:
            patch.setattr(lifecycle, "dispatch_sent", kill)
            with pytest.raises(Killed):
                perform(run, StageName.DISPATCH)
        Stage.objects.filter(run=run, name=StageName.DISPATCH).update(heartbeat_at="2000-01-01T00:00:00Z")
        lifecycle.reap()
        perform(run, StageName.DISPATCH)
        received = [command for _, command in commands(listener)]
    first, second = (device.pk for device in flow.devices)
    assert [command["edge_id"] for command in received] == [first, first, second]
    assert received[0] == received[1]
    run.refresh_from_db()
    assert run.state == RunState.RUNNING


def running(flow: Flow) -> Run:
    run = flow.running()
    Run.objects.filter(pk=run.pk).update(aggregator_handle={"stub": run.pk})
    return run


def test_instances_are_stopped_and_stopping_them_twice_is_fine(
    sent: Sent, stub: StubBackend, broker: MosquittoServer
) -> None:
    flow = flow_make()
    run = running(flow)
    lifecycle.device_status_apply(run.pk, flow.devices[0].pk, status("FINISHED"))
    lifecycle.run_stop(run=run, user=flow.user)
    stub.state = InstanceState(InstanceStatus.KILLED, reason="It was stopped.")
    with platform() as listener:
        listener.subscribe("edges/+/command")
        tasks.instances_stop(run_id=run.pk)
        tasks.instances_stop(run_id=run.pk)
        received = commands(listener)
    edge_id = flow.devices[1].pk
    assert [topic for topic, _ in received] == [f"edges/{edge_id}/command"] * 2
    command = received[0][1]
    assert len(command.pop("command_id")) == 16
    assert command == {"type": "stop_train", "run_id": run.pk, "reason": f"Stopped by {flow.user}."}
    assert stub.stopped == [{"stub": run.pk}]
    run.refresh_from_db()
    assert (run.aggregator_status, run.aggregator_reason) == (InstanceStatus.KILLED, "It was stopped.")


def test_a_run_under_way_is_not_stopped_by_a_task_that_comes_late(
    sent: Sent, stub: StubBackend, broker: MosquittoServer
) -> None:
    run = running(flow_make())
    tasks.instances_stop(run_id=run.pk)
    assert stub.stopped == []
    run.refresh_from_db()
    assert run.state == RunState.RUNNING


def test_the_aggregator_is_stopped_also_while_the_broker_is_away(
    sent: Sent, stub: StubBackend, settings: Settings
) -> None:
    settings.MQTT_PORT = 1
    flow = flow_make()
    run = running(flow)
    lifecycle.run_stop(run=run, user=flow.user)
    stub.state = InstanceState(InstanceStatus.KILLED)
    with pytest.raises(Exception, match="cannot be reached"):
        tasks.instances_stop(run_id=run.pk)
    assert stub.stopped == [{"stub": run.pk}]


def test_a_device_is_told_to_end_a_run_that_was_deleted(sent: Sent, broker: MosquittoServer) -> None:
    with platform() as listener:
        listener.subscribe("edges/+/command")
        tasks.instances_stop(run_id=10_000, edge_ids=[5])
        tasks.instances_stop(run_id=10_000)
        received = commands(listener)
    assert [(topic, command["reason"]) for topic, command in received] == [("edges/5/command", "The run was deleted.")]


def test_a_lost_command_is_sent_again_and_is_the_same(sent: Sent, stub: StubBackend, broker: MosquittoServer) -> None:
    flow = flow_make()
    run = flow.running()
    edge_id = flow.devices[0].pk
    with platform() as listener:
        listener.subscribe("edges/+/command")
        tasks.devices_dispatch(run_id=run.pk, edge_ids=[edge_id])
        lifecycle.device_status_apply(run.pk, edge_id, status("INITIALIZING"))
        tasks.devices_dispatch(run_id=run.pk, edge_ids=[edge_id])  # it has answered meanwhile
        tasks.devices_dispatch(run_id=10_000, edge_ids=[edge_id])
        received = commands(listener)
    assert [command["command_id"] for _, command in received] == [f"{run.attempt_id}-{edge_id}"]
    assert received[0][1]["token"] == run_token_make(run, edge_id)
    assert states_of_parts(run) == [InstanceStatus.INITIALIZING, InstanceStatus.DISPATCHED]


def test_an_ended_run_is_cleaned_up_once(sent: Sent, stub: StubBackend, broker: MosquittoServer) -> None:
    flow = flow_make()
    run = flow.started()
    tasks.run_clean(run_id=run.pk)
    assert stub.cleaned == []
    username, password = aggregator_credential_create(run.pk)
    with Mqtt(username, password):
        pass
    lifecycle.run_stop(run=run, user=flow.user)
    tasks.run_clean(run_id=run.pk)
    tasks.run_clean(run_id=run.pk)
    assert stub.cleaned == [run.pk]
    with pytest.raises(Refused), Mqtt(username, password):
        pass
    run.refresh_from_db()
    assert run.cleaned_at is not None


def test_a_stage_of_a_run_that_was_deleted_ends_quietly(sent: Sent, stub: StubBackend) -> None:
    run = flow_make().started()

    def delete(context: StageContext, kind: PackageKind) -> StageResult:
        context.log("a line for nobody")
        Run.objects.filter(pk=run.pk).delete()
        return StageResult({})

    stub.work = delete
    tasks.stage_run(run_id=run.pk, stage=BUILD)
    tasks.stage_run(run_id=run.pk, stage=BUILD)
    assert not Stage.objects.filter(run_id=run.pk).exists()


def test_reap_and_sweep_are_tasks(sent: Sent) -> None:
    tasks.reap()
    tasks.sweep()
    assert sent == []
