"""The real ``manage.py ingest`` with a real broker and Redis, killed and starved at bad moments."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import paho.mqtt.client as mqtt
import pytest
from django.db import connection
from django.test import override_settings
from paho.mqtt.enums import CallbackAPIVersion

from devices.broker import device_credentials_create
from devices.models import Device
from runs.models import Receipt, Run
from runs.telemetry.database import _LONGEST_WAIT_SECONDS
from runs.telemetry.health import ingest_health
from runs.telemetry.receiver import Receiver
from runs.telemetry.topics import Kind
from runs.tests.ingest_process import (
    Publisher,
    assert_numbered,
    ingest_process,
    is_subscribed,
    numbered,
    stored_points,
    until,
)
from runs.tests.postgresql import PostgresqlServer, django_on_postgresql, migrate, postgresql_programs
from runs.tests.rows import edges, run_make, topic
from tests.servers import MosquittoServer

pytestmark = pytest.mark.django_db(transaction=True)

POINTS = 20  # in a message
AWAY_SECONDS = _LONGEST_WAIT_SECONDS + 2.0


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[MosquittoServer]:
    with MosquittoServer(tmp_path) as server, override_settings(MQTT_PORT=server.port):
        yield server


@pytest.fixture
def publisher(own_broker: MosquittoServer) -> Iterator[Publisher]:
    client = Publisher()
    yield client
    client.close()


def message(seq: int) -> dict[str, Any]:
    return numbered(seq, POINTS)


def is_whole(run: Run, edge: int, count: int) -> bool:
    return stored_points(run, edge, count * POINTS) == count * POINTS


def assert_exact(run: Run, edge: int, count: int) -> None:
    assert_numbered(run, edge, count, POINTS)


def test_killed_at_random_moments_it_stores_each_of_100_000_points_once(
    own_broker: MosquittoServer, publisher: Publisher, redis_url: str
) -> None:
    run = run_make()
    edge, count, points = edges(run)[0], 1_000, 100

    def publish_slowly() -> None:
        for seq in range(1, count + 1):
            publisher.send(topic(run, edge, Kind.METRICS), numbered(seq, points))
            time.sleep(0.008)

    with ingest_process(own_broker) as worker:
        worker.start()
        until(lambda: is_subscribed(publisher, run))
        sent = threading.Thread(target=publish_slowly)
        sent.start()
        generator = random.Random(7)  # noqa: S311
        for _ in range(6):
            time.sleep(generator.uniform(0.05, 2.0))
            worker.end(signal.SIGKILL)
            worker.start()
        sent.join()
        until(lambda: stored_points(run, edge, count * points) == count * points)
        worker.end()
    assert_numbered(run, edge, count, points)
    assert Receipt.objects.filter(run=run, edge_id=edge).count() == count


def test_what_comes_while_it_is_away_is_there_afterwards(
    own_broker: MosquittoServer, publisher: Publisher, redis_url: str
) -> None:
    """More messages than a broker keeps with its default settings; and it ends cleanly, telling how it is before."""
    run = run_make()
    edge, count = edges(run)[0], 1500
    with ingest_process(own_broker) as worker:
        worker.start()
        until(lambda: is_subscribed(publisher, run))
        worker.end()
        for seq in range(1, count + 1):
            sent = publisher.send(topic(run, edge, Kind.METRICS), message(seq))
        sent.wait_for_publish(20)
        worker.start()
        until(lambda: is_whole(run, edge, count))
        time.sleep(2.2)
        (health,) = [entry for entry in ingest_health() if entry["slot"] == 0]
        log = worker.end()
    assert_exact(run, edge, count)
    assert (health["alive"], health["connected"], health["points"], health["refused"]) == (
        True,
        True,
        count * POINTS,
        {},
    )
    assert "Traceback" not in log


def test_it_lives_through_a_restart_of_the_broker(
    own_broker: MosquittoServer, publisher: Publisher, redis_url: str
) -> None:
    run = run_make()
    device = Device.objects.get(pk=edges(run)[0])
    with ingest_process(own_broker) as worker:
        worker.start()
        until(lambda: is_subscribed(publisher, run))
        own_broker.stop()
        waiting = [publisher.send(topic(run, device.pk, Kind.METRICS), message(seq)) for seq in range(1, 51)]
        own_broker.start()
        until(lambda: all(each.is_published() for each in waiting if each.rc == mqtt.MQTT_ERR_SUCCESS))
        until(lambda: is_whole(run, device.pk, 50))
        # A presence that was retained while nobody heard is heard at the next start.
        worker.end()
        Device.objects.filter(pk=device.pk).update(online=False)
        presence = {"state": "ONLINE", "boot": "b7", "time": time.time(), "runs": []}
        publisher._client.publish(f"edges/{device.pk}/presence", orjson.dumps(presence), qos=1, retain=True)
        worker.start()
        until(lambda: Device.objects.get(pk=device.pk).online)
        worker.end()
    assert_exact(run, device.pk, 50)


def test_two_processes_of_one_slot_say_so(own_broker: MosquittoServer, caplog: pytest.LogCaptureFixture) -> None:
    first, second = Receiver(3), Receiver(3)
    try:
        first.start()
        second.start()
        until(lambda: "Another ingest process seems to use slot 3" in caplog.text)
    finally:
        first.close()
        second.close()


def test_a_guessed_client_id_takes_no_session_over(
    own_broker: MosquittoServer, publisher: Publisher, redis_url: str
) -> None:
    """The broker lets any credential take a session over by its client id; the same id at each start keeps it."""
    run = run_make()
    edge = edges(run)[0]
    login = device_credentials_create(edge)
    stranger = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="ingest-0", protocol=mqtt.MQTTv5)
    stranger.username_pw_set(login.agent_user, login.agent_password)
    with ingest_process(own_broker) as worker:
        worker.start()
        until(lambda: is_subscribed(publisher, run))
        worker.end(signal.SIGKILL)
        stranger.connect("127.0.0.1", own_broker.port, clean_start=True)
        stranger.loop_start()
        until(stranger.is_connected)
        for seq in range(1, 21):
            sent = publisher.send(topic(run, edge, Kind.METRICS), message(seq))
        sent.wait_for_publish(20)
        worker.start()
        until(lambda: is_whole(run, edge, 20))
        assert stranger.is_connected()
        stranger.disconnect()
        stranger.loop_stop()
        assert "Lost the broker" not in worker.end()
    assert_exact(run, edge, 20)


def test_a_slot_that_is_given_up_leaves_its_share_to_the_others(
    own_broker: MosquittoServer, publisher: Publisher, redis_url: str
) -> None:
    run = run_make()
    edge = edges(run)[0]
    with ingest_process(own_broker, 0) as zero, ingest_process(own_broker, 1) as one:
        zero.start()
        one.start()
        until(lambda: is_subscribed(publisher, run))
        until(lambda: own_broker.log.read_text().count("as ingest-") == 2)
        zero.end()
        one.end()
        for seq in range(1, 41):  # with both away the broker shares them out between the two
            sent = publisher.send(topic(run, edge, Kind.METRICS), message(seq))
        sent.wait_for_publish(20)
        one.start("--retire")
        assert one.wait().startswith("0\n")
        for seq in range(41, 61):
            publisher.send(topic(run, edge, Kind.METRICS), message(seq))
        zero.start()
        until(lambda: is_whole(run, edge, 60))
        zero.end()
    assert_exact(run, edge, 60)


@pytest.mark.skipif(postgresql_programs() is None, reason="PostgreSQL is not installed")
def test_it_waits_for_a_database_that_is_away(
    own_broker: MosquittoServer, publisher: Publisher, redis_url: str
) -> None:
    """PostgreSQL is stopped while messages arrive, for longer than any wait, and the worker is killed on top of it."""
    database, count = PostgresqlServer(), 300
    try:
        database.start()
        database.database_make()
        with django_on_postgresql(database):
            migrate()
            run = run_make()
            edge = edges(run)[0]
            with ingest_process(own_broker, 0, database.url) as worker:
                worker.start()
                until(lambda: is_subscribed(publisher, run))
                connection.close()
                for seq in range(1, count + 1):
                    publisher.send(topic(run, edge, Kind.METRICS), message(seq))
                    if seq == 100:
                        time.sleep(0.1)
                        database.stop()
                    if seq == 200:
                        worker.end(signal.SIGKILL)
                        worker.start()
                    time.sleep(0.002)
                until(lambda: ingest_health()[0]["database_away_since"] is not None)
                time.sleep(AWAY_SECONDS)
                database.start()
                until(database.is_ready)
                until(lambda: is_whole(run, edge, count))
                log = worker.end()
            assert_exact(run, edge, count)
            assert "The database is back after" in log
    finally:
        database.stop()
        database.remove()
