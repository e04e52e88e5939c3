"""Charts of long series: nothing lost or made up, on both databases, whether points are in blocks or not."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from django.db import connection
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from runs.live.payloads import value_and_flag
from runs.models import Point, PointBlock, Run, Series
from runs.telemetry import tasks
from runs.telemetry.blocks import AXES, CHUNK_POINTS, Axis, block_make
from runs.telemetry.bulk import bulk
from runs.telemetry.charts import Columns, columns_of, window_points
from runs.telemetry.columns import NAMES, PointColumns, columns_decode, columns_encode, columns_join
from runs.telemetry.packing import BLOCK_POINTS, points_pack, series_pack
from runs.telemetry.reading import points_iterate
from runs.tests.postgresql import PostgresqlServer, django_on_postgresql, empty_tables, migrate, postgresql_programs
from runs.tests.rows import run_end, run_make

pytestmark = pytest.mark.django_db(transaction=True)

Row = tuple[float, int | None, float, float]  # step, round, time, value


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


def series_make(run: Run, rows: list[Row], name: str = "loss") -> Series:
    """Make a series of points that arrived in this order, all of them in the tail."""
    series = Series.objects.create(run=run, edge_id=0, name=name, count=len(rows))
    ids = bulk().ids_reserve("runs_point", len(rows)) if rows else []
    bulk().points_insert(
        [(series.pk, id_, step, round_, time, *value_and_flag(value))
         for id_, (step, round_, time, value) in zip(ids, rows, strict=True)]
    )  # fmt: skip
    return series


def rows_random(seed: int, count: int) -> list[Row]:
    """A walk with spikes, values that are no numbers, late points, repeated steps and points without a round."""
    random = np.random.default_rng(seed)
    step = np.arange(count, dtype=float) // random.integers(1, 4)
    late = random.random(count) < random.choice([0.0, 0.01, 0.3])
    step[late] = random.integers(0, count, late.sum())
    value = np.cumsum(random.normal(size=count)).round(random.integers(0, 9)) + 0.0  # SQLite has no negative zero
    spikes = random.integers(0, count, 5)
    value[spikes] = random.normal(size=5) * 1e6
    for odd in (math.nan, math.inf, -math.inf):
        value[random.random(count) < random.choice([0.0, 0.005, 0.2])] = odd
    time = 1.7e9 + np.cumsum(random.random(count)) - random.integers(0, 50, count) * (random.random() < 0.3)
    rounds: list[int | None] = [None if random.random() < 0.1 else int(each) // 7 for each in step]
    if seed % 3 == 0:
        rounds = [None] * count
    return list(zip(step.tolist(), rounds, time.tolist(), value.tolist(), strict=True))


def inside(rows: list[Row], axis: Axis, low: float | None, high: float | None) -> list[Row]:
    place = {"step": 0, "round": 1, "time": 2}[axis]
    return [
        row
        for row in rows
        if (x := row[place]) is not None and (low is None or x >= low) and (high is None or x <= high)
    ]


def rows_of(columns: Columns) -> list[Row]:
    values = [
        {0: value, 1: math.nan, 2: math.inf, 3: -math.inf}[flag]
        for value, flag in zip(columns["value"], columns["flag"], strict=True)
    ]
    return list(zip(columns["step"], columns["round"], columns["time"], values, strict=True))  # type: ignore[arg-type]


def check(columns: Columns, rows: list[Row], axis: Axis, low: float | None, high: float | None, width: int) -> None:
    """What must hold of every answer."""
    true = inside(rows, axis, low, high)
    found = rows_of(columns)
    place = {"step": 0, "round": 1, "time": 2}[axis]
    x = [row[place] for row in found]
    assert x == sorted(x)  # type: ignore[type-var]
    assert len(set(columns["id"])) == len(columns["id"])
    texts = {repr(row) for row in true}
    assert all(repr(row) in texts for row in found)
    finite = [row[3] for row in true if math.isfinite(row[3])]
    drawn = [row[3] for row in found if math.isfinite(row[3])]
    assert len(drawn) <= width
    if len(finite) <= width:
        assert sorted(drawn) == sorted(finite)
    else:
        assert (min(drawn), max(drawn)) == (min(finite), max(finite))
        ends = [row[place] for row in true if math.isfinite(row[3])]
        assert {min(ends), max(ends)} <= set(x)  # type: ignore[type-var]
        assert len(drawn) >= width // 4
    kinds = [{repr(row[3]) for row in some if not math.isfinite(row[3])} for some in (true, found)]
    assert bool(kinds[0]) == bool(kinds[1])


def test_any_window_has_the_true_extremes_and_only_true_points_before_and_after_packing(database: str) -> None:
    run = run_make(devices=0)

    @settings(
        max_examples=12,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.integers(0, 10_000), st.integers(1, 9_000), st.sampled_from([8, 20, 100, 1_000]), st.data())
    def property_(seed: int, count: int, width: int, data: st.DataObject) -> None:
        rows = rows_random(seed, count)
        series = series_make(run, rows, name=f"{Series.objects.count()}")
        x = {"step": (0, count), "round": (0, count // 7), "time": (1.7e9, 1.7e9 + count / 2)}
        windows: list[tuple[Axis, float | None, float | None]] = []
        for axis in AXES:
            ends = sorted(data.draw(st.tuples(st.floats(0, 1), st.floats(0, 1))))
            bounds = [x[axis][0] + end * (x[axis][1] - x[axis][0]) for end in ends]
            windows += [(axis, None, None), (axis, bounds[0], bounds[1]), (axis, None, bounds[0])]

        def answers() -> list[Columns]:
            return [window_points([series], axis=a, low=b, high=c, width=width)[series.pk] for a, b, c in windows]

        before = answers()
        for columns, (axis, low, high) in zip(before, windows, strict=True):
            check(columns, rows, axis, low, high, width)
        while series_pack(series.pk):
            pass
        assert answers() == before
        while series_pack(series.pk, whole=True):
            pass
        assert not Point.objects.filter(series=series).exists()
        assert answers() == before

    property_()


@pytest.mark.parametrize("count", [1, 2, 5_000])
def test_columns_are_read_back_as_they_were(count: int) -> None:
    random = np.random.default_rng(count)
    integers = np.arange(count, dtype=float)
    for column in (
        integers,
        integers * -7 + 3,
        random.permutation(integers),
        random.permutation(integers) * 1e6,
        random.permutation(integers) * 1e14,
        np.full(count, np.nan),
        np.where(integers % 2, np.nan, integers),
        np.where(integers % 2, -0.0, integers),
        random.normal(size=count),
        np.full(count, math.inf),
    ):
        points: PointColumns = {name: column.copy() for name in NAMES}
        points["id"] = np.abs(np.nan_to_num(column, posinf=1)).astype(np.int64)
        data = columns_encode(points)
        found = columns_decode(data, count)
        assert {name: array.tobytes() for name, array in found.items()} == {
            name: array.tobytes() for name, array in points.items()
        }
        assert list(columns_decode(data, count, ["value"])) == ["value"]


def test_points_of_steady_steps_take_their_time_their_value_and_little_more() -> None:
    count = 16_384
    steps = np.arange(count, dtype=float)
    points: PointColumns = {
        "id": np.arange(count) * 20 + 5,
        "step": steps,
        "round": steps // 100,
        "time": 1.7e9 + steps / 7,
        "value": np.sin(steps),
    }
    block = block_make(points)
    assert len(block.data) + sum(map(len, block.extremes)) < 24 * count


def test_packing_takes_full_chunks_while_a_run_lasts_and_the_rest_when_no_more_can_come(database: str) -> None:
    run = run_make(devices=0)
    rows = rows_random(1, 2 * CHUNK_POINTS + 7)
    long, short = series_make(run, rows), series_make(run, rows[:3], "short")
    assert points_pack(60) == 2 * CHUNK_POINTS
    assert points_pack(60) == 0
    assert (Point.objects.filter(series=long).count(), Point.objects.filter(series=short).count()) == (7, 3)
    run_end(run, seconds_ago=10)
    assert points_pack(60) == 0
    run.refresh_from_db()
    assert run.packed_at is None
    run_end(run, seconds_ago=10_000)
    assert points_pack(60) == 10
    run.refresh_from_db()
    assert run.packed_at is not None
    assert Point.objects.count() == 0
    assert list(PointBlock.objects.order_by("series", "position").values_list("position", "count")) == [
        (0, len(rows)),
        (0, 3),
    ]
    found = columns_of(columns_join(list(points_iterate(long.pk))))
    assert repr(rows_of(found)) == repr(rows)
    assert found["id"] == sorted(found["id"])


def test_small_blocks_become_large_ones(database: str) -> None:
    run = run_make(devices=0)
    rows = rows_random(2, BLOCK_POINTS + CHUNK_POINTS)
    series = series_make(run, [])
    for start in range(0, len(rows), CHUNK_POINTS):
        ids = bulk().ids_reserve("runs_point", CHUNK_POINTS)
        some = rows[start : start + CHUNK_POINTS]
        bulk().points_insert(
            [(series.pk, id_, step, round_, time, *value_and_flag(value))
             for id_, (step, round_, time, value) in zip(ids, some, strict=True)]
        )  # fmt: skip
        Series.objects.filter(pk=series.pk).update(count=start + CHUNK_POINTS)
        assert series_pack(series.pk) == CHUNK_POINTS
    blocks = PointBlock.objects.order_by("position").values_list("position", "count")
    assert list(blocks) == [(0, BLOCK_POINTS), (BLOCK_POINTS, CHUNK_POINTS)]
    assert repr(rows_of(columns_of(columns_join(list(points_iterate(series.pk)))))) == repr(rows)
    for width in (8, 1_000):
        check(window_points([series], width=width)[series.pk], rows, "step", None, None, width)


def test_a_point_that_is_committed_late_is_not_lost(database: str) -> None:
    """Its id is less than those of points that were put into blocks before it came."""
    run = run_make(devices=0)
    rows = rows_random(4, CHUNK_POINTS)
    late = bulk().ids_reserve("runs_point", 1)[0]
    if database == "sqlite":
        late = -1  # ids are given in the order of commits there
    series = series_make(run, rows)
    assert series_pack(series.pk) == CHUNK_POINTS
    bulk().points_insert([(series.pk, late, 3.5, None, 1.7e9, 1e9, 0)])
    found = window_points([series], low=3.5, high=3.5)[series.pk]
    assert (found["id"], found["value"]) == ([late], [1e9])
    assert max(value for value in window_points([series], width=8)[series.pk]["value"] if value is not None) == 1e9


def test_two_values_at_one_step_are_both_kept_in_the_order_of_arrival(database: str) -> None:
    run = run_make(devices=0)
    rows: list[Row] = [(7.0, None, 1000.0, 2.0), (7.0, None, 999.0, 1.0), (6.0, None, 1001.0, 3.0)]
    series = series_make(run, rows)
    assert window_points([series])[series.pk]["value"] == [3.0, 2.0, 1.0]
    series_pack(series.pk, whole=True)
    assert window_points([series])[series.pk]["value"] == [3.0, 2.0, 1.0]


def test_movers_that_meet_move_each_point_once(database: str) -> None:
    run = run_make(devices=0)
    rows = rows_random(5, 40 * CHUNK_POINTS)
    series = series_make(run, rows)
    moved: list[int] = []
    failures: list[BaseException] = []

    def move() -> None:
        try:
            for _ in range(4):
                moved.append(series_pack(series.pk))
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=move) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    while count := series_pack(series.pk):
        moved.append(count)
    assert sum(moved) == len(rows)
    found = columns_of(columns_join(list(points_iterate(series.pk))))
    assert repr(rows_of(found)) == repr(rows)


def test_the_points_of_a_deleted_run_go_with_it(database: str) -> None:
    run = run_make(devices=0)
    series = series_make(run, rows_random(6, CHUNK_POINTS + 1))
    assert points_pack(60) == CHUNK_POINTS
    run.delete()
    assert series_pack(series.pk) == 0
    assert (Point.objects.count(), PointBlock.objects.count()) == (0, 0)


def test_the_task_of_the_worker_moves_points_and_may_come_twice(database: str) -> None:
    series = series_make(run_make(devices=0), rows_random(7, CHUNK_POINTS))
    tasks.points_pack()
    tasks.points_pack()
    assert (PointBlock.objects.get().series_id, Point.objects.count()) == (series.pk, 0)
