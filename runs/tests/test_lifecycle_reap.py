"""What was orphaned is found, gone on with or ended, and says why."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.utils import timezone

from runs import lifecycle
from runs.lifecycle import reaper
from runs.models import Receipt, Run, Stage, StageName
from runs.pipeline.backends.interface import FoundAggregator, InstanceState
from runs.states import InstanceStatus, RunState, StageState
from runs.tests.conftest import Sent
from runs.tests.flow import flow_make, states_of_parts, status
from runs.tests.stub_backend import StubBackend

pytestmark = pytest.mark.django_db(transaction=True)

FIRST = StageName.BUILD_SERVER


def ago(seconds: float) -> object:
    return timezone.now() - timedelta(seconds=seconds)


def test_a_stage_whose_worker_was_lost_is_taken_up_again(sent: Sent) -> None:
    run = flow_make().started()
    lifecycle.stage_claim(run_id=run.pk, name=FIRST, claim="lost")
    sent.clear()
    lifecycle.reap()
    assert sent == []
    Stage.objects.filter(run=run, name=FIRST).update(heartbeat_at=ago(31))
    lifecycle.reap()
    lifecycle.reap()
    stage = Stage.objects.get(run=run, name=FIRST)
    assert (stage.state, stage.claim) == (StageState.PENDING, "")
    assert stage.reason == "Its worker was lost. Taken up again, attempt 2 of 3."
    assert sent == [("stage_run", {"run_id": run.pk, "stage": "build_server"})]


def test_a_worker_that_comes_back_after_it_was_given_up_changes_nothing(sent: Sent) -> None:
    run = flow_make().started()
    stage = lifecycle.stage_claim(run_id=run.pk, name=FIRST, claim="lost")
    assert stage is not None
    Stage.objects.filter(pk=stage.pk).update(heartbeat_at=ago(31))
    lifecycle.reap()
    assert lifecycle.stage_done(stage_id=stage.pk, claim="lost", result={}) is False
    assert lifecycle.stage_claim(run_id=run.pk, name=FIRST, claim="new") is not None
    assert lifecycle.stage_done(stage_id=stage.pk, claim="lost", result={}) is False
    assert lifecycle.stage_done(stage_id=stage.pk, claim="new", result={}) is True


def test_a_stage_whose_worker_is_lost_again_and_again_fails(sent: Sent) -> None:
    run = flow_make().started()
    for attempt in range(3):
        assert lifecycle.stage_claim(run_id=run.pk, name=FIRST, claim=f"lost-{attempt}") is not None
        Stage.objects.filter(run=run, name=FIRST).update(heartbeat_at=ago(31))
        lifecycle.reap()
    run.refresh_from_db()
    assert run.state == RunState.FAILED
    assert run.reason.startswith("Build server image: Its worker was lost 3 times in a row")


def test_a_lost_stage_of_a_stopping_run_is_cancelled(sent: Sent) -> None:
    flow = flow_make()
    run = flow.started()
    lifecycle.stage_claim(run_id=run.pk, name=FIRST, claim="lost")
    lifecycle.run_stop(run=run, user=flow.user)
    Stage.objects.filter(run=run, name=FIRST).update(heartbeat_at=ago(31))
    lifecycle.reap()
    run.refresh_from_db()
    assert (run.state, run.stages.get(name=FIRST).state) == (RunState.KILLED, StageState.CANCELLED)


def test_a_stage_that_was_never_sent_is_sent(sent: Sent) -> None:
    run = flow_make().started()
    sent.clear()
    lifecycle.reap()
    assert sent == []
    Stage.objects.filter(run=run, name=FIRST).update(sent_at=ago(31))
    lifecycle.reap()
    lifecycle.reap()
    assert sent == [("stage_run", {"run_id": run.pk, "stage": "build_server"})]


def test_aggregators_that_run_are_watched(sent: Sent, stub: StubBackend) -> None:
    run = flow_make().running()
    lifecycle.reap()
    assert stub.watched == [run.aggregator_handle]
    assert run.state == RunState.RUNNING


@pytest.mark.parametrize(
    ("ended", "state", "reason"),
    [
        (InstanceStatus.FAILED, RunState.FAILED, "The aggregator did not finish. It is gone."),
        (InstanceStatus.FINISHED, RunState.RUNNING, "The aggregator is done. Waiting for "),
    ],
)
def test_an_aggregator_that_ended_without_a_word_ends_its_run(
    sent: Sent, stub: StubBackend, ended: InstanceStatus, state: RunState, reason: str
) -> None:
    run = flow_make(devices=1).running()
    stub.state = InstanceState(ended, reason="It is gone.", ended_at=time.time())
    lifecycle.reap()
    run.refresh_from_db()
    assert run.state == RunState.RUNNING  # its own report may be on its way
    stub.state = InstanceState(ended, reason="It is gone.", ended_at=time.time() - 11)
    lifecycle.reap()
    run.refresh_from_db()
    assert run.state == state
    assert run.reason.startswith(reason)
    assert (run.aggregator_status, run.aggregator_reason) == (ended, "It is gone.")


def test_a_backend_that_breaks_for_one_run_does_not_keep_others_waiting(
    sent: Sent, stub: StubBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, run = flow_make().running(), flow_make().started()
    Run.objects.filter(pk=broken.pk).update(backend="gone")
    Stage.objects.filter(run=run).update(sent_at=ago(31))
    sent.clear()
    lifecycle.reap()
    assert sent == [("stage_run", {"run_id": run.pk, "stage": "build_server"})]


def test_a_device_that_fell_silent_is_offline_in_its_runs(sent: Sent) -> None:
    flow = flow_make()
    run, device = flow.running(), flow.devices[0]
    device.last_seen_at = timezone.now() - timedelta(seconds=91)
    device.save()
    lifecycle.reap()
    device.refresh_from_db()
    assert device.online is False
    assert run.run_devices.get(edge_id=device.pk).reason.startswith("offline since ")


def test_what_an_ended_run_still_has_running_is_told_again_to_stop(sent: Sent) -> None:
    flow = flow_make()
    run = flow.running()
    lifecycle.aggregator_status_apply(run.pk, status("FAILED"))
    assert states_of_parts(run) == [InstanceStatus.STOPPING, InstanceStatus.STOPPING]
    sent.clear()
    lifecycle.sweep()
    assert sent == []
    Run.objects.filter(pk=run.pk).update(stop_sent_at=ago(16))
    lifecycle.sweep()
    assert sent == [("instances_stop", {"run_id": run.pk})]


def test_runs_are_cleaned_up_a_while_after_their_end(sent: Sent) -> None:
    flow = flow_make()
    run = lifecycle.run_stop(run=flow.started(), user=flow.user)
    sent.clear()
    lifecycle.sweep()
    assert sent == []
    Run.objects.filter(pk=run.pk).update(ended_at=ago(121))
    lifecycle.sweep()
    assert sent == [("run_clean", {"run_id": run.pk})]


def test_receipts_go_an_hour_after_the_end(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaper, "RECEIPTS_AT_ONCE", 2)
    flow = flow_make()
    ended = lifecycle.run_stop(run=flow.started(), user=flow.user)
    running = flow.running()
    for run in (ended, running):
        for seq in range(1, 6):
            Receipt.objects.create(run=run, edge_id=1, instance="a", seq=seq, topic="metrics")
    lifecycle.sweep()
    assert Receipt.objects.count() == 10
    Run.objects.filter(pk=ended.pk).update(ended_at=ago(3601))
    lifecycle.sweep()
    assert list(Receipt.objects.values_list("run_id", flat=True)) == [running.pk] * 5


def test_aggregators_of_ended_and_unknown_runs_are_stopped(sent: Sent, stub: StubBackend) -> None:
    flow = flow_make()
    ended = lifecycle.run_stop(run=flow.started(), user=flow.user)
    running = flow.running()
    stub.found = [FoundAggregator(run_id, {"stub": run_id}) for run_id in (ended.pk, running.pk, 10_000)]
    lifecycle.sweep()
    assert stub.stopped == [{"stub": 10_000}]
    Run.objects.filter(pk=ended.pk).update(ended_at=ago(61))
    stub.stopped.clear()
    lifecycle.sweep()
    assert sorted(stub.stopped, key=lambda handle: int(handle["stub"])) == [{"stub": ended.pk}, {"stub": 10_000}]


def test_the_part_of_an_unbound_device_ends_and_the_run_goes_on_with_the_others(sent: Sent) -> None:
    flow = flow_make(devices=2)
    run = flow.running()
    for device in flow.devices:
        lifecycle.device_status_apply(run.pk, device.pk, status("TRAINING"))
    gone = flow.devices[0]
    gone.unbound_at, gone.online = timezone.now(), False
    gone.save()
    lifecycle.reap()
    lifecycle.reap()
    part = run.run_devices.get(edge_id=gone.pk)
    assert (part.status, part.reason) == (InstanceStatus.FAILED, "The device was unbound.")
    run.refresh_from_db()
    assert (run.state, states_of_parts(run)) == (RunState.RUNNING, [InstanceStatus.FAILED, InstanceStatus.TRAINING])


def test_a_run_that_stops_does_not_wait_for_an_unbound_device(sent: Sent) -> None:
    flow = flow_make(devices=1)
    run = flow.running()
    lifecycle.device_status_apply(run.pk, flow.devices[0].pk, status("TRAINING"))
    lifecycle.run_stop(run=run, user=flow.user)
    flow.devices[0].unbound_at = timezone.now()
    flow.devices[0].save()
    lifecycle.reap()
    part = run.run_devices.get()
    assert (part.status, part.reason) == (InstanceStatus.KILLED, "The device was unbound.")
