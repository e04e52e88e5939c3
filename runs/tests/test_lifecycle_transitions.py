"""Whatever happens in whatever order, states only change as the tables say."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db.models import Q
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runs import lifecycle
from runs.lifecycle import RunRefused
from runs.lifecycle.transitions import INSTANCE_TRANSITIONS, RUN_TRANSITIONS, STAGE_TRANSITIONS, sources
from runs.models import Run, RunDevice, Stage, StageName
from runs.pipeline.backends.interface import InstanceState
from runs.states import InstanceStatus, RunState, StageState
from runs.tests.conftest import Sent
from runs.tests.flow import Flow, flow_make, round_, status

REPORTS = ["INITIALIZING", "TRAINING", "STOPPING", "FINISHED", "FAILED", "KILLED"]


def test_every_state_has_its_line_in_its_table() -> None:
    assert set(RUN_TRANSITIONS) == set(RunState)
    assert set(STAGE_TRANSITIONS) == set(StageState)
    assert set(INSTANCE_TRANSITIONS) == set(InstanceStatus)


def test_only_a_failed_run_can_go_on() -> None:
    assert {state for state in RunState.ended() if RUN_TRANSITIONS[state]} == {RunState.FAILED}


def test_sources_are_the_states_that_a_state_may_follow() -> None:
    assert sources(RUN_TRANSITIONS, RunState.KILLED) == [RunState.STOPPING]
    assert sources(INSTANCE_TRANSITIONS, InstanceStatus.DISPATCHED) == [InstanceStatus.IDLE]


# One event: what happens, and to which stage or device.
EVENTS = st.one_of(
    st.tuples(st.sampled_from(["start", "next", "next", "next", "next"]), st.just(""), st.just(0)),
    st.tuples(st.sampled_from(["stop", "reap", "grace", "lost", "absent", "break"]), st.just(""), st.just(0)),
    st.tuples(st.sampled_from(["pass", "fail", "claim", "cancel", "retry"]), st.sampled_from(StageName), st.just(0)),
    st.tuples(st.just("device"), st.sampled_from(REPORTS), st.integers(0, 1)),
    st.tuples(st.just("aggregator"), st.sampled_from(REPORTS), st.just(0)),
    st.tuples(st.sampled_from(["offline", "online", "holds", "empty"]), st.just(""), st.integers(0, 1)),
)


@pytest.mark.django_db
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(passed=st.integers(0, 6), events=st.lists(EVENTS, min_size=3, max_size=40))
def test_random_events_never_leave_the_tables(sent: Sent, passed: int, events: list[tuple[str, str, int]]) -> None:
    world = _World()
    for what in ["start", *["next"] * passed] if passed else []:
        world.happen(what, "", 0)
    before = world.states()
    for event in events:
        world.happen(*event)
        after = world.states()
        for kind, key in after:
            old, new = before.get((kind, key)), after[kind, key]
            if old is not None and old != new:
                assert _reachable(kind, old, new), f"{kind} {key}: {old} -> {new} by {event}"
        world.check()
        before = after


def _reachable(kind: str, old: str, new: str) -> bool:
    """One event may take several steps at once."""
    table: dict[str, frozenset[str]] = {
        "run": RUN_TRANSITIONS, "stage": STAGE_TRANSITIONS, "device": INSTANCE_TRANSITIONS,
        "aggregator": INSTANCE_TRANSITIONS,
    }[kind]  # type: ignore[assignment]  # fmt: skip
    seen, frontier = {old}, {old}
    for _ in range(2):
        frontier = {target for state in frontier for target in table[state]} - seen
        seen |= frontier
    return new in seen


class _World:
    """A run to which things happen."""

    def __init__(self) -> None:
        self.flow: Flow = flow_make()
        self.run = self.flow.run()
        self.claims = 0

    def states(self) -> dict[tuple[str, object], str]:
        run = Run.objects.get(pk=self.run.pk)
        states: dict[tuple[str, object], str] = {("run", 0): run.state, ("aggregator", 0): run.aggregator_status}
        states |= {("stage", stage.name): stage.state for stage in run.stages.all()}
        return states | {("device", part.edge_id): part.status for part in run.run_devices.all()}

    def happen(self, what: str, which: str, device: int) -> None:
        edge_id = self.flow.devices[device].pk
        run = Run.objects.get(pk=self.run.pk)
        actions: dict[str, Callable[[], object]] = {
            "start": lambda: lifecycle.run_start(run=run, user=self.flow.user),
            "stop": lambda: lifecycle.run_stop(run=run, user=self.flow.user),
            "reap": lifecycle.reap,
            "grace": lambda: Run.objects.filter(pk=run.pk).update(state_since="2000-01-01T00:00:00Z"),
            "lost": lambda: Stage.objects.filter(run=run).update(heartbeat_at="2000-01-01T00:00:00Z"),
            "claim": lambda: self.claim(which),
            "next": lambda: self.end(self.next_stage(), "pass"),
            "break": lambda: self.end(self.next_stage(), "fail"),
            "absent": lambda: lifecycle.aggregator_absent(run.pk),
            "pass": lambda: self.end(which, "pass"),
            "fail": lambda: self.end(which, "fail"),
            "cancel": lambda: self.end(which, "cancel"),
            "retry": lambda: lifecycle.stage_retry(stage=run.stages.get(name=which), user=self.flow.user),
            "device": lambda: lifecycle.device_status_apply(run.pk, edge_id, status(which)),
            "aggregator": lambda: lifecycle.aggregator_status_apply(run.pk, status(which)),
            "offline": lambda: self.presence(device, online=False),
            "online": lambda: self.presence(device, online=True),
            "holds": lambda: lifecycle.device_runs_reconcile(edge_id, [run.pk]),
            "empty": lambda: lifecycle.device_runs_reconcile(edge_id, []),
        }
        try:
            actions[what]()
        except (RunRefused, Stage.DoesNotExist):
            return

    def claim(self, name: str) -> Stage | None:
        self.claims += 1
        stage = lifecycle.stage_claim(run_id=self.run.pk, name=name, claim=f"claim-{self.claims}")
        if stage is not None and name == StageName.LAUNCH and lifecycle.aggregator_token(self.run.pk):
            Run.objects.filter(pk=self.run.pk).update(aggregator_handle=None)
        if stage is not None and name == StageName.DISPATCH:
            commands = lifecycle.dispatch_prepare(self.run.pk, image=None)
            lifecycle.dispatch_sent(self.run.pk, [edge_id for edge_id, _ in commands])
        return stage

    def next_stage(self) -> str:
        """The stage whose turn it is."""
        states = [StageState.PENDING, StageState.ACTIVE]
        return self.run.stages.filter(state__in=states).values_list("name", flat=True).first() or StageName.DISPATCH

    def end(self, name: str, how: str) -> None:
        stage = self.claim(name) or Stage.objects.filter(run=self.run, name=name, state=StageState.ACTIVE).first()
        if stage is None:
            return
        if how == "pass":
            lifecycle.stage_done(stage_id=stage.pk, claim=stage.claim, result={})
        elif how == "fail":
            lifecycle.stage_fail(stage_id=stage.pk, claim=stage.claim, reason="broken")
        elif lifecycle.stage_standing(stage_id=stage.pk, claim=stage.claim) is lifecycle.StageStanding.STOPPED:
            lifecycle.stage_cancelled(stage_id=stage.pk, claim=stage.claim)

    def presence(self, device: int, *, online: bool) -> None:
        row = self.flow.devices[device]
        row.online = online
        row.save()
        lifecycle.device_presence_changed(row.pk)

    def check(self) -> None:
        """What holds at every moment, whatever happened."""
        run = Run.objects.get(pk=self.run.pk)
        ended = run.state in RunState.ended()
        assert (run.ended_at is not None) == ended
        held = RunDevice.objects.filter(run=run, holds_device=True)
        if ended or run.state == RunState.CREATED:
            assert not held.exists()
            assert not run.stages.filter(state=StageState.PENDING).exists()
        assert not held.filter(status__in=InstanceStatus.ended()).exists()
        assert run.stages.filter(state=StageState.ACTIVE).count() <= 1
        if run.state in (RunState.QUEUED, RunState.STARTING, RunState.RUNNING):
            assert run.aggregator_status not in (InstanceStatus.FAILED, InstanceStatus.KILLED)
        if run.state == RunState.KILLED:
            assert run.aggregator_status != InstanceStatus.IDLE
            assert not run.run_devices.filter(
                Q(status=InstanceStatus.IDLE) | Q(status=InstanceStatus.DISPATCHED)
            ).exists()


@pytest.mark.django_db
def test_a_backend_that_says_nothing_changes_nothing(sent: Sent) -> None:
    run = flow_make().running()
    assert lifecycle.aggregator_state_apply(run.pk, InstanceState(None)) is False
    assert lifecycle.round_apply(run.pk, round_(0)) is True
    assert lifecycle.round_apply(run.pk, round_(0)) is False
