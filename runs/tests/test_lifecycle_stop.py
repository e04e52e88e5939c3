"""Stopping a run, wherever it is."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from runs import lifecycle
from runs.lifecycle import RunRefused, StageStanding
from runs.models import Run, StageName
from runs.pipeline.backends.interface import InstanceState
from runs.states import InstanceStatus, RunState, StageState
from runs.tests.conftest import Sent
from runs.tests.flow import flow_make, stage_pass, states_of_parts, states_of_stages, status

pytestmark = pytest.mark.django_db(transaction=True)

STAGES = list(StageName)
OFFLINE = "offline; it will be told to stop when it returns"


def test_a_run_that_was_not_started_cannot_be_stopped(sent: Sent) -> None:
    flow = flow_make()
    with pytest.raises(RunRefused, match=r"^This run was not started, so that there is nothing to stop\.$"):
        lifecycle.run_stop(run=flow.run(), user=flow.user)


def test_a_run_that_has_ended_cannot_be_stopped(sent: Sent) -> None:
    flow = flow_make()
    run = lifecycle.run_stop(run=flow.started(), user=flow.user)
    with pytest.raises(RunRefused, match=r"^This run has ended already\.$"):
        lifecycle.run_stop(run=run, user=flow.user)


def test_a_stranger_cannot_stop_a_run(sent: Sent) -> None:
    flow = flow_make()
    run = flow.started()
    with pytest.raises(RunRefused):
        lifecycle.run_stop(run=run, user=User.objects.create_user("stranger"))
    run.refresh_from_db()
    assert run.state == RunState.QUEUED


@pytest.mark.parametrize("passed", range(5))
def test_between_stages_it_ends_at_once_when_nothing_was_launched(sent: Sent, passed: int) -> None:
    flow = flow_make()
    run = flow.started()
    for name in STAGES[: min(passed, 4)]:
        stage_pass(run, name)
    run = lifecycle.run_stop(run=run, user=flow.user)
    assert (run.state, run.reason) == (RunState.KILLED, f"Stopped by {flow.user}.")
    assert set(states_of_stages(run).values()) <= {StageState.DONE, StageState.CANCELLED}
    assert states_of_parts(run) == [InstanceStatus.KILLED, InstanceStatus.KILLED]
    assert (run.aggregator_status, run.aggregator_reason) == (InstanceStatus.KILLED, "It was not started.")
    assert not run.run_devices.filter(holds_device=True).exists()


@pytest.mark.parametrize("active", STAGES)
def test_it_waits_for_the_worker_of_the_stage_that_is_active(sent: Sent, active: StageName) -> None:
    flow = flow_make()
    run = flow.started()
    for name in STAGES[: STAGES.index(active)]:
        stage_pass(run, name)
    stage = lifecycle.stage_claim(run_id=run.pk, name=active, claim="mine")
    assert stage is not None
    assert lifecycle.stage_standing(stage_id=stage.pk, claim="mine") is StageStanding.WANTED
    run = lifecycle.run_stop(run=run, user=flow.user, reason="Stopped for lunch.")
    assert (run.state, run.reason) == (RunState.STOPPING, "Stopped for lunch.")
    assert lifecycle.stage_standing(stage_id=stage.pk, claim="mine") is StageStanding.STOPPED
    assert lifecycle.stage_heartbeat(stage_id=stage.pk, claim="mine") is StageStanding.STOPPED
    assert states_of_stages(run)[active] == StageState.ACTIVE
    assert lifecycle.stage_cancelled(stage_id=stage.pk, claim="mine") is True
    assert lifecycle.stage_cancelled(stage_id=stage.pk, claim="mine") is False
    assert states_of_stages(run)[active] == StageState.CANCELLED
    lifecycle.aggregator_absent(run.pk)
    run.refresh_from_db()
    assert run.state == RunState.KILLED


def test_a_stage_that_is_done_at_the_moment_of_the_stop_is_cancelled_and_starts_no_other(sent: Sent) -> None:
    flow = flow_make()
    run = flow.started()
    stage = lifecycle.stage_claim(run_id=run.pk, name=StageName.BUILD_SERVER, claim="mine")
    assert stage is not None
    lifecycle.run_stop(run=run, user=flow.user)
    sent.clear()
    assert lifecycle.stage_done(stage_id=stage.pk, claim="mine", result={}) is True
    run.refresh_from_db()
    assert run.state == RunState.KILLED
    assert states_of_stages(run)[StageName.BUILD_SERVER] == StageState.CANCELLED
    assert [name for name, _ in sent] == ["instances_stop"]
    assert lifecycle.stage_claim(run_id=run.pk, name=StageName.PUSH_SERVER, claim="x") is None


def test_a_running_run_waits_for_its_aggregator_and_every_online_device(sent: Sent) -> None:
    flow = flow_make()
    first, second = (device.pk for device in flow.devices)
    run = flow.running()
    lifecycle.device_status_apply(run.pk, first, status("TRAINING"))
    sent.clear()
    run = lifecycle.run_stop(run=run, user=flow.user)
    assert run.state == RunState.STOPPING
    assert states_of_parts(run) == [InstanceStatus.STOPPING, InstanceStatus.STOPPING]
    assert run.aggregator_status == InstanceStatus.STOPPING
    assert sent == [("instances_stop", {"run_id": run.pk})]
    lifecycle.device_status_apply(run.pk, first, status("KILLED", "stopped"))
    lifecycle.aggregator_status_apply(run.pk, status("KILLED"))
    run.refresh_from_db()
    assert run.state == RunState.STOPPING
    lifecycle.device_status_apply(run.pk, second, status("KILLED", "stopped"))
    run.refresh_from_db()
    assert (run.state, run.reason) == (RunState.KILLED, f"Stopped by {flow.user}.")


def test_stopping_twice_changes_nothing(sent: Sent) -> None:
    flow = flow_make()
    run = flow.running()
    lifecycle.run_stop(run=run, user=flow.user, reason="Once.")
    sent.clear()
    assert lifecycle.run_stop(run=run, user=flow.user, reason="Twice.").reason == "Once."
    assert sent == []


def test_an_offline_device_is_not_waited_for_and_the_page_says_so(sent: Sent) -> None:
    flow = flow_make()
    run = flow.running()
    away = flow.devices[1]
    away.online = False
    away.save()
    lifecycle.device_presence_changed(away.pk)
    assert run.run_devices.get(edge_id=away.pk).reason.startswith("offline since ")
    run = lifecycle.run_stop(run=run, user=flow.user)
    assert list(run.run_devices.values_list("status", "reason")) == [
        (InstanceStatus.STOPPING, f"Stopped by {flow.user}."),
        (InstanceStatus.STOPPING, OFFLINE),
    ]
    lifecycle.device_status_apply(run.pk, flow.devices[0].pk, status("KILLED"))
    lifecycle.aggregator_state_apply(run.pk, InstanceState(InstanceStatus.KILLED, reason="It was stopped."))
    run.refresh_from_db()
    assert run.state == RunState.KILLED
    assert run.reason == f"Stopped by {flow.user}. Offline, to be told to stop on return: {away.name}."
    assert run.run_devices.get(edge_id=away.pk).status == InstanceStatus.STOPPING


def test_a_device_that_returns_after_the_end_is_told_to_stop_and_then_reports(sent: Sent) -> None:
    flow = flow_make(devices=1)
    device = flow.devices[0]
    run = flow.running()
    device.online = False
    device.save()
    lifecycle.device_presence_changed(device.pk)
    lifecycle.run_stop(run=run, user=flow.user)
    lifecycle.aggregator_state_apply(run.pk, InstanceState(InstanceStatus.KILLED))
    run.refresh_from_db()
    assert run.state == RunState.KILLED
    sent.clear()
    device.online = True
    device.save()
    lifecycle.device_presence_changed(device.pk)
    assert run.run_devices.get().reason == "It was told to stop."
    lifecycle.device_runs_reconcile(device.pk, [run.pk])
    assert sent == [("instances_stop", {"run_id": run.pk, "edge_ids": [device.pk]})]
    assert lifecycle.device_status_apply(run.pk, device.pk, status("KILLED", "stopped")) is True
    assert states_of_parts(run) == [InstanceStatus.KILLED]


def test_a_device_that_goes_offline_while_it_is_waited_for_is_not_waited_for_any_longer(sent: Sent) -> None:
    flow = flow_make(devices=1)
    run = flow.running()
    lifecycle.run_stop(run=run, user=flow.user)
    lifecycle.aggregator_status_apply(run.pk, status("KILLED"))
    run.refresh_from_db()
    assert run.state == RunState.STOPPING
    flow.devices[0].online = False
    flow.devices[0].save()
    lifecycle.device_presence_changed(flow.devices[0].pk)
    run.refresh_from_db()
    assert run.state == RunState.KILLED


def test_after_a_time_it_ends_and_names_who_did_not_answer(sent: Sent) -> None:
    flow = flow_make()
    run = flow.running()
    lifecycle.device_status_apply(run.pk, flow.devices[0].pk, status("FINISHED"))
    lifecycle.run_stop(run=run, user=flow.user)
    lifecycle.reap()
    run.refresh_from_db()
    assert run.state == RunState.STOPPING
    Run.objects.filter(pk=run.pk).update(state_since=timezone.now() - timedelta(seconds=61))
    lifecycle.reap()
    run.refresh_from_db()
    assert run.state == RunState.KILLED
    assert run.reason == (
        f"Stopped by {flow.user}. No answer within 60 seconds: the aggregator, {flow.devices[1].name}."
    )


def test_the_task_that_stops_things_is_sent_again_when_it_was_lost(sent: Sent) -> None:
    flow = flow_make()
    run = flow.running()
    lifecycle.run_stop(run=run, user=flow.user)
    sent.clear()
    lifecycle.reap()
    assert sent == []
    Run.objects.filter(pk=run.pk).update(stop_sent_at=timezone.now() - timedelta(seconds=16))
    lifecycle.reap()
    lifecycle.reap()
    assert sent == [("instances_stop", {"run_id": run.pk})]
