"""Sweeps go on by themselves: as devices become free, within their limit, and to their end."""

from __future__ import annotations

from typing import Any

import pytest

from runs import lifecycle
from runs.models import Run
from runs.states import RunState
from runs.tests.flow import Flow, flow_make
from sweeps.advance import sweep_advance, sweep_stop, sweeps_advance
from sweeps.models import Sweep, SweepState, Trial

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runs.lifecycle.effects.app.send_task", lambda *_, **__: None)


def sweep_make(flow: Flow, values: list[str], **fields: Any) -> Sweep:
    settings = {"devices_per_run": 1, "concurrency": 5, "device_ids": [device.pk for device in flow.devices]}
    sweep = Sweep.objects.create(
        project=flow.project,
        name="rates",
        configuration=flow.configuration,
        parameters=["hyperparameters_config.lr"],
        created_by=flow.user,
        **settings | fields,
    )
    for position, value in enumerate(values):
        Trial.objects.create(sweep=sweep, position=position, values={"hyperparameters_config.lr": value})
    return sweep


def rates(sweep: Sweep) -> dict[str, float]:
    """The learning rate of each run, by the run's name."""
    return {
        run.name: next(row["value"] for row in run.configuration_copy["hyperparameters_config"] if row["name"] == "lr")
        for run in Run.objects.filter(trial__sweep=sweep)
    }


def end(run: Run, user: Any) -> None:
    lifecycle.run_stop(run=run, user=user)
    lifecycle.aggregator_absent(run.pk)
    run.refresh_from_db()
    assert run.state == RunState.KILLED


def test_runs_start_as_devices_become_free_and_the_sweep_ends_with_the_last() -> None:
    flow = flow_make(devices=2)
    sweep = sweep_make(flow, ["0.1", "0.2", "0.3"])
    sweep_advance(sweep.pk)
    sweep_advance(sweep.pk)
    assert rates(sweep) == {"rates 1": 0.1, "rates 2": 0.2}
    assert Run.objects.filter(trial__sweep=sweep, state=RunState.QUEUED).count() == 2
    sweep.refresh_from_db()
    assert sweep.reason == "Waiting for devices: 0 of the 1 of a run are idle."
    end(sweep.trials.get(position=0).run, flow.user)  # type: ignore[arg-type]
    sweep_advance(sweep.pk)
    assert rates(sweep) == {"rates 1": 0.1, "rates 2": 0.2, "rates 3": 0.3}
    for trial in sweep.trials.exclude(position=0):
        assert trial.run is not None
        end(trial.run, flow.user)
    sweep_advance(sweep.pk)
    sweep.refresh_from_db()
    assert (sweep.state, sweep.reason, sweep.ended_at is not None) == (SweepState.DONE, "", True)


def test_no_more_runs_at_once_than_allowed() -> None:
    flow = flow_make(devices=4)
    sweep = sweep_make(flow, ["0.1", "0.2", "0.3"], concurrency=2)
    sweep_advance(sweep.pk)
    assert list(rates(sweep)) == ["rates 2", "rates 1"]


def test_every_run_repeats_what_the_first_froze() -> None:
    flow = flow_make(devices=2)
    sweep = sweep_make(flow, ["0.1", "0.2"], concurrency=1)
    sweep_advance(sweep.pk)
    flow.configuration.hyperparameters_config = [{"name": "other", "type": "integer", "value": 1}]
    flow.configuration.save()
    first = sweep.trials.get(position=0).run
    assert first is not None
    end(first, flow.user)
    sweep_advance(sweep.pk)
    assert rates(sweep) == {"rates 1": 0.1, "rates 2": 0.2}


def test_a_trial_that_is_refused_says_why_and_the_next_is_made() -> None:
    flow = flow_make(devices=1)
    sweep = sweep_make(flow, ["much", "0.2"])
    sweep_advance(sweep.pk)
    refused, made = sweep.trials.all()
    assert refused.problem.startswith("hyperparameters_config.lr: This is not a number.")
    assert (refused.run, made.problem) == (None, "")
    assert made.run is not None


def test_a_sweep_of_somebody_who_left_the_project_makes_no_runs() -> None:
    flow = flow_make(devices=1)
    sweep = sweep_make(flow, ["0.1"])
    other = flow_make(devices=0).user
    sweep.created_by = other
    sweep.save()
    sweep_advance(sweep.pk)
    assert sweep.trials.get().problem == "You are not a member of this project; ask its owner to add you."
    assert not Run.objects.exists()


def test_stopping_stops_the_runs_and_makes_no_more() -> None:
    flow = flow_make(devices=1)
    sweep = sweep_make(flow, ["0.1", "0.2"])
    sweep_advance(sweep.pk)
    sweep_stop(sweep, flow.user)
    [run] = Run.objects.all()
    assert run.state in (RunState.STOPPING, RunState.KILLED)
    assert run.reason.startswith(f"The sweep rates was stopped by {flow.user}.")
    lifecycle.aggregator_absent(run.pk)
    sweeps_advance()
    sweep.refresh_from_db()
    assert (sweep.state, sweep.reason) == (SweepState.STOPPED, f"Stopped by {flow.user}.")
    assert Run.objects.count() == 1


def test_a_sweep_that_fails_hurts_no_other(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    first, second = (flow_make(devices=1) for _ in range(2))
    broken, whole = sweep_make(first, ["0.1"]), sweep_make(second, ["0.1"])
    Trial.objects.filter(sweep=broken).update(values="no values")
    sweeps_advance()
    assert f"sweep {broken.pk} could not go on" in caplog.text
    assert whole.trials.get().run is not None
