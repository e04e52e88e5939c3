"""How many points a second reach the database durably, through the broker with QoS 1.

    python benchmarks/ingest.py --database postgresql --repetitions 5

Starts a broker, Redis, the database and one real ingest worker of its own, on loopback; as many devices as asked for
publish their metrics as fast as the broker takes them. The clock runs from the first message published until the last
point is committed (PostgreSQL: synchronously written to disk; SQLite: in the write-ahead log, which survives the end of
every process, and is written to disk at checkpoints). The devices share the machine with everything else, so that the
rate is that of the whole path.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlops_site.settings")

import django
import orjson
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

CONNECTIONS = 5


def publish(port: int, user: str, password: str, messages: list[tuple[str, bytes]], started: float) -> None:
    """Publish all messages with QoS 1 over one connection, beginning at a moment of the monotonic clock."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.username_pw_set(user, password)
    client.max_inflight_messages_set(200)
    client.connect("127.0.0.1", port)
    client.loop_start()
    time.sleep(max(0.0, started - time.monotonic()))
    for topic, data in messages:
        info = client.publish(topic, data, qos=1)
    info.wait_for_publish(300)
    client.disconnect()
    client.loop_stop()


def measure(options: argparse.Namespace, broker_port: int, repetition: int) -> tuple[float, int]:
    """Publish one run's points and wait until all are stored; return the seconds and the number of points."""
    from django.conf import settings
    from django.db import connection

    from runs.models import Point, Series
    from runs.tests.rows import edges, run_make

    run = run_make(devices=options.devices)
    edge_ids = edges(run)
    shares: list[list[tuple[str, bytes]]] = [[] for _ in range(CONNECTIONS)]
    steps_a_message = max(1, options.message // options.metrics)
    messages = options.points // (options.devices * steps_a_message * options.metrics)
    for seq in range(1, messages + 1):
        for place, edge in enumerate(edge_ids):
            points = [
                {
                    "name": f"metric-{name}",
                    "step": step,
                    "time": 1.7e9 + step,
                    "value": step * 0.731 + name,
                    "round": seq,
                }
                for step in range(seq * steps_a_message, (seq + 1) * steps_a_message)
                for name in range(options.metrics)
            ]
            body = orjson.dumps({"instance": f"b{repetition}", "seq": seq, "metrics": points})
            shares[place % CONNECTIONS].append((f"runs/{run.pk}/{edge}/metrics", body))
    total = messages * options.devices * steps_a_message * options.metrics
    started = time.monotonic() + 1.0
    senders = [
        multiprocessing.get_context("fork").Process(
            target=publish, args=(broker_port, settings.MQTT_USER, settings.MQTT_PASSWORD, share, started)
        )
        for share in shares
    ]
    connection.close()
    for sender in senders:
        sender.start()
    time.sleep(max(0.0, started - time.monotonic()))
    while (stored := sum(Series.objects.filter(run=run).values_list("count", flat=True))) < total:
        if time.monotonic() - started > 120:
            raise SystemExit(f"only {stored} of {total} points arrived")
        time.sleep(0.02)
    seconds = time.monotonic() - started
    for sender in senders:
        sender.join()
    rows = Point.objects.filter(series__run=run).count()
    if rows != total:
        raise SystemExit(f"{rows} rows of {total} points")
    return seconds, total


@contextmanager
def stack(options: argparse.Namespace, folder: Path) -> Iterator[int]:
    """Start everything, point Django at it, and yield the broker's port."""
    from django.core.management import call_command
    from django.test import override_settings

    from runs.telemetry.health import ingest_health
    from runs.tests.postgresql import PostgresqlServer, django_on_postgresql
    from tests.servers import MosquittoServer, RedisServer

    with ExitStack() as everything:
        broker = everything.enter_context(MosquittoServer(folder))
        redis = everything.enter_context(RedisServer(folder))
        environment = {**os.environ, **broker.environment(), **redis.environment()}
        if options.database == "postgresql":
            server = PostgresqlServer(durable=True)
            everything.callback(server.remove)
            everything.enter_context(server)
            server.database_make()
            everything.enter_context(django_on_postgresql(server))
            environment |= server.environment()
        call_command("migrate", verbosity=0)
        for slot in range(options.workers):
            command = [sys.executable, "manage.py", "ingest", "--slot", str(slot)]
            worker = subprocess.Popen(command, env=environment, cwd=Path(__file__).parent.parent)  # noqa: S603
            everything.callback(worker.wait)
            everything.callback(worker.terminate)
        everything.enter_context(override_settings(REDIS_URL=redis.url))
        deadline = time.monotonic() + 60
        while sum(entry["connected"] for entry in ingest_health()) < options.workers:
            if time.monotonic() > deadline:
                raise SystemExit("the ingest workers did not connect")
            time.sleep(0.2)
        time.sleep(1.0)  # until they have subscribed
        yield broker.port


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="postgresql")
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument("--metrics", type=int, default=20)
    parser.add_argument("--message", type=int, default=100, help="points in a message")
    parser.add_argument("--points", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["ROUNDTABLE_VAR"] = str(folder / "var")
        os.environ["ROUNDTABLE_LOG_LEVEL"] = "WARNING"
        django.setup()
        rates = []
        with stack(options, folder) as port:
            for repetition in range(options.repetitions):
                seconds, total = measure(options, port, repetition)
                rates.append(total / seconds)
                print(f"{total} points in {seconds:.2f} s: {total / seconds:,.0f} points/s", flush=True)
    print(
        f"{options.database}, {options.workers} worker(s), {os.cpu_count()} cores, Python {platform.python_version()}: "
        f"median {statistics.median(rates):,.0f} points/s, from {min(rates):,.0f} to {max(rates):,.0f}"
    )


if __name__ == "__main__":
    main()
