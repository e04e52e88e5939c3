"""Storing batches, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runs.live import broadcast
from runs.live.frames import Frame
from runs.models import Event, LogLine, Point, Receipt, Run, Series, StoredModel, ValueFlag
from runs.telemetry import series as series_module
from runs.telemetry.best import Candidate, best_metric
from runs.telemetry.refusals import Reason, Refused
from runs.telemetry.series import SeriesBook
from runs.telemetry.storage import Report, Stored, reports_store
from runs.telemetry.topics import Kind
from runs.tests.postgresql import PostgresqlServer, django_on_postgresql, empty_tables, migrate, postgresql_programs
from runs.tests.rows import INSTANCE, edges, metrics, report, run_make

pytestmark = pytest.mark.django_db(transaction=True)

HEAD = {"instance": INSTANCE, "seq": 1}


@pytest.fixture(scope="module")
def postgresql(django_db_blocker: Any) -> Iterator[PostgresqlServer]:
    if postgresql_programs() is None:
        pytest.skip("PostgreSQL is not installed")
    server = PostgresqlServer()
    try:
        server.start()
        server.database_make()
        with django_db_blocker.unblock(), django_on_postgresql(server):
            migrate()
        yield server
    finally:
        server.stop()
        server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, django_db_blocker: Any) -> Iterator[str]:
    """Each test runs on both databases, with real commits."""
    if request.param == "sqlite":
        yield "sqlite"
        return
    server = request.getfixturevalue("postgresql")
    with django_db_blocker.unblock(), django_on_postgresql(server):
        yield "postgresql"
        empty_tables()


@pytest.fixture
def frames(monkeypatch: pytest.MonkeyPatch) -> list[Frame]:
    """The frames that were sent, in place of Redis."""
    sent: list[Frame] = []
    monkeypatch.setattr(broadcast, "frames_send", sent.extend)
    return sent


def items_of(frame: Frame) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = orjson.loads(f"[{frame.data}]")
    return items


def values(series: Series) -> list[tuple[float, float | None, int]]:
    return list(Point.objects.filter(series=series).order_by("id").values_list("step", "value", "flag"))


def test_points_are_stored_with_their_series_and_told_in_one_frame(database: str, frames: list[Frame]) -> None:
    run = run_make()
    edge = edges(run)[0]
    stored = reports_store(
        [
            report(run, edge, Kind.METRICS, metrics(1, ("loss", 0, 0.5, 0), ("loss", 1, 0.25, 0), ("lr", 0, 0.1))),
            report(run, 0, Kind.METRICS, metrics(1, ("loss", 0, 0.75, 0))),
        ],
        SeriesBook(),
    )
    assert stored == Stored(messages=2, duplicates=0, points=4, lines=0)
    loss = Series.objects.get(run=run, edge_id=edge, name="loss")
    assert values(loss) == [(0.0, 0.5, 0), (1.0, 0.25, 0)]
    assert (loss.kind, loss.count, loss.last_step, loss.last_value) == ("metric", 2, 1.0, 0.25)
    assert Series.objects.filter(run=run).count() == 3
    (frame,) = frames
    assert (frame.run_id, frame.number) == (run.pk, 1)
    points = items_of(frame)[0]
    assert points["t"] == "points"
    assert {(one["edge_id"], one["name"], one["kind"]) for one in points["series"]} == {
        (edge, "loss", "metric"),
        (edge, "lr", "metric"),
        (0, "loss", "metric"),
    }
    rows = Point.objects.order_by("id").values_list("series_id", "id", "step", "round", "time", "value", "flag")
    assert [tuple(row) for row in points["points"]] == list(rows)


def test_a_later_frame_names_new_series_alone(database: str, frames: list[Frame]) -> None:
    run, book = run_make(), SeriesBook()
    reports_store([report(run, 0, Kind.METRICS, metrics(1, ("loss", 0, 1)))], book)
    reports_store([report(run, 0, Kind.METRICS, metrics(2, ("loss", 1, 1), ("error rate", 1, 1)))], SeriesBook())
    reports_store([report(run, 0, Kind.METRICS, metrics(3, ("loss", 2, 1), ("error rate", 2, 1)))], book)
    named = [[one["name"] for one in items_of(frame)[0]["series"]] for frame in frames]
    assert named == [["loss"], ["error rate"], []]
    assert [frame.number for frame in frames] == [1, 2, 3]


def test_a_replay_changes_nothing(database: str, frames: list[Frame]) -> None:
    run = run_make()
    edge = edges(run)[0]
    line = {"time": 5.0, "stream": "stdout", "line": "hello"}
    messages = [
        report(run, edge, Kind.METRICS, metrics(1, ("loss", 0, 0.5))),
        report(run, edge, Kind.LOG, {**HEAD, "lines": [line]}),
        report(run, edge, Kind.EVENT, {**HEAD, "event_name": "train", "event_value": "0", "started_time": 5.0}),
        report(run, edge, Kind.SYSTEM, {**HEAD, "time": 6.0, "cpu_utilization": 50.0}),
    ]
    first = reports_store([*messages, messages[0]], SeriesBook())
    assert (first.messages, first.duplicates) == (4, 1)
    before = [list(model.objects.order_by("pk").values()) for model in (Point, LogLine, Event, Series, Receipt)]
    again = reports_store(messages, SeriesBook())
    assert again == Stored(messages=0, duplicates=4)
    assert [list(model.objects.order_by("pk").values()) for model in (Point, LogLine, Event, Series, Receipt)] == before
    assert len(frames) == 1
    assert Run.objects.get(pk=run.pk).frame_number == 1


def test_the_same_number_of_another_start_or_kind_is_another_message(database: str, frames: list[Frame]) -> None:
    run = run_make()
    reports_store([report(run, 0, Kind.METRICS, metrics(1, ("loss", 0, 0.5)))], SeriesBook())
    again = reports_store([report(run, 0, Kind.METRICS, metrics(1, ("loss", 0, 0.5), instance="ffff"))], SeriesBook())
    assert again.points == 1
    assert Point.objects.count() == 2


def test_what_is_no_number_is_kept_with_a_flag(database: str, frames: list[Frame]) -> None:
    run = run_make()
    message = metrics(1, ("loss", 0, "NaN"), ("loss", 1, "Infinity"), ("loss", 2, "-Infinity"), ("loss", 3, 1e308))
    reports_store([report(run, 0, Kind.METRICS, message)], SeriesBook())
    loss = Series.objects.get(name="loss")
    assert values(loss) == [
        (0.0, None, ValueFlag.NAN),
        (1.0, None, ValueFlag.POSITIVE_INFINITY),
        (2.0, None, ValueFlag.NEGATIVE_INFINITY),
        (3.0, 1e308, ValueFlag.FINITE),
    ]
    sent = items_of(frames[0])[0]["points"]
    assert [row[5:] for row in sent] == [[None, 1], [None, 2], [None, 3], [1e308, 0]]


def test_the_latest_value_is_the_latest_in_time_not_in_arrival(database: str, frames: list[Frame]) -> None:
    run, book = run_make(), SeriesBook()

    def message(seq: int, time: float, value: float) -> Report:
        points = [{"name": "loss", "step": time, "time": time, "value": value}]
        return report(run, 0, Kind.METRICS, {"instance": INSTANCE, "seq": seq, "metrics": points})

    reports_store([message(1, 100.0, 1.0)], book)
    reports_store([message(3, 300.0, 3.0), message(2, 200.0, 2.0)], book)
    reports_store([message(4, 250.0, 2.5)], book)
    loss = Series.objects.get(name="loss")
    assert (loss.count, loss.last_time, loss.last_step, loss.last_value) == (4, 300.0, 300.0, 3.0)


def test_lines_keep_their_order_level_and_reporter(database: str, frames: list[Frame]) -> None:
    run = run_make()
    edge = edges(run)[0]
    texts = ["one\ttab", "ERROR two\\", "\\.", "three \U0001f600 \x1b[31m"]
    lines = [{"seq": n, "time": 5.0 + n, "stream": "stderr", "line": text} for n, text in enumerate(texts)]
    reports_store(
        [
            report(run, edge, Kind.LOG, {**HEAD, "lines": lines}),
            report(run, 0, Kind.LOG, {**HEAD, "lines": lines[:1]}),
        ],
        SeriesBook(),
    )
    stored = LogLine.objects.filter(run=run, reporter=f"edge:{edge}").order_by("id")
    assert list(stored.values_list("line", flat=True)) == texts
    assert list(stored.values_list("level", flat=True)) == ["", "ERROR", "", ""]
    assert LogLine.objects.get(reporter="server").line == "one\ttab"
    items = items_of(frames[0])
    assert [(item["t"], item["reporter"], len(item["lines"])) for item in items] == [
        ("log", f"edge:{edge}", 4),
        ("log", "server", 1),
    ]
    assert items[0]["lines"][1] == [stored[1].pk, 6.0, "stderr", "ERROR", "ERROR two\\"]


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
@pytest.mark.parametrize("together", [True, False])
def test_the_ends_of_an_event_meet_in_any_order(
    database: str, frames: list[Frame], order: list[int], together: bool
) -> None:
    run = run_make()
    halves = [{"started_time": 10.0}, {"ended_time": 12.5}]
    messages = [
        report(run, 0, Kind.EVENT, {**HEAD, "seq": n + 1, "event_name": "train", "event_value": 3, **halves[n]})
        for n in order
    ]
    for batch in [messages] if together else [[message] for message in messages]:
        reports_store(batch, SeriesBook())
    event = Event.objects.get()
    assert (event.edge_id, event.name, event.value, event.started_time, event.ended_time) == (0, "train", "3", 10, 12.5)
    assert items_of(frames[-1])[-1] == {
        "t": "event", "edge_id": 0, "name": "train", "value": "3", "started_time": 10.0, "ended_time": 12.5,
    }  # fmt: skip


def test_work_that_begins_again_has_not_ended(database: str, frames: list[Frame]) -> None:
    run = run_make()
    times = [{"started_time": 10.0}, {"ended_time": 12.0}, {"started_time": 20.0}]
    for seq, half in enumerate(times, 1):
        message = {**HEAD, "seq": seq, "event_name": "train", "event_value": 0, **half}
        reports_store([report(run, 0, Kind.EVENT, message)], SeriesBook())
    assert list(Event.objects.values_list("started_time", "ended_time")) == [(20.0, None)]


def test_rounds_bring_the_run_forward(database: str, frames: list[Frame]) -> None:
    run = run_make()
    for index in (-1, 0, 1, 1, 0):
        message = {"instance": INSTANCE, "seq": index + 10 if index < 1 else 99, "round_index": index}
        message |= {"total_rounds": 5, "running_time": 1.5 * (index + 1)}
        reports_store([report(run, 0, Kind.ROUND, message)], SeriesBook())
    run.refresh_from_db()
    assert (run.round_index, run.total_rounds, run.running_time) == (1, 5, 3.0)
    assert list(run.rounds.values_list("round_index", "running_time")) == [(0, 1.5), (1, 3.0)]
    kinds = [item["t"] for frame in frames for item in items_of(frame)]
    assert kinds.count("round") == 2
    assert "run" in kinds


def test_a_device_cannot_report_rounds(database: str) -> None:
    run = run_make()
    with pytest.raises(Refused, match="only the aggregator"):
        report(run, edges(run)[0], Kind.ROUND, {**HEAD, "round_index": 0, "total_rounds": 1, "running_time": 0})


def test_a_model_is_announced_under_its_own_origin(database: str, frames: list[Frame]) -> None:
    run = run_make()
    edge = edges(run)[0]
    message = {**HEAD, "round_index": 2, "kind": "client", "key": "../../etc", "sha256": "ab" * 32, "size": 10}
    reports_store([report(run, edge, Kind.MODEL, {**message, "metrics": {"loss": "NaN"}})], SeriesBook())
    model = StoredModel.objects.get()
    assert (model.key, model.storage_name, model.metrics) == (f"client-{edge}-2-{'ab' * 6}", "", {"loss": "NaN"})
    (item,) = items_of(frames[0])
    assert (item["t"], item["url"], item["metrics"]) == ("model", None, {"loss": "NaN"})
    with pytest.raises(Refused):
        report(run, 0, Kind.MODEL, message)


def test_the_best_metric_follows_the_aggregator_alone(database: str, frames: list[Frame]) -> None:
    run, book = run_make(), SeriesBook()
    edge = edges(run)[0]
    reports_store([report(run, 0, Kind.METRICS, metrics(1, ("accuracy", 0, 0.5, 0), ("loss", 0, 2.0, 0)))], book)
    reports_store([report(run, edge, Kind.METRICS, metrics(1, ("accuracy", 1, 0.9, 1)))], book)
    reports_store([report(run, 0, Kind.METRICS, metrics(2, ("accuracy", 1, 0.75, 1), ("accuracy", 2, 0.7, 2)))], book)
    reports_store([report(run, 0, Kind.METRICS, metrics(3, ("accuracy", 3, "Infinity", 3)))], book)
    run.refresh_from_db()
    assert run.best_metric == {"name": "accuracy", "value": 0.75, "round": 1}
    assert [item["best_metric"]["value"] for frame in frames for item in items_of(frame) if item["t"] == "run"] == [
        0.5,
        0.75,
    ]


def test_the_leading_metric_is_chosen_by_its_name() -> None:
    new = [Candidate("train loss", 1.0, 0), Candidate("val/f1", 0.2, 0), Candidate("epochs", 9.0, 0)]
    assert best_metric(None, new) == {"name": "val/f1", "value": 0.2, "round": 0}
    assert best_metric(None, [Candidate("loss", 1.0, 0), Candidate("loss", 0.5, 1), Candidate("loss", 0.7, 2)]) == {
        "name": "loss",
        "value": 0.5,
        "round": 1,
    }
    assert best_metric(None, [Candidate("epochs", 1.0, 0)]) is None
    assert best_metric({"name": "accuracy", "value": 0.5, "round": 0}, [Candidate("Test/Accuracy", 0.1, 1)]) == {
        "name": "Test/Accuracy",
        "value": 0.1,
        "round": 1,
    }
    assert best_metric(None, [Candidate("accuracy", math.nan, 0)]) is None


def test_a_reporter_has_no_more_series_than_allowed(
    database: str, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series_module, "SERIES_PER_REPORTER", 3)
    run, book = run_make(), SeriesBook()
    reports_store([report(run, 0, Kind.METRICS, metrics(1, ("a", 0, 1), ("b", 0, 1)))], book)
    with pytest.raises(Refused) as caught:
        reports_store([report(run, 0, Kind.METRICS, metrics(2, ("c", 0, 1), ("d", 0, 1)))], book)
    assert caught.value.reason is Reason.TOO_MANY_SERIES
    assert Series.objects.count() == 2
    assert Receipt.objects.count() == 1
    reports_store([report(run, edges(run)[0], Kind.METRICS, metrics(2, ("c", 0, 1), ("d", 0, 1)))], book)
    assert Series.objects.count() == 4


def test_a_deleted_run_is_told_by_its_name(database: str, frames: list[Frame]) -> None:
    run, book = run_make(), SeriesBook()
    messages = [report(run, 0, Kind.METRICS, metrics(seq, ("a", 0, 1))) for seq in (1, 2)]
    reports_store(messages[:1], book)
    Run.objects.get(pk=run.pk).delete()
    with pytest.raises(Exception):  # noqa: B017, PT011 the database's own, or Run.DoesNotExist: the worker asks again
        reports_store(messages[1:], book)
    assert (Point.objects.count(), Receipt.objects.count(), Series.objects.count()) == (0, 0, 0)


def test_a_batch_is_stored_whole_or_not_at_all(
    database: str, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_make()

    def fail(*_: Any) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr("runs.telemetry.storage.frames_record", fail)
    with pytest.raises(RuntimeError):
        reports_store([report(run, 0, Kind.METRICS, metrics(1, ("a", 0, 1)))], SeriesBook())
    assert (Point.objects.count(), Receipt.objects.count(), Series.objects.count()) == (0, 0, 0)
    assert frames == []
    assert not connection.in_atomic_block


def test_frames_of_a_rolled_back_transaction_are_not_sent(database: str, frames: list[Frame]) -> None:
    run = run_make()

    def power_cut() -> None:
        with transaction.atomic():
            broadcast.frame_record(run.pk, [])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        power_cut()
    assert frames == []
    assert Run.objects.get(pk=run.pk).frame_number == 0


def test_workers_beside_each_other_store_each_message_once(database: str, frames: list[Frame]) -> None:
    """Four workers get the same messages of two runs in different orders and batches."""
    runs = [run_make(), run_make()]
    messages = [
        report(run, edge, Kind.METRICS, metrics(seq, *[(f"m{n}", seq, n) for n in range(3)]))
        for run in runs
        for edge in [0, *edges(run)]
        for seq in range(1, 9)
    ]
    failures: list[Exception] = []

    def work(seed: int) -> None:
        generator = random.Random(seed)  # noqa: S311
        mine = generator.sample(messages, len(messages))
        book = SeriesBook()
        try:
            while mine:
                size = generator.randint(1, 12)
                reports_store(mine[:size], book)
                mine = mine[size:]
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []
    assert Point.objects.count() == len(messages) * 3
    assert Receipt.objects.count() == len(messages)
    for run in runs:
        assert sum(Series.objects.filter(run=run).values_list("count", flat=True)) == len(messages) * 3 // 2
        numbers = [frame.number for frame in frames if frame.run_id == run.pk]
        assert sorted(numbers) == list(range(1, Run.objects.get(pk=run.pk).frame_number + 1))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_cutting_into_batches_with_any_replays_stores_the_same(
    database: str, frames: list[Frame], data: st.DataObject
) -> None:
    run = run_make()
    edge = edges(run)[0]
    messages = [report(run, edge, Kind.METRICS, metrics(seq, ("a", seq, seq), ("b", seq, -seq))) for seq in range(1, 7)]
    order = data.draw(st.permutations(range(6))) + data.draw(st.lists(st.integers(0, 5), max_size=6))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(order) - 1), max_size=4)))
    book = SeriesBook()
    for begin, end in zip([0, *cuts], [*cuts, len(order)], strict=True):
        reports_store([messages[index] for index in order[begin:end]], book)
    for name, sign in (("a", 1), ("b", -1)):
        series = Series.objects.get(run=run, name=name)
        assert sorted(values(series)) == [(float(n), float(sign * n), 0) for n in range(1, 7)]
        assert (series.count, series.last_step) == (6, 6.0)
