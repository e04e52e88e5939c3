"""Many callers at the same moment, on PostgreSQL: where rows are locked one by one, callers can block each other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from runs import lifecycle
from runs.models import Run, RunDevice, Stage, StageName
from runs.states import RunState
from runs.tests.conftest import Sent
from runs.tests.flow import at_once, flow_make, round_, status
from runs.tests.postgresql import PostgresqlServer, django_on_postgresql, empty_tables, migrate, postgresql_programs

pytestmark = pytest.mark.django_db(transaction=True)


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


@pytest.fixture(autouse=True)
def _on_postgresql(postgresql: PostgresqlServer, django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock(), django_on_postgresql(postgresql):
        yield
        empty_tables()


def test_runs_that_want_the_same_devices_in_another_order_do_not_block_each_other(sent: Sent) -> None:
    flow = flow_make(devices=4)
    devices = [device.pk for device in flow.devices]
    for _ in range(5):
        runs = [flow.run(device_ids=devices), flow.run(device_ids=devices[::-1]), flow.run(device_ids=devices[1:])]
        refusals = at_once([lambda run=run: lifecycle.run_start(run=run, user=flow.user) for run in runs])  # type: ignore[misc]
        assert len(refusals) == 2
        (winner,) = Run.objects.filter(state=RunState.QUEUED)
        assert RunDevice.objects.filter(holds_device=True).count() == winner.run_devices.count()
        lifecycle.run_stop(run=winner, user=flow.user)


def test_a_stage_is_claimed_once(sent: Sent) -> None:
    run = flow_make().started()
    claims: list[Stage | None] = []
    name = StageName.BUILD_SERVER
    at_once([lambda: claims.append(lifecycle.stage_claim(run_id=run.pk, name=name, claim="x")) for _ in range(6)])
    assert sum(claim is not None for claim in claims) == 1
    assert Stage.objects.get(run=run, name=name).attempt == 1


def test_reports_stops_presence_and_the_reaper_at_once_neither_block_nor_lose_anything(sent: Sent) -> None:
    flow = flow_make(devices=5)
    for _ in range(3):
        run = flow.running()
        edges = [device.pk for device in flow.devices]

        def report(edge_id: int, run: Run = run) -> None:
            for value in ("INITIALIZING", "TRAINING", "KILLED"):
                lifecycle.device_status_apply(run.pk, edge_id, status(value))
                lifecycle.device_presence_changed(edge_id)
                lifecycle.device_runs_reconcile(edge_id, [run.pk])

        def aggregate(run: Run = run) -> None:
            for index in range(5):
                lifecycle.round_apply(run.pk, round_(index, total=5))
            lifecycle.aggregator_status_apply(run.pk, status("KILLED"))

        def look(run: Run = run) -> None:
            for _ in range(5):
                lifecycle.reap()

        def stop(run: Run = run) -> None:
            time.sleep(0.02)
            lifecycle.run_stop(run=run, user=flow.user)

        at_once([*(lambda edge_id=edge_id: report(edge_id) for edge_id in edges), aggregate, look, look, stop])
        run.refresh_from_db()
        assert run.state in (RunState.KILLED, RunState.FAILED)
        assert set(run.run_devices.values_list("status", flat=True)) == {"KILLED"}
        assert not run.run_devices.filter(holds_device=True).exists()
        assert run.round_index == 4
