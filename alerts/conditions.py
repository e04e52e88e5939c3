"""What each kind of rule looks for. A condition returns all that holds now; it remembers nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Max

from alerts.models import Direction, Rule, RuleKind
from devices.models import Device
from runs.models import Round, Run, Series
from runs.states import RunState
from runs.telemetry.charts import window_points

POINTS_READ = 2_000  # of a metric; which of more are read, loses no extreme


@dataclass(frozen=True)
class Finding:
    """Something that a rule is about.

    Args:
        subject: names it, the same at each look.
        text: one sentence for people.
    """

    subject: str
    text: str
    run: Run | None = None
    device: Device | None = None


def findings(rule: Rule, now: datetime) -> list[Finding]:
    """Return all that the rule is about at this moment."""
    return list(CONDITIONS[RuleKind(rule.kind)](rule, now))


def _runs_failed(rule: Rule, _: datetime) -> Iterator[Finding]:
    """Runs that failed since the rule was made."""
    for run in Run.objects.filter(project=rule.project_id, state=RunState.FAILED, ended_at__gte=rule.created_at):
        yield Finding(f"run:{run.pk}", f"{run.name} has failed. {run.reason}".strip(), run=run)


def _devices_offline(rule: Rule, now: datetime) -> Iterator[Finding]:
    """Devices of the project's members that were heard once and are away for too long."""
    since = now - timedelta(minutes=rule.minutes or 0)
    devices = Device.objects.of_project(rule.project_id).exclude(last_seen_at=None)
    for device in devices.filter(online=False, online_since__lte=since):
        yield Finding(
            f"device:{device.pk}",
            f"{device.name} is offline since {device.online_since:%Y-%m-%d %H:%M} UTC.",
            device=device,
        )


def _metrics_stalled(rule: Rule, _: datetime) -> Iterator[Finding]:
    """Running runs whose aggregated metric has had no better value in its last rounds."""
    wanted = {"edge_id": 0, "name": rule.metric, "kind": "metric"}
    series = Series.objects.filter(run__project=rule.project_id, run__state=RunState.RUNNING, **wanted)
    found = list(series.select_related("run"))
    points = window_points(found, axis="step", width=POINTS_READ)
    better = max if rule.direction == Direction.MAX else min
    for one in found:
        columns = points[one.pk]
        rounds = [
            (step if round_index is None else round_index, value)
            for step, round_index, value in zip(columns["step"], columns["round"], columns["value"], strict=True)
            if value is not None
        ]
        if not rounds:
            continue
        last = max(number for number, _ in rounds)
        best = better(value for _, value in rounds)
        reached = min(number for number, value in rounds if value == best)
        if last - reached >= (rule.rounds or 1):
            text = f"{rule.metric} of {one.run.name} has not improved since round {reached:.0f} (best {best:.4g})."
            yield Finding(f"run:{one.run_id}", text, run=one.run)


def _rounds_late(rule: Rule, now: datetime) -> Iterator[Finding]:
    """Running runs of which no round has ended for too long."""
    running = Run.objects.filter(project=rule.project_id, state=RunState.RUNNING)
    ended = dict(Round.objects.filter(run__in=running).values_list("run").annotate(Max("reported_at")).order_by())
    for run in running:
        since: datetime = ended.get(run.pk, run.state_since)
        if now - since >= timedelta(minutes=rule.minutes or 0):
            of = f" of {run.total_rounds}" if run.total_rounds else ""
            text = f"{run.name} waits for round {run.round_index + 2}{of} since {since:%Y-%m-%d %H:%M} UTC."
            yield Finding(f"run:{run.pk}", text, run=run)


CONDITIONS: dict[RuleKind, Callable[[Rule, datetime], Iterator[Finding]]] = {
    RuleKind.RUN_FAILED: _runs_failed,
    RuleKind.DEVICE_OFFLINE: _devices_offline,
    RuleKind.METRIC_STALLED: _metrics_stalled,
    RuleKind.ROUND_LATE: _rounds_late,
}
