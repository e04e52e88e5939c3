"""What each kind of rule finds, and what it leaves alone."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from accounts.tests.objects import make_device, make_project, make_run
from alerts.conditions import findings
from alerts.models import Rule, RuleKind
from runs.models import Project, Round, Run, Series
from runs.states import RunState
from runs.telemetry.series import SeriesBook
from runs.telemetry.storage import reports_store
from runs.telemetry.topics import Kind
from runs.tests.rows import metrics, report


@pytest.fixture
def now() -> datetime:
    return timezone.now()


def rule_make(project: Project, kind: RuleKind, **fields: object) -> Rule:
    return Rule.objects.create(project=project, kind=kind, created_at=timezone.now() - timedelta(hours=1), **fields)


def found(rule: Rule) -> list[tuple[str, str]]:
    return [(finding.subject, finding.text) for finding in findings(rule, timezone.now())]


def test_a_run_that_failed_since_the_rule_was_made_is_found(project: Project, ada: User, now: datetime) -> None:
    rule = rule_make(project, RuleKind.RUN_FAILED)
    run = make_run(project, state=RunState.FAILED, reason="No client is left.", ended_at=now)
    make_run(project, state=RunState.FAILED, ended_at=now - timedelta(hours=2))
    make_run(project, state=RunState.KILLED, ended_at=now)
    make_run(make_project(ada, "Other"), state=RunState.FAILED, ended_at=now)
    assert found(rule) == [(f"run:{run.pk}", "quiet-heron has failed. No client is left.")]


def test_a_device_that_is_offline_for_long_enough_is_found(project: Project, ada: User, now: datetime) -> None:
    rule = rule_make(project, RuleKind.DEVICE_OFFLINE, minutes=2)  # made devices are so for three minutes
    away = make_device(ada, "away", online=False, last_seen_at=now)
    make_device(ada, "here", last_seen_at=now)
    make_device(ada, "never heard", online=False)
    make_device(ada, "unbound", online=False, last_seen_at=now, unbound_at=now)
    text = f"away is offline since {away.online_since:%Y-%m-%d %H:%M} UTC."
    assert found(rule) == [(f"device:{away.pk}", text)]
    rule.minutes = 4
    assert found(rule) == []


def values_report(run: Run, values: list[float | str]) -> None:
    message = metrics(1, *(("test_loss", step, value, step) for step, value in enumerate(values)))
    reports_store([report(run, 0, Kind.METRICS, message)], SeriesBook())


@pytest.mark.parametrize(
    ("direction", "values", "text"),
    [
        ("min", [3.0, 1.0, 2.0, 2.0, 1.0], "test_loss of quiet-heron has not improved since round 1 (best 1)."),
        ("min", [3.0, 2.0, 1.0, 2.0, 1.5], None),
        ("max", [3.0, 1.0, 2.0, 2.0, 2.9], "test_loss of quiet-heron has not improved since round 0 (best 3)."),
        ("max", [1.0, "NaN", "NaN", "NaN"], None),
        ("max", [], None),
    ],
)
def test_a_metric_without_a_better_value_in_its_last_rounds_is_found(
    project: Project, direction: str, values: list[float | str], text: str | None
) -> None:
    rule = rule_make(project, RuleKind.METRIC_STALLED, metric="test_loss", direction=direction, rounds=3)
    run = make_run(project, state=RunState.RUNNING)
    if values:
        values_report(run, values)
        assert Series.objects.get(run=run).name == "test_loss"
    assert found(rule) == ([(f"run:{run.pk}", text)] if text else [])


def test_a_round_that_takes_too_long_is_found(project: Project, now: datetime) -> None:
    rule = rule_make(project, RuleKind.ROUND_LATE, minutes=5)
    since = now - timedelta(minutes=6)
    first = make_run(project, name="first", state=RunState.RUNNING, state_since=since, total_rounds=9)
    make_run(project, name="new", state=RunState.RUNNING, state_since=now)
    make_run(project, name="over", state=RunState.FINISHED, state_since=since)
    quick = make_run(project, name="quick", state=RunState.RUNNING, state_since=since, round_index=0)
    Round.objects.create(run=quick, round_index=0, total_rounds=9, running_time=1.0, reported_at=now)
    assert found(rule) == [(f"run:{first.pk}", f"first waits for round 1 of 9 since {since:%Y-%m-%d %H:%M} UTC.")]
