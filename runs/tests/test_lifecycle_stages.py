"""Claiming, doing and retrying the stages of a run's pipeline."""

from __future__ import annotations

import pytest

from runs import lifecycle
from runs.lifecycle import RunRefused, StageStanding
from runs.models import Run, Stage, StageName
from runs.states import InstanceStatus, RunState, StageState
from runs.tests.conftest import Sent
from runs.tests.flow import at_once, flow_make, stage_pass, states_of_parts, states_of_stages, status

pytestmark = pytest.mark.django_db(transaction=True)

FIRST = StageName.BUILD_SERVER


def claimed(run: Run, name: str = FIRST, claim: str = "mine") -> Stage:
    stage = lifecycle.stage_claim(run_id=run.pk, name=name, claim=claim)
    assert stage is not None
    return stage


def test_the_first_claim_brings_the_run_to_starting(sent: Sent) -> None:
    run = flow_make().started()
    stage = claimed(run)
    run.refresh_from_db()
    assert run.state == RunState.STARTING
    assert (stage.state, stage.claim, stage.attempt, stage.run) == (StageState.ACTIVE, "mine", 1, run)
    assert stage.started_at is not None
    assert stage.heartbeat_at is not None


def test_a_stage_is_claimed_once(sent: Sent) -> None:
    run = flow_make().started()
    claims: list[Stage | None] = []
    at_once([lambda: claims.append(lifecycle.stage_claim(run_id=run.pk, name=FIRST, claim="x")) for _ in range(4)])
    assert sum(claim is not None for claim in claims) == 1
    assert Stage.objects.get(run=run, name=FIRST).attempt == 1


def test_a_stage_waits_for_those_before_it(sent: Sent) -> None:
    run = flow_make().started()
    assert lifecycle.stage_claim(run_id=run.pk, name=StageName.PUSH_SERVER, claim="x") is None
    claimed(run)
    assert lifecycle.stage_claim(run_id=run.pk, name=StageName.PUSH_SERVER, claim="x") is None


def test_a_stage_of_no_run_is_not_there(sent: Sent) -> None:
    run = flow_make().run()
    assert lifecycle.stage_claim(run_id=run.pk, name=FIRST, claim="x") is None
    assert lifecycle.stage_claim(run_id=10_000, name=FIRST, claim="x") is None


def test_a_stage_that_is_done_sends_the_next_and_keeps_its_result(sent: Sent) -> None:
    run = flow_make().started()
    stage = claimed(run)
    sent.clear()
    assert lifecycle.stage_done(stage_id=stage.pk, claim="mine", result={"image": "a"}) is True
    stage.refresh_from_db()
    assert (stage.state, stage.result, stage.progress) == (StageState.DONE, {"image": "a"}, 1.0)
    assert stage.ended_at is not None
    assert sent == [("stage_run", {"run_id": run.pk, "stage": "push_server"})]
    assert lifecycle.stage_done(stage_id=stage.pk, claim="mine", result={}) is False
    assert len(sent) == 1


@pytest.mark.parametrize(
    ("unchanged", "reason"),
    [
        ("unchanged: this package was built before", "This package was built before"),
        ("built before", "Built before"),
        ("unchanged: sha256:5f2c", "sha256:5f2c"),
    ],
)
def test_a_stage_with_nothing_to_do_is_skipped_and_says_why(sent: Sent, unchanged: str, reason: str) -> None:
    run = flow_make().started()
    stage = claimed(run)
    lifecycle.stage_done(stage_id=stage.pk, claim="mine", result={}, unchanged=unchanged)
    stage.refresh_from_db()
    assert (stage.state, stage.reason) == (StageState.SKIPPED, reason)
    assert claimed(run, StageName.PUSH_SERVER).state == StageState.ACTIVE


def test_only_the_holder_of_the_claim_may_end_or_advance_a_stage(sent: Sent) -> None:
    run = flow_make().started()
    stage = claimed(run)
    assert lifecycle.stage_done(stage_id=stage.pk, claim="other", result={}) is False
    assert lifecycle.stage_fail(stage_id=stage.pk, claim="other", reason="no") is False
    assert lifecycle.stage_cancelled(stage_id=stage.pk, claim="other") is False
    assert lifecycle.stage_progress(stage_id=stage.pk, claim="other", progress=0.5) is False
    assert lifecycle.stage_heartbeat(stage_id=stage.pk, claim="other") is StageStanding.LOST
    stage.refresh_from_db()
    assert (stage.state, stage.progress) == (StageState.ACTIVE, None)
    assert lifecycle.stage_progress(stage_id=stage.pk, claim="mine", progress=0.5) is True
    stage.refresh_from_db()
    assert stage.progress == 0.5


def test_after_the_last_stage_the_run_is_running(sent: Sent) -> None:
    run = flow_make().running()
    assert run.state == RunState.RUNNING
    assert set(states_of_stages(run).values()) == {StageState.DONE}


def test_a_stage_that_fails_fails_the_run_and_cancels_the_rest(sent: Sent) -> None:
    run = flow_make().started()
    stage = claimed(run)
    assert lifecycle.stage_fail(stage_id=stage.pk, claim="mine", reason="The base image is missing.") is True
    assert lifecycle.stage_fail(stage_id=stage.pk, claim="mine", reason="Again.") is False
    run.refresh_from_db()
    assert (run.state, run.reason) == (RunState.FAILED, "Build server image: The base image is missing.")
    states = states_of_stages(run)
    assert states.pop(FIRST) == StageState.FAILED
    assert set(states.values()) == {StageState.CANCELLED}
    assert states_of_parts(run) == [InstanceStatus.KILLED, InstanceStatus.KILLED]


def test_a_failed_stage_can_be_tried_again(sent: Sent) -> None:
    flow = flow_make()
    run = flow.started()
    stage_pass(run, FIRST)
    stage = claimed(run, StageName.PUSH_SERVER)
    lifecycle.stage_fail(stage_id=stage.pk, claim="mine", reason="The registry is away.")
    first_attempt = run.attempt_id
    sent.clear()
    run = lifecycle.stage_retry(stage=stage, user=flow.user)
    assert (run.state, run.ended_at, run.reason) == (RunState.STARTING, None, f"Tried again by {flow.user}.")
    assert run.attempt_id != first_attempt
    assert sent == [("stage_run", {"run_id": run.pk, "stage": "push_server"})]
    states = states_of_stages(run)
    assert states.pop(FIRST) == StageState.DONE
    assert set(states.values()) == {StageState.PENDING}
    assert states_of_parts(run) == [InstanceStatus.IDLE, InstanceStatus.IDLE]
    assert list(run.run_devices.values_list("holds_device", "token_hash")) == [(True, ""), (True, "")]
    assert claimed(run, StageName.PUSH_SERVER).attempt == 1


def test_after_a_failed_dispatch_the_aggregator_is_launched_anew(sent: Sent) -> None:
    flow = flow_make()
    run = flow.started()
    for name in list(StageName)[:5]:
        stage_pass(run, name)
    stage = claimed(run, StageName.DISPATCH)
    lifecycle.stage_fail(stage_id=stage.pk, claim="mine", reason="The broker is away.")
    with pytest.raises(RunRefused, match=r"^Still stopping: the aggregator\. Try again in a moment\.$"):
        lifecycle.stage_retry(stage=stage, user=flow.user)
    lifecycle.aggregator_status_apply(run.pk, status("KILLED"))
    run = lifecycle.stage_retry(stage=stage, user=flow.user)
    states = states_of_stages(run)
    assert (states[StageName.PUSH_CLIENT], states[StageName.LAUNCH]) == (StageState.DONE, StageState.PENDING)
    assert (run.aggregator_status, run.aggregator_handle, run.aggregator_token_hash) == (InstanceStatus.IDLE, None, "")
    assert sent[-1] == ("stage_run", {"run_id": run.pk, "stage": "launch"})


def test_only_failed_stages_of_failed_runs_can_be_tried_again(sent: Sent) -> None:
    flow = flow_make()
    run = flow.started()
    stage = claimed(run)
    with pytest.raises(RunRefused, match="Only a failed stage of a failed run can be tried again"):
        lifecycle.stage_retry(stage=stage, user=flow.user)
    lifecycle.stage_fail(stage_id=stage.pk, claim="mine", reason="no")
    with pytest.raises(RunRefused, match="Only a failed stage of a failed run can be tried again"):
        lifecycle.stage_retry(stage=run.stages.get(name=StageName.LAUNCH), user=flow.user)


def test_a_stage_is_not_tried_again_while_its_device_works_for_another_run(sent: Sent) -> None:
    flow = flow_make()
    run = flow.started()
    stage = claimed(run)
    lifecycle.stage_fail(stage_id=stage.pk, claim="mine", reason="no")
    flow.started(device_ids=[flow.devices[0].pk])
    with pytest.raises(RunRefused, match="works for another run"):
        lifecycle.stage_retry(stage=stage, user=flow.user)
    run.refresh_from_db()
    assert run.state == RunState.FAILED
