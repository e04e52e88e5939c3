"""What a page starts from: consistent, bounded, and drawn by figures that plotly accepts."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import orjson
import plotly.graph_objects as go
import pytest
from django.db import connection, transaction

from devices.models import Device
from runs.live.broadcast import frame_record
from runs.live.figures import edge_styles, figures_of, prototypes, system_name, themes
from runs.live.snapshot import SHARED_SECONDS, database_snapshot, snapshot, snapshot_encoded
from runs.models import Event, LogLine, Point, Round, Run, RunDevice, Series, Stage, StoredModel
from runs.telemetry import charts
from runs.telemetry.charts import downsample, snapshot_points, window_points
from runs.telemetry.columns import columns_join
from runs.telemetry.series import SeriesBook
from runs.telemetry.storage import reports_store
from runs.telemetry.topics import Kind
from runs.tests.rows import INSTANCE, edges, metrics, report, run_make


@pytest.fixture
def run(db: None) -> Run:
    return run_make(devices=2)


def series_make(run: Run, name: str, values: list[float | None], *, kind: str = "metric", edge_id: int = 0) -> Series:
    series = Series.objects.create(run=run, edge_id=edge_id, name=name, kind=kind, count=len(values))
    Point.objects.bulk_create(
        [
            Point(
                series=series,
                step=step,
                round=step // 10 if step % 2 == 0 else None,
                time=1000.0 + step,
                value=value,
                flag=1 if value is None else 0,
            )
            for step, value in enumerate(values)
        ]
    )
    return series


def test_a_snapshot_holds_everything_of_a_run(run: Run) -> None:
    edge = edges(run)[0]
    Device.objects.filter(pk=edge).update(name="<b>lab</b>", online=False)
    Stage.objects.create(run=run, position=1, name="build_server", state="DONE")
    Round.objects.create(run=run, round_index=0, total_rounds=3, running_time=1.5)
    Event.objects.create(run=run, edge_id=edge, name="train", value="0", started_time=5.0)
    StoredModel.objects.create(
        run=run, edge_id=0, kind="aggregated", round_index=0, key="k", sha256="a" * 64, size=9, storage_name="x"
    )
    for number in range(3):
        LogLine.objects.create(
            run=run, reporter="server" if number else "edge:1", time=number, stream="stdout", line="x"
        )
    reports_store(
        [report(run, edge, Kind.METRICS, metrics(1, ("accuracy", 0, 0.5, 0), ("accuracy", 1, "NaN")))], SeriesBook()
    )
    found = snapshot(run.pk)
    assert (found["type"], found["cursor"], found["run"]["state"]) == ("snapshot", 1, "RUNNING")
    assert [(item["t"], item["name"], item["state_label"]) for item in found["stages"]] == [
        ("stage", "build_server", "Done")
    ]
    assert [(item["edge_id"], item["online"]) for item in found["devices"]] == [
        (edges(run)[0], False),
        (edges(run)[1], True),
    ]
    assert [item["round_index"] for item in found["rounds"]] == [0]
    assert [(item["name"], item["ended_time"]) for item in found["events"]] == [("train", None)]
    assert found["models"][0]["url"] == f"/runs/{run.pk}/models/{found['models'][0]['id']}/download"
    assert [(item["reporter"], len(item["lines"])) for item in found["logs"]] == [("edge:1", 1), ("server", 2)]
    (figure,) = found["figures"]
    assert (figure["id"], figure["title"]) == ("metric:accuracy", "accuracy")
    (trace,) = figure["traces"]
    assert (trace["edge_id"], trace["trace"]["name"]) == (edge, "&lt;b>lab&lt;/b>")
    columns = figure["points"][str(trace["series_id"])]
    assert (columns["step"], columns["round"], columns["value"], columns["flag"]) == (
        [0.0, 1.0],
        [0, None],
        [0.5, None],
        [0, 1],
    )
    assert orjson.loads(snapshot_encoded(run.pk, 0)[1])["figures"] == orjson.loads(orjson.dumps(found["figures"]))


def test_its_logs_and_models_are_the_latest(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runs.live.snapshot.LOG_LINES", 2)
    monkeypatch.setattr("runs.live.snapshot.MODELS", 1)
    for number in range(3):
        LogLine.objects.create(run=run, reporter="server", time=number, stream="stdout", line=str(number))
        StoredModel.objects.create(
            run=run, edge_id=0, kind="aggregated", round_index=number, key=str(number), sha256="a" * 64, size=9
        )
    found = snapshot(run.pk)
    assert [line[4] for line in found["logs"][0]["lines"]] == ["1", "2"]
    assert [item["round_index"] for item in found["models"]] == [2]


def test_a_snapshot_takes_a_fixed_number_of_queries(run: Run, django_assert_num_queries: Any) -> None:
    for name in ("a", "b", "c"):
        series_make(run, name, [1.0, 2.0])
    with django_assert_num_queries(10):
        snapshot(run.pk)


@pytest.mark.django_db(transaction=True)
def test_a_snapshot_is_of_one_moment_though_somebody_writes() -> None:
    run = run_make()
    with database_snapshot():
        before = Run.objects.get(pk=run.pk).frame_number

        def write() -> None:
            with transaction.atomic():
                frame_record(run.pk, [])
            connection.close()

        writer = threading.Thread(target=write)
        writer.start()
        writer.join(10)
        assert not writer.is_alive(), "a reader must not hold a writer up"
        assert Run.objects.get(pk=run.pk).frame_number == before
    assert Run.objects.get(pk=run.pk).frame_number == before + 1


@pytest.mark.django_db(transaction=True)
def test_pages_that_open_together_share_a_snapshot_that_is_new_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_make()
    made: list[int] = []

    def count(run_id: int) -> dict[str, Any]:
        made.append(run_id)
        return snapshot(run_id)

    monkeypatch.setattr("runs.live.snapshot.snapshot", count)
    assert snapshot_encoded(run.pk, 0)[0] == 0
    assert snapshot_encoded(run.pk, 0)[0] == 0
    assert made == [run.pk]
    with transaction.atomic():
        frame_record(run.pk, [])
    assert snapshot_encoded(run.pk, 0)[0] == 0
    assert snapshot_encoded(run.pk, 1)[0] == 1
    assert made == [run.pk] * 2
    monkeypatch.setattr("runs.live.snapshot.SHARED_SECONDS", 0.0)
    snapshot_encoded(run.pk, 0)
    assert made == [run.pk] * 3
    assert SHARED_SECONDS == 2.0


# --- charts ---------------------------------------------------------------------------------------------------------


def test_a_short_series_comes_whole_and_a_long_one_with_its_extremes(run: Run) -> None:
    values: list[float | None] = [math.sin(step / 300) for step in range(20_000)]
    values[7_777], values[12_345], values[50] = 99.0, -99.0, None
    long, short = series_make(run, "long", values), series_make(run, "short", [1.0, 2.0, 3.0])
    points = snapshot_points([long, short])
    assert points[short.pk]["value"] == [1.0, 2.0, 3.0]
    columns = points[long.pk]
    assert len(columns["value"]) <= charts.SERIES_POINTS + 1
    assert columns["step"] == sorted(columns["step"])
    assert (columns["step"][0], columns["step"][-1]) == (0.0, 19_999.0)
    assert columns["value"][columns["step"].index(7_777.0)] == 99.0
    assert columns["value"][columns["step"].index(12_345.0)] == -99.0
    assert columns["flag"][columns["step"].index(50.0)] == 1


def test_many_series_share_the_room_of_a_snapshot(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "SNAPSHOT_POINTS", 300)
    series = [series_make(run, str(number), [float(step) for step in range(200)]) for number in range(4)]
    assert all(40 <= len(columns["id"]) <= 75 for columns in snapshot_points(series).values())


def test_a_window_is_of_the_axis_that_is_asked_for(run: Run) -> None:
    series = series_make(run, "a", [float(step) for step in range(100)])
    found = window_points([series], axis="time", low=1010, high=1012)[series.pk]
    assert found["step"] == [10.0, 11.0, 12.0]
    found = window_points([series], axis="round", low=3, high=3)[series.pk]
    assert found["step"] == [30.0, 32.0, 34.0, 36.0, 38.0]
    assert window_points([series], low=500)[series.pk]["id"] == []
    assert 5 <= len(window_points([series], width=10)[series.pk]["id"]) <= 10


def test_downsampling_keeps_every_spike() -> None:
    generator = np.random.default_rng(3)
    x = np.arange(100_000, dtype=np.float64)
    value = generator.normal(size=100_000)
    spikes = generator.choice(100_000, 20, replace=False)
    value[spikes] = 50.0 * np.where(np.arange(20) % 2, 1, -1)
    chosen = downsample(x, value, 1_000)
    assert 700 < len(chosen) <= 1_000
    assert list(chosen) == sorted(set(chosen))
    assert {0, 99_999} <= set(chosen)
    for part in np.split(np.arange(100_000), 250):
        kept = value[np.intersect1d(part, chosen)]
        assert (kept.min(), kept.max()) == (value[part].min(), value[part].max())
    assert len(set(spikes) & set(chosen)) >= 19


# --- figures --------------------------------------------------------------------------------------------------------


def test_every_figure_is_one_that_plotly_accepts(run: Run) -> None:
    edge = edges(run)[0]
    reports_store(
        [
            report(run, 0, Kind.METRICS, metrics(1, ("loss", 0, 0.5, 0))),
            report(run, edge, Kind.METRICS, metrics(1, ("loss", 0, 0.5, 0))),
            report(run, edge, Kind.SYSTEM, {"instance": INSTANCE, "seq": 1, "time": 5, "gpu.1.temperature": 60}),
        ],
        SeriesBook(),
    )
    found = snapshot(run.pk)
    assert [figure["id"] for figure in found["figures"]] == ["metric:loss", "system:gpu.1.temperature"]
    for figure in found["figures"]:
        for theme in ("light", "dark"):
            for trace in figure["traces"]:
                columns = figure["points"][str(trace["series_id"])]
                drawn = {**trace["trace"], "x": columns["step"], "y": columns["value"]}
                go.Figure(data=[drawn], layout={**figure["layout"], "template": found["themes"][theme]})
    loss, gpu = found["figures"]
    widths = [trace["trace"]["line"]["width"] for trace in loss["traces"]]
    assert widths[0] > widths[1], "the aggregated curve is the bold one"
    assert (gpu["title"], gpu["layout"]["yaxis"]["ticksuffix"]) == ("GPU 1, temperature", " °C")
    assert found["names"]["cpu_utilization"] == {"title": "CPU", "unit": "%", "range": [0, 100]}
    assert found["names"]["gpu.1.temperature"]["title"] == "GPU 1, temperature"
    assert found["names"]["gpu.n.temperature"] == {"title": "GPU {n}, temperature", "unit": " °C", "range": None}


def test_a_device_has_its_own_look_that_stays(run: Run) -> None:
    styles = edge_styles(run.run_devices.select_related("device"))
    assert styles["0"]["name"] == "aggregated"
    assert edge_styles(run.run_devices.select_related("device")) == styles
    looks = {
        (style["colour"], style["dash"])
        for style in edge_styles([RunDevice(edge_id=edge, client_index=edge) for edge in range(1, 49)]).values()
    }
    assert len(looks) == 49


def test_a_name_cannot_bring_markup_into_a_figure(run: Run) -> None:
    series = Series(run=run, edge_id=0, name="<a href=x>&", kind="metric", pk=1)
    (figure,) = figures_of([], [series], {1: charts.columns_of(columns_join([]))})["figures"]
    assert figure["layout"]["title"]["text"] == "&lt;a href=x>&amp;"


def test_prototypes_and_themes_are_plain_json() -> None:
    assert set(prototypes()) == {"metric", "system"}
    assert set(prototypes()["metric"]["traces"]) == {"aggregated", "client", "band_low", "band_high", "band_middle"}
    assert set(themes()) == {"light", "dark"}
    orjson.dumps([prototypes(), themes()])
    assert system_name("unheard of") is None
