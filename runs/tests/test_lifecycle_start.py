"""Starting a run."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from runs import lifecycle
from runs.lifecycle import RunRefused
from runs.models import Membership, Role, Run, RunDevice, StageName
from runs.states import RunState, StageState
from runs.tests.conftest import Sent
from runs.tests.flow import Flow, at_once, flow_make, states_of_stages

pytestmark = pytest.mark.django_db(transaction=True)


def refusal(flow: Flow, run: Run, user: User | None = None) -> str:
    """The sentence with which a start is refused; also checks that nothing happened."""
    with pytest.raises(RunRefused) as error:
        lifecycle.run_start(run=run, user=user or flow.user)
    run.refresh_from_db()
    assert (run.state, run.stages.count()) == (RunState.CREATED, 0)
    assert not run.run_devices.filter(holds_device=True).exists()
    return str(error.value)


def test_it_queues_the_run_holds_its_devices_and_sends_the_first_stage(sent: Sent) -> None:
    flow = flow_make()
    run = flow.started()
    run.refresh_from_db()
    assert (run.state, run.started_by) == (RunState.QUEUED, flow.user)
    assert run.started_at is not None
    assert len(run.attempt_id) == 32
    assert states_of_stages(run) == dict.fromkeys(StageName, StageState.PENDING)
    assert list(run.run_devices.values_list("holds_device", flat=True)) == [True, True]
    assert sent == [("stage_run", {"run_id": run.pk, "stage": "build_server"})]
    assert run.stages.get(name=StageName.BUILD_SERVER).sent_at is not None


def test_it_records_one_live_frame_for_the_change(sent: Sent) -> None:
    flow = flow_make()
    run = flow.run()
    assert run.frame_number == 0
    lifecycle.run_start(run=run, user=flow.user)
    run.refresh_from_db()
    assert run.frame_number == 1


def test_a_second_start_is_refused(sent: Sent) -> None:
    flow = flow_make()
    run = flow.started()
    with pytest.raises(RunRefused, match=r"^This run was started already\.$"):
        lifecycle.run_start(run=run, user=flow.user)
    assert len(sent) == 1


def test_viewers_and_strangers_are_refused(sent: Sent) -> None:
    flow = flow_make()
    run = flow.run()
    viewer = User.objects.create_user("viewer")
    Membership.objects.create(project=flow.project, user=viewer, role=Role.VIEWER)
    for user in (viewer, User.objects.create_user("stranger")):
        assert refusal(flow, run, user) == "Only owners and members of the project can start and stop its runs."
    assert sent == []


def test_an_offline_device_is_refused(sent: Sent) -> None:
    flow = flow_make()
    run = flow.run()
    device = flow.devices[1]
    device.online = False
    device.save()
    assert refusal(flow, run).startswith(f"{device.name} is offline since ")


def test_an_unbound_device_is_refused(sent: Sent) -> None:
    flow = flow_make()
    run = flow.run()
    device = flow.devices[0]
    device.unbound_at = timezone.now()
    device.save()
    assert refusal(flow, run) == f"{device.name} is not bound any more. Create the run anew with other devices."


def test_a_device_that_works_for_another_run_is_refused(sent: Sent) -> None:
    flow = flow_make()
    flow.started(device_ids=[flow.devices[1].pk])
    assert refusal(flow, flow.run()) == (
        f"{flow.devices[1].name} works for another run. Wait until that has ended, or stop it."
    )


def test_a_device_is_free_again_once_its_run_has_ended(sent: Sent) -> None:
    flow = flow_make()
    lifecycle.run_stop(run=flow.started(), user=flow.user)
    assert flow.started().state == RunState.QUEUED


def test_a_queue_that_is_away_does_not_keep_a_run_from_being_queued() -> None:
    run = flow_make().started()
    run.refresh_from_db()
    assert run.state == RunState.QUEUED


def test_of_two_runs_started_at_the_same_moment_for_one_device_exactly_one_wins(sent: Sent) -> None:
    flow = flow_make(devices=3)
    a, b, c = (device.pk for device in flow.devices)
    for _ in range(5):
        runs = [flow.run(device_ids=[a, b]), flow.run(device_ids=[c, b])]
        refusals = at_once([lambda run=run: lifecycle.run_start(run=run, user=flow.user) for run in runs])  # type: ignore[misc]
        assert len(refusals) == 1
        assert sorted(Run.objects.filter(pk__in=[run.pk for run in runs]).values_list("state", flat=True)) == [
            RunState.CREATED,
            RunState.QUEUED,
        ]
        assert RunDevice.objects.filter(holds_device=True).count() == 2
        winner = Run.objects.get(state=RunState.QUEUED, pk__in=[run.pk for run in runs])
        lifecycle.run_stop(run=winner, user=flow.user)


def test_a_run_started_twice_at_the_same_moment_starts_once(sent: Sent) -> None:
    flow = flow_make()
    run = flow.run()
    refusals = at_once([lambda: lifecycle.run_start(run=run, user=flow.user)] * 4)
    assert refusals == ["This run was started already."] * 3
    assert sent == [("stage_run", {"run_id": run.pk, "stage": "build_server"})]
