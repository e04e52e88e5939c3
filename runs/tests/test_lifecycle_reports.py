"""What devices and aggregators report, applied to runs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from runs import lifecycle
from runs.models import Run, RunDevice
from runs.states import InstanceStatus, RunState
from runs.tests.conftest import Sent
from runs.tests.flow import flow_make, round_, stage_pass, states_of_parts, states_of_stages, status

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_device_goes_forward_through_its_reports(sent: Sent) -> None:
    flow = flow_make(devices=1)
    run, edge_id = flow.running(), flow.devices[0].pk
    assert run.state == RunState.RUNNING
    assert states_of_parts(run) == [InstanceStatus.DISPATCHED]
    report = status("INITIALIZING", phase="fetch", progress=0.25)
    assert lifecycle.device_status_apply(run.pk, edge_id, report) is True
    part = run.run_devices.get()
    assert (part.status, part.phase, part.progress) == (InstanceStatus.INITIALIZING, "fetch", 0.25)
    assert part.first_report_at is not None
    assert lifecycle.device_status_apply(run.pk, edge_id, status("INITIALIZING", phase="fetch", progress=0.5)) is True
    assert lifecycle.device_status_apply(run.pk, edge_id, status("TRAINING", phase="run")) is True
    part.refresh_from_db()
    assert (part.status, part.phase, part.progress) == (InstanceStatus.TRAINING, "run", None)


def test_a_repeated_or_late_report_changes_nothing(sent: Sent) -> None:
    flow = flow_make(devices=1)
    run, edge_id = flow.running(), flow.devices[0].pk
    lifecycle.device_status_apply(run.pk, edge_id, status("TRAINING", phase="run"))
    run.refresh_from_db()
    before = (run.frame_number, RunDevice.objects.filter(run=run).values().get())
    assert lifecycle.device_status_apply(run.pk, edge_id, status("TRAINING", phase="run")) is False
    assert lifecycle.device_status_apply(run.pk, edge_id, status("INITIALIZING", phase="open")) is False
    run.refresh_from_db()
    assert (run.frame_number, RunDevice.objects.filter(run=run).values().get()) == before


def test_reports_for_a_run_without_the_device_or_without_a_run_change_nothing(sent: Sent) -> None:
    flow = flow_make(devices=1)
    run = flow.running()
    assert lifecycle.device_status_apply(run.pk, 10_000, status("TRAINING")) is False
    assert lifecycle.device_status_apply(10_000, 1, status("TRAINING")) is False
    assert lifecycle.aggregator_status_apply(10_000, status("TRAINING")) is False
    assert lifecycle.round_apply(10_000, round_(0)) is False


def test_a_report_before_the_dispatch_is_one_of_an_earlier_attempt(sent: Sent) -> None:
    flow = flow_make(devices=1)
    run, edge_id = flow.started(), flow.devices[0].pk
    assert lifecycle.device_status_apply(run.pk, edge_id, status("KILLED")) is False
    assert lifecycle.aggregator_status_apply(run.pk, status("FAILED")) is False
    assert states_of_parts(run) == [InstanceStatus.IDLE]


def test_a_client_that_fails_does_not_fail_the_run_and_frees_its_device(sent: Sent) -> None:
    flow = flow_make()
    run, edge_id = flow.running(), flow.devices[0].pk
    reason = "the client ended with exit code 1: ValueError: no data"
    lifecycle.device_status_apply(run.pk, edge_id, status("FAILED", reason, exit_code=1))
    run.refresh_from_db()
    assert run.state == RunState.RUNNING
    part = run.run_devices.get(edge_id=edge_id)
    assert (part.status, part.reason, part.exit_code, part.holds_device) == (InstanceStatus.FAILED, reason, 1, False)


def test_a_run_without_any_client_left_fails_with_their_sentences(sent: Sent) -> None:
    flow = flow_make()
    run = flow.running()
    first, second = flow.devices
    lifecycle.aggregator_status_apply(run.pk, status("TRAINING"))
    lifecycle.device_status_apply(run.pk, first.pk, status("FAILED", "no data"))
    lifecycle.device_status_apply(run.pk, second.pk, status("FAILED", "no memory"))
    run.refresh_from_db()
    assert run.state == RunState.FAILED
    assert run.reason == f"No client is left. {first.name}: no data; {second.name}: no memory"
    assert run.aggregator_status == InstanceStatus.STOPPING
    assert sent[-1] == ("instances_stop", {"run_id": run.pk})


def test_the_run_finishes_once_its_aggregator_and_its_clients_have(sent: Sent) -> None:
    flow = flow_make()
    run = flow.running()
    first, second = flow.devices
    lifecycle.aggregator_status_apply(run.pk, status("TRAINING"))
    lifecycle.device_status_apply(run.pk, first.pk, status("FINISHED", exit_code=0))
    lifecycle.aggregator_status_apply(run.pk, status("FINISHED", exit_code=0))
    run.refresh_from_db()
    assert (run.state, run.reason) == (RunState.RUNNING, f"The aggregator is done. Waiting for {second.name}.")
    lifecycle.device_status_apply(run.pk, second.pk, status("FINISHED", exit_code=0))
    run.refresh_from_db()
    assert (run.state, run.reason) == (RunState.FINISHED, "")
    assert run.ended_at is not None
    assert states_of_parts(run) == [InstanceStatus.FINISHED, InstanceStatus.FINISHED]


def test_a_finished_run_says_which_clients_failed(sent: Sent) -> None:
    flow = flow_make()
    run = flow.running()
    first, second = flow.devices
    lifecycle.device_status_apply(run.pk, first.pk, status("FAILED", "no data"))
    lifecycle.device_status_apply(run.pk, second.pk, status("FINISHED"))
    lifecycle.aggregator_status_apply(run.pk, status("FINISHED"))
    run.refresh_from_db()
    assert (run.state, run.reason) == (RunState.FINISHED, f"1 of 2 clients failed: {first.name}.")


def test_clients_that_go_on_after_the_aggregator_are_stopped_after_a_grace(sent: Sent) -> None:
    flow = flow_make(devices=1)
    run, edge_id = flow.running(), flow.devices[0].pk
    lifecycle.device_status_apply(run.pk, edge_id, status("TRAINING"))
    lifecycle.aggregator_status_apply(run.pk, status("FINISHED"))
    lifecycle.reap()
    run.refresh_from_db()
    assert run.state == RunState.RUNNING
    type(run).objects.filter(pk=run.pk).update(aggregator_since=timezone.now() - timedelta(seconds=21))
    sent.clear()
    lifecycle.reap()
    run.refresh_from_db()
    assert run.state == RunState.FINISHED
    assert states_of_parts(run) == [InstanceStatus.STOPPING]
    assert sent == [("instances_stop", {"run_id": run.pk})]
    lifecycle.device_status_apply(run.pk, edge_id, status("KILLED", "stopped"))
    assert states_of_parts(run) == [InstanceStatus.KILLED]


@pytest.mark.parametrize("how", ["FAILED", "KILLED"])
def test_an_aggregator_that_does_not_finish_fails_the_run_and_stops_its_clients(sent: Sent, how: str) -> None:
    flow = flow_make()
    run = flow.running()
    lifecycle.device_status_apply(run.pk, flow.devices[0].pk, status("TRAINING"))
    lifecycle.aggregator_status_apply(run.pk, status(how, "the aggregator ended with exit code 3", exit_code=3))
    run.refresh_from_db()
    assert run.state == RunState.FAILED
    assert run.reason == "The aggregator did not finish. the aggregator ended with exit code 3"
    assert states_of_parts(run) == [InstanceStatus.STOPPING, InstanceStatus.STOPPING]
    assert ("instances_stop", {"run_id": run.pk}) in sent


def test_an_aggregator_that_fails_during_the_pipeline_cancels_what_is_left_of_it(sent: Sent) -> None:
    flow = flow_make()
    run = flow.started()
    for name in list(states_of_stages(run))[:5]:
        stage_pass(run, name)
    lifecycle.aggregator_status_apply(run.pk, status("FAILED", "it crashed"))
    run.refresh_from_db()
    assert (run.state, run.reason) == (RunState.FAILED, "The aggregator did not finish. it crashed")
    assert states_of_stages(run)["dispatch"] == "CANCELLED"
    assert states_of_parts(run) == [InstanceStatus.KILLED, InstanceStatus.KILLED]


def test_a_device_that_goes_offline_keeps_its_status_and_the_run_goes_on(sent: Sent) -> None:
    flow = flow_make()
    run, device = flow.running(), flow.devices[0]
    lifecycle.device_status_apply(run.pk, device.pk, status("TRAINING"))
    device.online, device.online_since = False, timezone.now()
    device.save()
    run.refresh_from_db()
    frame = run.frame_number
    lifecycle.device_presence_changed(device.pk)
    part = run.run_devices.get(edge_id=device.pk)
    assert (part.status, part.reason) == (
        InstanceStatus.TRAINING,
        f"offline since {device.online_since:%Y-%m-%d %H:%M:%S} UTC",
    )
    run.refresh_from_db()
    assert (run.state, run.frame_number) == (RunState.RUNNING, frame + 1)
    device.online = True
    device.save()
    lifecycle.device_presence_changed(device.pk)
    part.refresh_from_db()
    assert (part.status, part.reason) == (InstanceStatus.TRAINING, "")


def test_a_device_that_begins_after_it_was_told_to_stop_is_told_again(sent: Sent) -> None:
    flow = flow_make(devices=1)
    run, edge_id = flow.running(), flow.devices[0].pk
    lifecycle.run_stop(run=run, user=flow.user)
    sent.clear()
    assert lifecycle.device_status_apply(run.pk, edge_id, status("INITIALIZING")) is False
    assert states_of_parts(run) == [InstanceStatus.STOPPING]
    assert sent == [("instances_stop", {"run_id": run.pk, "edge_ids": [edge_id]})]


def test_a_device_that_holds_a_run_that_it_should_hold_is_left_alone(sent: Sent) -> None:
    flow = flow_make(devices=1)
    run, edge_id = flow.running(), flow.devices[0].pk
    lifecycle.device_status_apply(run.pk, edge_id, status("TRAINING"))
    sent.clear()
    lifecycle.device_runs_reconcile(edge_id, [run.pk])
    assert (sent, states_of_parts(run)) == ([], [InstanceStatus.TRAINING])


def test_a_run_that_was_deleted_is_ended_on_the_device_that_holds_it(sent: Sent) -> None:
    edge_id = flow_make(devices=1).devices[0].pk
    lifecycle.device_runs_reconcile(edge_id, [10_000])
    assert sent == [("instances_stop", {"run_id": 10_000, "edge_ids": [edge_id]})]


def missing(run: Run, edge_id: int, seconds: float = 21) -> None:
    """The device does not list the run, now and again after a while."""
    lifecycle.device_runs_reconcile(edge_id, [])
    long_ago = timezone.now() - timedelta(seconds=seconds)
    assert RunDevice.objects.exclude(missing_since=None).get(run=run, edge_id=edge_id).status
    RunDevice.objects.filter(run=run, edge_id=edge_id).update(missing_since=long_ago, since=long_ago)
    lifecycle.device_runs_reconcile(edge_id, [])


def test_a_command_that_never_arrived_is_sent_again(sent: Sent) -> None:
    flow = flow_make(devices=1)
    run, edge_id = flow.running(), flow.devices[0].pk
    sent.clear()
    missing(run, edge_id, seconds=10)
    assert sent == []  # it may still be on its way
    run.run_devices.update(missing_since=None)
    missing(run, edge_id)
    lifecycle.device_runs_reconcile(edge_id, [])
    assert sent == [("devices_dispatch", {"run_id": run.pk, "edge_ids": [edge_id]})]
    assert states_of_parts(run) == [InstanceStatus.DISPATCHED]


def test_a_client_that_its_device_has_lost_has_failed(sent: Sent) -> None:
    flow = flow_make()
    run, edge_id = flow.running(), flow.devices[0].pk
    lifecycle.device_status_apply(run.pk, edge_id, status("TRAINING"))
    missing(run, edge_id)
    part = run.run_devices.get(edge_id=edge_id)
    assert (part.status, part.reason) == (
        InstanceStatus.FAILED,
        "The device came back without this run's client; its agent was set up anew or its files were lost.",
    )


def test_a_client_whose_end_is_still_on_its_way_is_not_taken_for_lost(sent: Sent) -> None:
    flow = flow_make()
    run, edge_id = flow.running(), flow.devices[0].pk
    lifecycle.device_status_apply(run.pk, edge_id, status("TRAINING"))
    lifecycle.device_runs_reconcile(edge_id, [])
    assert lifecycle.device_status_apply(run.pk, edge_id, status("FINISHED")) is True
    lifecycle.device_runs_reconcile(edge_id, [])
    assert states_of_parts(run)[0] == InstanceStatus.FINISHED


def test_a_run_that_is_listed_again_is_not_missing_any_more(sent: Sent) -> None:
    flow = flow_make()
    run, edge_id = flow.running(), flow.devices[0].pk
    lifecycle.device_runs_reconcile(edge_id, [])
    lifecycle.device_runs_reconcile(edge_id, [run.pk])
    assert not run.run_devices.exclude(missing_since=None).exists()


def test_a_client_that_was_to_stop_and_is_not_there_any_more_has_stopped(sent: Sent) -> None:
    flow = flow_make(devices=1)
    run, edge_id = flow.running(), flow.devices[0].pk
    lifecycle.run_stop(run=run, user=flow.user)
    lifecycle.aggregator_status_apply(run.pk, status("KILLED"))
    missing(run, edge_id)
    run.refresh_from_db()
    assert (run.state, states_of_parts(run)) == (RunState.KILLED, [InstanceStatus.KILLED])


def test_rounds_only_go_forward(sent: Sent) -> None:
    run = flow_make().running()
    assert lifecycle.round_apply(run.pk, round_(-1, total=5)) is True
    assert lifecycle.round_apply(run.pk, round_(1, total=5, seconds=4.0)) is True
    assert lifecycle.round_apply(run.pk, round_(0, total=5, seconds=2.0)) is False
    assert lifecycle.round_apply(run.pk, round_(-1, total=5)) is False
    run.refresh_from_db()
    assert (run.round_index, run.total_rounds, run.running_time) == (1, 5, 4.0)


def test_a_reason_of_any_length_is_kept_short(sent: Sent) -> None:
    flow = flow_make()
    run, edge_id = flow.running(), flow.devices[0].pk
    report = status("FAILED").model_copy(update={"reason": "xy\x00" * 5000})
    lifecycle.device_status_apply(run.pk, edge_id, report)
    reason = run.run_devices.get(edge_id=edge_id).reason
    assert (len(reason), reason[:6], reason[-4:]) == (2000, "xy xy ", " ...")
