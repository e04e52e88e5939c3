"""How many points a second reach the database durably, through the broker with QoS 1, against MLflow and raw COPY.

    python benchmarks/ingest.py --repetitions 5

Starts a broker, Redis, PostgreSQL, real ingest workers and an MLflow server of its own, on loopback. Each repetition
measures, one after the other on the same PostgreSQL (synchronous commit, fsync on):

    platform    50 devices with 20 metrics publish as fast as the broker takes it, in messages of 100 points
    COPY        the very rows that the platform stored, sent as one COPY into a table of the same columns and indexes
    MLflow      one client, and eight at once, call ``log_batch`` with 1,000 points, the most that it takes

and the platform once more on SQLite. The clock of the platform runs from the first message published until another
connection sees the last point, so that only what is committed counts; that of the others until the commit returns.
PostgreSQL has written it to disk by then; SQLite has it in the write-ahead log, which survives the end of any process.
The senders share the machine with everything else, so that each rate is that of the whole path. Writes its section of
``benchmarks/RESULTS.md``.

    python benchmarks/ingest.py --only sqlite --workers 2 --repetitions 3

measures the platform alone, and leaves RESULTS.md as it is.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlops_site.settings")

import django
import orjson
import paho.mqtt.client as mqtt
import psycopg
from mlflow_peer import VERSION as MLFLOW_VERSION
from mlflow_peer import MlflowServer
from paho.mqtt.enums import CallbackAPIVersion

RESULTS = Path(__file__).with_name("RESULTS.md")
TITLE = "## Durable ingest (benchmarks/ingest.py)"
CONNECTIONS = 5
MLFLOW_POINTS = 8_000  # of a client alone; eight at once have half of that each


@dataclass
class Rates:
    """Points a second, one value a repetition."""

    platform: list[float] = field(default_factory=list)
    sqlite: list[float] = field(default_factory=list)
    copy: list[float] = field(default_factory=list)
    mlflow_one: list[float] = field(default_factory=list)
    mlflow_eight: list[float] = field(default_factory=list)


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


def measure(options: argparse.Namespace, broker_port: int, repetition: int) -> tuple[float, int, int]:
    """Publish one run's points and wait until all are stored; return seconds, number of points, and the run."""
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
    return seconds, total, run.pk


def copy_measure(database_url: str, run_id: int, total: int) -> float:
    """Send the rows that a run's points became once more, by COPY into a new table; return the seconds."""
    with psycopg.connect(database_url.replace("postgres://", "postgresql://")) as session:
        wanted = f"SELECT p.* FROM runs_point p JOIN runs_series s ON s.id = p.series_id WHERE s.run_id = {int(run_id)}"  # noqa: S608
        with session.cursor().copy(f"COPY ({wanted} ORDER BY p.id) TO STDOUT") as copy:
            rows = b"".join(bytes(block) for block in copy)
        session.execute("CREATE TABLE bench_copy (LIKE runs_point INCLUDING ALL)")
        session.commit()
        began = time.monotonic()
        with session.cursor().copy("COPY bench_copy FROM STDIN") as copy:
            copy.write(rows)
        session.commit()
        seconds = time.monotonic() - began
        found = session.execute("SELECT count(*) FROM bench_copy").fetchone()
        if found != (total,):
            raise SystemExit(f"COPY stored {found} rows of {total}")
        session.execute("DROP TABLE bench_copy")
    return seconds


def mlflow_measure(server: MlflowServer, database_url: str, clients: int, options: argparse.Namespace) -> float:
    """Let clients log to MLflow, and return the points a second of all together."""
    each = MLFLOW_POINTS // (1 if clients == 1 else 2)
    before = _mlflow_rows(database_url)
    seconds = server.log(clients, each, options.metrics)
    stored = _mlflow_rows(database_url) - before
    if stored != clients * each:
        raise SystemExit(f"MLflow stored {stored} of {clients * each} points")
    return clients * each / seconds


def _mlflow_rows(database_url: str) -> int:
    with psycopg.connect(database_url) as session:
        found = session.execute("SELECT count(*) FROM metrics").fetchone()
    return int(found[0]) if found else 0


@dataclass(frozen=True)
class Stack:
    """Where everything is. ``database_url`` is empty for SQLite."""

    broker_port: int
    database_url: str


@contextmanager
def stack(options: argparse.Namespace, folder: Path, database: str) -> Iterator[Stack]:
    """Start everything and point Django at it."""
    from django.core.management import call_command
    from django.test import override_settings

    from runs.telemetry.health import ingest_health
    from runs.tests.postgresql import PostgresqlServer, django_on_postgresql
    from tests.servers import MosquittoServer, RedisServer

    with ExitStack() as everything:
        broker = everything.enter_context(MosquittoServer(folder))
        redis = everything.enter_context(RedisServer(folder))
        environment = {**os.environ, **broker.environment(), **redis.environment()}
        database_url = ""
        if database == "postgresql":
            server = PostgresqlServer(durable=True)
            everything.callback(server.remove)
            everything.enter_context(server)
            server.database_make()
            everything.enter_context(django_on_postgresql(server))
            environment |= server.environment()
            database_url = server.url
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
        yield Stack(broker.port, database_url)


def compare(options: argparse.Namespace, folder: Path) -> Rates:
    """Measure every side, in turn."""
    rates = Rates()
    with stack(options, folder, "postgresql") as made:
        base = made.database_url.rpartition("/")[0].replace("postgres://", "postgresql://")
        with psycopg.connect(f"{base}/postgres", autocommit=True) as session:
            session.execute("CREATE DATABASE mlflow")
        with MlflowServer(folder / "mlflow", f"{base}/mlflow".replace("://", "+psycopg2://")) as server:
            for repetition in range(options.repetitions):
                seconds, total, run_id = measure(options, made.broker_port, repetition)
                rates.platform.append(total / seconds)
                rates.copy.append(total / copy_measure(made.database_url, run_id, total))
                rates.mlflow_one.append(mlflow_measure(server, f"{base}/mlflow", 1, options))
                rates.mlflow_eight.append(mlflow_measure(server, f"{base}/mlflow", 8, options))
                print(
                    f"platform {rates.platform[-1]:,.0f}, COPY {rates.copy[-1]:,.0f}, MLflow with one client "
                    f"{rates.mlflow_one[-1]:,.0f}, with eight {rates.mlflow_eight[-1]:,.0f} points/s",
                    flush=True,
                )
    rates.sqlite = sqlite_measure(options)
    return rates


def sqlite_measure(options: argparse.Namespace) -> list[float]:
    """Measure the platform on SQLite in a process of its own: this one's settings are those of PostgreSQL."""
    command = [sys.executable, __file__, "--only", "sqlite", "--repetitions", str(options.repetitions)]
    for name in ("devices", "metrics", "message", "points", "workers"):
        command += [f"--{name}", str(getattr(options, name))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603  this program
    rates: list[float] = json.loads(done.stdout.splitlines()[-1])
    return rates


def alone(options: argparse.Namespace, folder: Path) -> list[float]:
    """Measure the platform alone on one database."""
    rates = []
    with stack(options, folder, options.only) as made:
        for repetition in range(options.repetitions):
            seconds, total, _ = measure(options, made.broker_port, repetition)
            rates.append(total / seconds)
            print(f"{options.only}: {total} points in {seconds:.2f} s: {total / seconds:,.0f} points/s", flush=True)
    return rates


def row(name: str, values: list[float]) -> str:
    return f"| {name} | {statistics.median(values):,.0f} | {min(values):,.0f} to {max(values):,.0f} |"


def ratio(ours: list[float], theirs: list[float]) -> str:
    values = [own / other for own, other in zip(ours, theirs, strict=True)]
    return f"{statistics.median(values):.2f} times ({min(values):.2f} to {max(values):.2f})"


def section(rates: Rates, options: argparse.Namespace, postgresql: str) -> str:
    """Return this benchmark's section of the results."""
    best = [max(pair) for pair in zip(rates.mlflow_one, rates.mlflow_eight, strict=True)]
    load = f"{os.getloadavg()[2]:.1f}"
    lines = [
        TITLE,
        "",
        f"{datetime.now():%Y-%m-%d}, {os.cpu_count()} cores (load average {load}), Linux {platform.release()}, Python "
        f"{platform.python_version()}, Django {django.__version__}, {postgresql}, MLflow {MLFLOW_VERSION} with its "
        f"four workers, {options.workers} ingest worker(s); {options.devices} devices with {options.metrics} metrics, "
        f"{options.points:,} points a repetition in messages of {options.message}; {len(rates.platform)} repetitions, "
        "the sides in turn. Points a second:",
        "",
        "| | median | spread |",
        "|---|---|---|",
        row("platform, PostgreSQL", rates.platform),
        row("platform, SQLite", rates.sqlite),
        row("raw COPY of the same rows, same indexes", rates.copy),
        row("MLflow `log_batch`, one client", rates.mlflow_one),
        row("MLflow `log_batch`, eight clients", rates.mlflow_eight),
        "",
        f"The platform stores {ratio(rates.platform, best)} what MLflow does at its best (aim: 5), and "
        f"{ratio(rates.platform, rates.copy)} what raw COPY does (aim: 0.33). Aim of the rate itself: 20,000.",
    ]
    return "\n".join(lines) + "\n"


def results_write(text: str) -> None:
    """Replace this benchmark's section of the results."""
    before = RESULTS.read_text() if RESULTS.exists() else "# Results\n"
    kept = re.sub(rf"{re.escape(TITLE)}\n.*?(?=^## |\Z)", "", before, flags=re.DOTALL | re.MULTILINE)
    RESULTS.write_text(f"{kept.rstrip()}\n\n{text}")


def postgresql_version() -> str:
    from runs.tests.postgresql import postgresql_programs

    programs = postgresql_programs()
    if programs is None:
        raise SystemExit("PostgreSQL is missing. Type: apt-get install postgresql")
    told = subprocess.run([str(programs / "postgres"), "--version"], stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    return "PostgreSQL " + told.stdout.split()[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["sqlite", "postgresql"], help="the platform alone, on this database")
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument("--metrics", type=int, default=20)
    parser.add_argument("--message", type=int, default=100, help="points in a message")
    parser.add_argument("--points", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--no-results", action="store_true", help="leave RESULTS.md as it is")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rt-ingest-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL runs as another user where this is root's
        os.environ["ROUNDTABLE_VAR"] = str(folder / "var")
        os.environ["ROUNDTABLE_LOG_LEVEL"] = "WARNING"
        django.setup()
        if options.only:
            print(json.dumps(alone(options, folder)))
            return
        text = section(compare(options, folder), options, postgresql_version())
    print(text)
    if not options.no_results:
        results_write(text)


if __name__ == "__main__":
    main()
