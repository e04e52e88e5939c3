"""The ingest worker: what it does with each message, without a broker."""

from __future__ import annotations

import logging
import time
from typing import Any

import orjson
import pytest
from django.db import OperationalError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devices.models import Device
from runs import lifecycle
from runs.models import Event, LogLine, Point, Receipt, Run, Series
from runs.states import InstanceStatus
from runs.telemetry import ingest as ingest_module
from runs.telemetry.database import Stopping
from runs.telemetry.ingest import IngestWorker
from runs.telemetry.receiver import Received
from runs.telemetry.storage import reports_store
from runs.telemetry.topics import Kind
from runs.tests.rows import INSTANCE, edges, metrics, run_end, run_make, topic

pytestmark = pytest.mark.django_db

HEAD = {"instance": INSTANCE, "seq": 1}


@pytest.fixture
def worker() -> IngestWorker:
    return IngestWorker(0)


def received(name: str, message: Any, *, retained: bool = False) -> Received:
    data = message if isinstance(message, bytes) else orjson.dumps(message)
    return Received(name, data, retained, 1, 1, 1, time.monotonic())


def handle(worker: IngestWorker, *messages: tuple[str, Any]) -> None:
    worker.batch_handle([received(name, message) for name, message in messages])


def test_one_bad_message_costs_itself_alone(worker: IngestWorker) -> None:
    run = run_make()
    edge = edges(run)[0]
    name = topic(run, edge, Kind.METRICS)
    handle(
        worker,
        (name, metrics(1, ("loss", 0, 1))),
        (name, b'{"instance": "ab", "seq": 2, "metrics": [{"name": "loss"}]}'),
        (name, b"\xff\xfe"),
        ("runs/x/1/metrics", metrics(1, ("loss", 0, 1))),
        (topic(run, edge, Kind.ROUND), {**HEAD, "round_index": 0, "total_rounds": 1, "running_time": 0.0}),
        (name, metrics(3, ("loss", 1, 2))),
    )
    assert list(Point.objects.order_by("id").values_list("step", flat=True)) == [0.0, 1.0]
    counters = worker.counters
    assert counters.refused == {"schema": 3, "unknown_topic": 1}
    assert (counters.stored, counters.points, counters.duplicate) == (2, 2, 0)


def test_who_may_not_report_is_refused(worker: IngestWorker) -> None:
    run, other = run_make(), run_make()
    stranger = edges(other)[0]
    late, grace = run_make(), run_make()
    run_end(late, seconds_ago=121)
    run_end(grace, seconds_ago=60)
    message = metrics(1, ("loss", 0, 1))
    handle(
        worker,
        (topic(run, stranger, Kind.METRICS), message),
        ("runs/999999/1/metrics", message),
        (topic(late, 0, Kind.METRICS), message),
        (topic(grace, 0, Kind.METRICS), message),
    )
    assert worker.counters.refused == {"no_part": 1, "unknown_run": 1, "run_ended": 1}
    assert list(Series.objects.values_list("run_id", flat=True)) == [grace.pk]


def test_a_batch_that_fails_is_halved_until_the_bad_one_is_alone(
    worker: IngestWorker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_make()
    sizes: list[int] = []

    def store(reports: Any, book: Any) -> Any:
        sizes.append(len(reports))
        if any(report.payload.seq == 5 for report in reports):
            raise RuntimeError("poison")
        return reports_store(reports, book)

    monkeypatch.setattr(ingest_module, "reports_store", store)
    handle(worker, *[(topic(run, 0, Kind.METRICS), metrics(seq, ("loss", seq, seq))) for seq in range(1, 9)])
    assert list(Point.objects.order_by("step").values_list("step", flat=True)) == [1, 2, 3, 4, 6, 7, 8]
    assert worker.counters.refused == {"error": 1}
    assert sizes == [8, 4, 4, 2, 1, 1, 2]
    assert "poison" in caplog.text


def test_it_waits_while_the_database_is_away(
    worker: IngestWorker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_make()
    failures = iter([OperationalError("the connection is closed")] * 2)

    def store(reports: Any, book: Any) -> Any:
        for failure in failures:
            raise failure
        return reports_store(reports, book)

    monkeypatch.setattr(ingest_module, "reports_store", store)
    monkeypatch.setattr("runs.telemetry.database._FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr("runs.telemetry.database.connection.close", lambda: None)
    handle(worker, (topic(run, 0, Kind.METRICS), metrics(1, ("loss", 0, 1))))
    assert Point.objects.count() == 1
    assert worker.counters.refused == {}
    assert worker.counters.database_away_since is None
    assert [record.getMessage()[:40] for record in caplog.records if record.levelno == logging.WARNING][:2] == [
        "The database does not take it (the conne",
        "The database is back after 0.0 seconds",
    ]


def test_it_stops_while_the_database_is_away(worker: IngestWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_make()

    def store(reports: Any, book: Any) -> Any:
        worker.stop()
        raise OperationalError("away")

    monkeypatch.setattr(ingest_module, "reports_store", store)
    monkeypatch.setattr("runs.telemetry.database.connection.close", lambda: None)
    with pytest.raises(Stopping):
        handle(worker, (topic(run, 0, Kind.METRICS), metrics(1, ("loss", 0, 1))))
    assert Receipt.objects.count() == 0


def test_a_device_comes_and_goes(worker: IngestWorker) -> None:
    run = run_make()
    device = Device.objects.get(pk=edges(run)[0])
    Device.objects.filter(pk=device.pk).update(online=False)
    name = f"edges/{device.pk}/presence"
    handle(worker, (name, {"state": "ONLINE", "boot": "b1", "time": time.time(), "os": "Linux", "runs": []}))
    device.refresh_from_db()
    assert (device.online, device.boot, device.os) == (True, "b1", "Linux")
    handle(worker, (name, {"state": "OFFLINE", "boot": "b0"}))
    assert Device.objects.get(pk=device.pk).online
    handle(worker, (name, {"state": "OFFLINE", "boot": "b1"}), (name, b""))
    assert not Device.objects.get(pk=device.pk).online
    assert worker.counters.presences == 3
    assert worker.counters.refused == {"schema": 1}


def test_a_cleared_retained_message_is_nothing(worker: IngestWorker) -> None:
    worker.batch_handle([received("edges/1/presence", b"", retained=True)])
    assert worker.counters.refused == {}


def test_statuses_go_to_the_lifecycle(worker: IngestWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(
        lifecycle, "device_status_apply", lambda run_id, edge_id, payload: calls.append((run_id, edge_id))
    )
    monkeypatch.setattr(
        lifecycle,
        "aggregator_status_apply",
        lambda run_id, payload: calls.append((run_id, payload.status)),
    )
    run, other = run_make(), run_make()
    edge, stranger = edges(run)[0], edges(other)[0]
    status = {"run_id": run.pk, "status": "TRAINING"}
    handle(
        worker,
        (f"edges/{edge}/status", status),
        (topic(run, 0, Kind.STATUS), status),
        (f"edges/{stranger}/status", status),
        (topic(run, edge, Kind.STATUS), status),
        (topic(other, 0, Kind.STATUS), status),
        ("edges/0/status", status),
    )
    assert calls == [(run.pk, edge), (run.pk, InstanceStatus.TRAINING)]
    assert worker.counters.refused == {"no_part": 2, "schema": 2}


def test_a_status_that_cannot_be_applied_costs_itself_alone(
    worker: IngestWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("unexpected")

    monkeypatch.setattr(lifecycle, "device_status_apply", fail)
    run = run_make()
    edge = edges(run)[0]
    handle(
        worker,
        (f"edges/{edge}/status", {"run_id": run.pk, "status": "TRAINING"}),
        (topic(run, edge, Kind.METRICS), metrics(1, ("loss", 0, 1))),
    )
    assert worker.counters.refused == {"error": 1}
    assert Point.objects.count() == 1


def test_refusals_are_logged_a_few_times_only(worker: IngestWorker, caplog: pytest.LogCaptureFixture) -> None:
    handle(worker, *[("nothing", b"secret")] * 50)
    assert len([record for record in caplog.records if "Refused" in record.getMessage()]) == 5
    assert "secret" not in caplog.text
    assert worker.counters.refused == {"unknown_topic": 50}


KINDS = [kind for kind in Kind if kind not in (Kind.PRESENCE, Kind.STATUS)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flood_of_broken_messages_hurts_no_good_one(data: st.DataObject) -> None:
    """Good messages among random and mutated ones: the good are stored, the rest counted, nothing is raised."""
    run = run_make()
    worker = IngestWorker(0)
    edge = edges(run)[0]
    messages: list[tuple[str, Any]] = []
    good = data.draw(st.integers(1, 4))
    for seq in range(1, good + 1):
        messages.append((topic(run, edge, Kind.METRICS), metrics(seq, ("loss", seq, seq), instance="good")))
    bad = data.draw(st.integers(0, 8))
    for _ in range(bad):
        kind = data.draw(st.sampled_from(KINDS))
        whole = {
            "instance": "bad",
            "seq": data.draw(st.integers(1, 3)),
            "metrics": [],
            "lines": [],
            "time": 5,
            "event_name": "train",
            "started_time": 1,
            "round_index": 0,
            "total_rounds": 1,
            "kind": "client",
            "sha256": "0" * 64,
            "size": 1,
            "cpu_utilization": 1,
        }
        broken = bytearray(orjson.dumps(whole))
        for _ in range(data.draw(st.integers(0, 4))):
            broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
        messages.insert(data.draw(st.integers(0, len(messages))), (topic(run, edge, kind), bytes(broken)))
    handle(worker, *messages)
    counters = worker.counters
    assert Point.objects.filter(series__run=run, series__name="loss").count() == good
    assert counters.stored + counters.duplicate + sum(counters.refused.values()) == len(messages)
    assert counters.refused.get("error", 0) == 0
    assert Receipt.objects.filter(run=run).count() == counters.stored
    assert Event.objects.filter(run=run).count() + LogLine.objects.filter(run=run).count() <= bad
    assert Run.objects.get(pk=run.pk).frame_number <= 1
