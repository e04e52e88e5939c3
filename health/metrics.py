"""The platform's figures in the form that Prometheus reads (https://prometheus.io/docs/instrumenting/exposition_formats/).

They are read from the database and Redis at each request, so that it does not matter which process is asked. What Redis
holds is left out while it is away, and ``roundtable_redis_up`` says so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import redis
from channels.layers import get_channel_layer
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.conf import settings
from django.db.models import Count, DurationField, ExpressionWrapper, F, Sum
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily

from devices.models import Device
from health.checks.worker import queue_lengths, tasks_taken
from runs.live.frames import redis_client
from runs.models import Run, Stage
from runs.pipeline.heartbeat import reap_last
from runs.states import RunState, StageState
from runs.telemetry.health import ingest_health
from runs.telemetry.refusals import Reason

# Counters of an ingest worker: name here, name there, what it counts.
_INGEST_COUNTERS = (
    ("messages_received", "received", "Messages that came from the broker."),
    ("messages_stored", "stored", "Messages of telemetry that were stored."),
    ("messages_duplicate", "duplicate", "Messages of telemetry that had been stored before."),
    ("points", "points", "Points of series that were stored."),
    ("log_lines", "lines", "Log lines that were stored."),
    ("statuses", "statuses", "Reports of the status of an instance."),
    ("presences", "presences", "Reports of the presence of a device."),
    ("batches", "batches", "Transactions in which telemetry was stored."),
)
_INGEST_GAUGES = (
    ("lag_seconds", "lag_seconds", "From the arrival of the last batch's first message until it was stored."),
    ("batch_seconds", "batch_seconds", "What the last batch took to store."),
    ("messages_waiting", "waiting", "Messages that were received and are not stored yet."),
    ("connected", "connected", "Whether the slot is connected to the broker."),
    ("alive", "alive", "Whether the slot was heard of within the last 30 seconds."),
)


def metrics_text() -> bytes:
    """Return every figure as text.

    Raises:
        django.db.DatabaseError: the database is away.
    """
    registry = CollectorRegistry()
    registry.register(_Figures())
    return generate_latest(registry)


class _Figures:
    """Reads every figure anew whenever it is asked."""

    def describe(self) -> list[Metric]:
        """Nothing is read when the collector is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        yield from _of_the_database()
        try:
            figures = list(_of_redis())
        except (redis.RedisError, OSError):
            figures = []
        yield GaugeMetricFamily("roundtable_redis_up", "Whether Redis answers.", value=1.0 if figures else 0.0)
        yield from figures


def _of_the_database() -> Iterator[Metric]:
    runs = GaugeMetricFamily("roundtable_runs", "Runs by state.", labels=["state"])
    counted = dict(Run.objects.order_by().values_list("state").annotate(Count("pk")))
    for state in RunState:
        runs.add_metric([state.value.lower()], counted.get(state.value, 0))
    yield runs

    devices = GaugeMetricFamily("roundtable_devices", "Bound devices by presence.", labels=["presence"])
    present = dict(Device.objects.bound().order_by().values_list("online").annotate(Count("pk")))
    devices.add_metric(["online"], present.get(True, 0))
    devices.add_metric(["offline"], present.get(False, 0))
    yield devices

    stages = GaugeMetricFamily("roundtable_stages", "Stages of runs that wait or are worked on.", labels=["state"])
    open_states = (StageState.PENDING, StageState.ACTIVE)
    active = Stage.objects.filter(run__state__in=RunState.active(), state__in=open_states)
    counted = dict(active.order_by().values_list("state").annotate(Count("pk")))
    for open_state in open_states:
        stages.add_metric([open_state.value.lower()], counted.get(open_state.value, 0))
    yield stages

    seconds = SummaryMetricFamily(
        "roundtable_stage_seconds", "What stages of runs took, by stage and how they ended.", labels=["stage", "result"]
    )
    took = ExpressionWrapper(F("ended_at") - F("started_at"), output_field=DurationField())
    ended = Stage.objects.filter(started_at__isnull=False, ended_at__isnull=False)
    sums = ended.values_list("name", "state").annotate(count=Count("pk"), total=Sum(took))
    for name, state, count, total in sums.order_by("name", "state"):
        seconds.add_metric([name, state.lower()], count_value=count, sum_value=total.total_seconds())
    yield seconds


def _of_redis() -> Iterator[Metric]:
    waiting = GaugeMetricFamily(
        "roundtable_tasks_waiting", "Tasks that wait for a worker or builder.", labels=["queue"]
    )
    for queue, length in queue_lengths().items():
        waiting.add_metric([queue], length)
    yield waiting
    taken = tasks_taken()
    yield GaugeMetricFamily("roundtable_tasks_taken", "Tasks that workers have taken and not finished.", value=taken)
    last = reap_last()
    if last is not None:
        yield GaugeMetricFamily(
            "roundtable_reaper_age_seconds", "Seconds since the reaper last ran.", value=max(0.0, time.time() - last)
        )
    yield from _ingest(ingest_health())
    sockets = _websockets()
    if sockets is not None:
        yield GaugeMetricFamily("roundtable_websockets", "Open websockets of pages.", value=sockets)


def _ingest(workers: list[dict[str, Any]]) -> Iterator[Metric]:
    for name, key, documentation in _INGEST_COUNTERS:
        counter = CounterMetricFamily(f"roundtable_ingest_{name}", documentation, labels=["slot"])
        for worker in workers:
            counter.add_metric([str(worker["slot"])], worker[key])
        yield counter
    refused = CounterMetricFamily(
        "roundtable_ingest_messages_refused", "Messages that were not stored, by reason.", labels=["slot", "reason"]
    )
    for worker in workers:
        for reason in Reason:
            refused.add_metric([str(worker["slot"]), reason.value], worker["refused"].get(reason.value, 0))
    yield refused
    for name, key, documentation in _INGEST_GAUGES:
        gauge = GaugeMetricFamily(f"roundtable_ingest_{name}", documentation, labels=["slot"])
        for worker in workers:
            gauge.add_metric([str(worker["slot"])], float(worker[key]))
        yield gauge


def _websockets() -> int | None:
    """Return how many websockets are open: each listens to a channel of Redis that has its own name."""
    if not isinstance(get_channel_layer(), RedisPubSubChannelLayer):
        return None
    configuration: dict[str, Any] = settings.CHANNEL_LAYERS["default"]
    prefix = configuration["CONFIG"]["prefix"]
    return len(redis_client().pubsub_channels(f"{prefix}specific.*"))
