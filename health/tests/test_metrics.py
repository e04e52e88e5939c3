"""``GET /metrics``: what it tells, and whom."""

from __future__ import annotations

import re
from datetime import timedelta
from unittest import mock

import pytest
from django.conf import settings
from django.db import OperationalError
from django.test import Client, override_settings
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import DjangoAssertNumQueries

from accounts.tests.objects import make_device, make_project, make_run, make_user
from mlops_site.celery import BUILDS_QUEUE, TASKS_QUEUE
from runs.live.frames import redis_client
from runs.models import Stage, StageName
from runs.pipeline.heartbeat import reap_noted
from runs.states import RunState, StageState
from runs.telemetry.health import Counters, health_publish

Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def read(client: Client, **headers: str) -> Values:
    response = client.get("/metrics", headers=headers)
    assert response.status_code == 200, response.content
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        (sample.name.removeprefix("roundtable_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.content.decode())
        for sample in family.samples
    }


def value(values: Values, name: str, **labels: str) -> float:
    return values[name, tuple(sorted(labels.items()))]


@pytest.mark.django_db
def test_runs_devices_and_stages_are_counted(client: Client, redis_url: str) -> None:
    ada = make_user("ada")
    make_device(ada)
    make_device(ada, "ward-south", online=False)
    make_device(ada, "gone", online=False, unbound_at=timezone.now())
    project = make_project(ada)
    run = make_run(project, state=RunState.RUNNING)
    make_run(project, state=RunState.FAILED)
    make_run(project, state=RunState.FAILED)
    began = timezone.now() - timedelta(minutes=5)
    for position, (name, seconds, state) in enumerate(
        [
            (StageName.BUILD_SERVER, 30.0, StageState.DONE),
            (StageName.BUILD_CLIENT, 12.5, StageState.DONE),
            (StageName.LAUNCH, 1.0, StageState.FAILED),
        ]
    ):
        ended = began + timedelta(seconds=seconds)
        Stage.objects.update_or_create(
            run=run,
            name=name,
            defaults={"position": position, "state": state, "started_at": began, "ended_at": ended},
        )
    Stage.objects.create(run=run, name=StageName.DISPATCH, position=5, state=StageState.ACTIVE, started_at=began)
    values = read(client)
    assert value(values, "runs", state="running") == 1
    assert value(values, "runs", state="failed") == 2
    assert value(values, "runs", state="queued") == 0
    assert value(values, "devices", presence="online") == 1
    assert value(values, "devices", presence="offline") == 1
    assert value(values, "stages", state="active") == 1
    assert value(values, "stage_seconds_sum", stage="build_server", result="done") == 30.0
    assert value(values, "stage_seconds_count", stage="build_client", result="done") == 1
    assert value(values, "stage_seconds_sum", stage="launch", result="failed") == 1.0


@pytest.mark.django_db
def test_ingest_the_queue_and_the_reaper_are_told(client: Client, redis_url: str) -> None:
    redis_client().flushdb()
    counters = Counters(0, received=9, stored=6, duplicate=1, points=120, refused={"schema": 2}, connected=True)
    counters.lag_seconds = 0.5
    health_publish(counters)
    redis_client().rpush(TASKS_QUEUE, "one", "two")
    redis_client().rpush(BUILDS_QUEUE, "three")
    reap_noted()
    values = read(client)
    redis_client().delete(TASKS_QUEUE, BUILDS_QUEUE)
    assert value(values, "redis_up") == 1
    assert value(values, "ingest_messages_received_total", slot="0") == 9
    assert value(values, "ingest_messages_stored_total", slot="0") == 6
    assert value(values, "ingest_messages_duplicate_total", slot="0") == 1
    assert value(values, "ingest_messages_refused_total", slot="0", reason="schema") == 2
    assert value(values, "ingest_messages_refused_total", slot="0", reason="run_ended") == 0
    assert value(values, "ingest_points_total", slot="0") == 120
    assert value(values, "ingest_lag_seconds", slot="0") == 0.5
    assert value(values, "ingest_connected", slot="0") == 1
    assert value(values, "ingest_alive", slot="0") == 1
    assert value(values, "tasks_waiting", queue="tasks") == 2
    assert value(values, "tasks_waiting", queue="builds") == 1
    assert value(values, "tasks_taken") == 0
    assert value(values, "reaper_age_seconds") < 5
    assert value(values, "websockets") == 0


@pytest.mark.django_db
def test_open_pages_are_counted(client: Client, redis_url: str) -> None:
    with redis_client().pubsub() as page:  # type: ignore[no-untyped-call]
        page.subscribe("roundtablespecific.0123456789abcdef", "roundtable__group__run.1")
        for _ in range(2):
            page.get_message(timeout=2)
        assert value(read(client), "websockets") == 1


@pytest.mark.django_db
def test_the_database_s_figures_are_there_without_redis(client: Client) -> None:
    with override_settings(REDIS_URL="redis://127.0.0.1:1/0"):
        values = read(client)
    assert value(values, "redis_up") == 0
    assert value(values, "runs", state="running") == 0
    assert not [name for name, _ in values if name.startswith("ingest")]


@pytest.mark.django_db
def test_its_queries_do_not_grow(
    client: Client, redis_url: str, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    project = make_project(make_user("ada"))
    for _ in range(3):
        make_run(project)
    with django_assert_num_queries(4):
        read(client)


@pytest.mark.django_db
def test_the_token_of_the_settings_opens_it_from_anywhere(redis_url: str) -> None:
    far = Client(REMOTE_ADDR="203.0.113.9")
    with override_settings(METRICS_TOKEN="the-token"):
        assert value(read(far, Authorization="Bearer the-token"), "redis_up") == 1
        for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": "Basic the-token"}):
            response = far.get("/metrics", headers=headers)
            assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert b"roundtable_" not in response.content
        assert Client().get("/metrics").status_code == 401  # also from this machine


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("address", "headers"),
    [
        ("203.0.113.9", {}),
        ("", {}),
        ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}),
        ("127.0.0.1", {"Forwarded": "for=127.0.0.1"}),
        ("::1", {"X-Real-Ip": "::1"}),
    ],
)
def test_without_a_token_this_machine_alone_reads_it(address: str, headers: dict[str, str]) -> None:
    response = Client(REMOTE_ADDR=address).get("/metrics", headers=headers)
    assert response.status_code == 403
    assert "ROUNDTABLE_METRICS_TOKEN" in response.json()["error"]


@pytest.mark.django_db
@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1"])
def test_this_machine_reads_it(address: str, redis_url: str) -> None:
    assert Client(REMOTE_ADDR=address).get("/metrics").status_code == 200


@pytest.mark.django_db
def test_it_says_that_the_database_is_away(client: Client) -> None:
    with mock.patch("health.metrics.Run.objects.order_by", side_effect=OperationalError("gone")):
        response = client.get("/metrics")
    assert (response.status_code, response.json()) == (503, {"error": "The database does not answer."})


@pytest.mark.django_db
def test_another_method_is_refused(client: Client) -> None:
    assert client.post("/metrics").status_code == 405


@pytest.mark.django_db
@pytest.mark.parametrize(("path", "status"), [("/metrics", 200), ("/healthz", 200), ("/health/", 301)])
def test_what_is_read_from_within_is_not_sent_to_tls(client: Client, redis_url: str, path: str, status: int) -> None:
    with override_settings(SECURE_SSL_REDIRECT=True):
        assert client.get(path).status_code == status


@pytest.mark.django_db
def test_every_figure_is_documented(client: Client, redis_url: str) -> None:
    run = make_run(make_project(make_user("ada")))
    now = timezone.now()
    Stage.objects.create(
        run=run, name=StageName.LAUNCH, position=5, state=StageState.DONE, started_at=now, ended_at=now
    )
    health_publish(Counters(0))
    reap_noted()
    told = {f"roundtable_{name}" for name, _ in read(client)}
    text = (settings.BASE_DIR / "docs" / "operations.md").read_text()
    table = text.partition("\n## Metrics\n")[2].partition("\nWorth an alert")[0]
    assert told == set(re.findall(r"`(roundtable_[a-z_]+)`", table))
