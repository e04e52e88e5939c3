"""Whether the platform stays as quick and as small as it is while it is filled and worked.

    python benchmarks/growth.py --sizes 1000000 10000000 50000000 --soak 1200

Starts a broker, Redis, PostgreSQL, one ingest worker, the web process, and the worker with its beat, on loopback. At
each size, of as many points in series of 100,000 that ended runs left behind, it measures the rate of durable ingest as
``ingest.py`` does, and the first view and random windows of one chart of ten of these series. Then devices publish
points at a steady rate, the worker moves them into blocks, and a chart is asked for each second, for as long as
``--soak`` says (seconds), while the resident memory of each process is noted. Writes its section of ``RESULTS.md``.
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
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlops_site.settings")

import charts
import django
import ingest
import numpy as np
import orjson

REPOSITORY = Path(__file__).resolve().parent.parent
TITLE = "## Growth (benchmarks/growth.py)"
LENGTH = 100_000
ASKED = 10  # series of a chart


@dataclass
class Size:
    """What was measured at a number of stored points."""

    points: int
    rates: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    zooms: list[float] = field(default_factory=list)
    bytes_a_point: float = 0.0


def fill(run_id: int, stored: int, size: int) -> list[charts.Stored]:
    """Store series until there are ``size`` points; return the last ones."""
    made: list[charts.Stored] = []
    for number in range(stored // LENGTH, size // LENGTH):
        made = [*made[1 - ASKED :], charts.series_fill(run_id, f"filled-{number}", LENGTH, number)]
    return made


def size_measure(options: argparse.Namespace, size: Size, chart: charts.Chart, broker_port: int, turn: int) -> None:
    """Measure ingest and charts, in turn."""
    from django.db import connection

    random = np.random.default_rng(turn)
    chart.ask(None, None)
    for repetition in range(options.repetitions):
        size.first.append(chart.ask(None, None))
        windows = np.sort(random.random((10, 2)), axis=1) * LENGTH
        size.zooms += [chart.ask(low, high) for low, high in windows.tolist()]
        seconds, total = ingest.measure(options, broker_port, turn * 100 + repetition)
        size.rates.append(total / seconds)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_total_relation_size('runs_pointblock')::float8 / GREATEST(sum(count), 1) FROM runs_pointblock"
        )
        size.bytes_a_point = cursor.fetchone()[0]


def publish_steadily(port: int, user: str, password: str, topics: list[str], rate: int, seconds: float) -> None:
    """Publish ``rate`` points a second, 20 in a message, from devices in turn."""
    import paho.mqtt.client as mqtt
    from paho.mqtt.enums import CallbackAPIVersion

    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.username_pw_set(user, password)
    client.connect("127.0.0.1", port)
    client.loop_start()
    began = time.monotonic()
    for number in range(int(seconds * rate / 20)):
        time.sleep(max(0.0, began + number * 20 / rate - time.monotonic()))
        metrics = [
            {"name": f"metric-{name}", "step": number, "time": time.time(), "value": number * 0.7 + name}
            for name in range(20)
        ]
        body = orjson.dumps({"instance": "soak", "seq": number + 1, "metrics": metrics})
        client.publish(topics[number % len(topics)], body, qos=1)
    client.disconnect()
    client.loop_stop()


def soak(
    options: argparse.Namespace, processes: dict[str, int], chart: charts.Chart, broker_port: int
) -> dict[str, list[float]]:
    """Work for a while; return the resident memory of each process, in MiB, at twenty moments."""
    from django.conf import settings
    from django.db import connection

    from runs.tests.rows import edges, run_make

    run = run_make(devices=10)
    topics = [f"runs/{run.pk}/{edge}/metrics" for edge in edges(run)]
    connection.close()
    sender = multiprocessing.get_context("fork").Process(
        target=publish_steadily,
        args=(broker_port, settings.MQTT_USER, settings.MQTT_PASSWORD, topics, options.rate, options.soak),
    )
    sender.start()
    memory: dict[str, list[float]] = {name: [] for name in processes}
    began = time.monotonic()
    for moment in range(20):
        while time.monotonic() < began + options.soak * (moment + 1) / 20:
            chart.ask(None, None)
            time.sleep(1.0)
        for name, pid in processes.items():
            memory[name].append(resident(pid))
    sender.join()
    return memory


def resident(pid: int) -> float:
    """The resident memory of a process and of its children, in MiB."""
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    pages = sum(int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass
class Stack:
    """What runs."""

    broker_port: int
    environment: dict[str, str]
    pids: dict[str, int]


@contextmanager
def stack(folder: Path) -> Iterator[Stack]:
    """Start broker, Redis, PostgreSQL, one ingest worker, and the worker with its beat; point Django at them."""
    from django.core.management import call_command
    from django.test import override_settings

    from runs.telemetry.health import ingest_health
    from runs.tests.postgresql import PostgresqlServer, django_on_postgresql
    from tests.servers import MosquittoServer, RedisServer

    with ExitStack() as everything:
        broker = everything.enter_context(MosquittoServer(folder))
        redis = everything.enter_context(RedisServer(folder))
        server = PostgresqlServer(durable=True)
        everything.callback(server.remove)
        everything.enter_context(server)
        server.database_make()
        everything.enter_context(django_on_postgresql(server))
        environment = {**os.environ, **broker.environment(), **redis.environment(), **server.environment()}
        call_command("migrate", verbosity=0)
        commands = {
            "ingest": [sys.executable, "manage.py", "ingest", "--slot", "0"],
            "worker and beat": [
                sys.executable, "-m", "celery", "-A", "mlops_site", "worker", "-B", "-s", str(folder / "beat"),
                "--concurrency", "1", "--loglevel", "ERROR",
            ],
        }  # fmt: skip
        pids: dict[str, int] = {}
        for name, command in commands.items():
            process = subprocess.Popen(command, env=environment, cwd=REPOSITORY)  # noqa: S603
            everything.callback(process.wait)
            everything.callback(process.terminate)
            pids[name] = process.pid
        everything.enter_context(override_settings(REDIS_URL=redis.url))
        charts.wait_until(lambda: any(entry["connected"] for entry in ingest_health()), "the ingest worker", 120)
        time.sleep(1.0)  # until it has subscribed
        yield Stack(broker.port, environment, pids)


def measure(options: argparse.Namespace, folder: Path) -> tuple[list[Size], dict[str, list[float]]]:
    """Fill, measure at each size, and work for a while."""
    from django.db import connection
    from django.test import Client

    from runs.tests.rows import run_end, run_make, user_make

    with ExitStack() as everything:
        running = everything.enter_context(stack(folder))
        user = user_make("bench")
        run = run_make(user=user, devices=0)
        run_end(run, seconds_ago=86_400)
        client = Client()
        client.force_login(user)
        cookie = f"sessionid={client.cookies['sessionid'].value}"
        port, web = charts.web_start(everything, running.environment, folder)
        sizes: list[Size] = []
        stored = 0
        for turn, points in enumerate(sorted(options.sizes)):
            began = time.monotonic()
            series = fill(run.pk, stored, points)
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")
            stored = points
            print(f"{points:,} points are stored after {time.monotonic() - began:.0f} s", flush=True)
            chart = charts.Chart(port, cookie, series, "binary")
            sizes.append(Size(points))
            size_measure(options, sizes[-1], chart, running.broker_port, turn)
            print(sizes[-1], flush=True)
        memory: dict[str, list[float]] = {}
        if options.soak:
            memory = soak(options, {"web": web, **running.pids}, chart, running.broker_port)
        return sizes, memory


def section(options: argparse.Namespace, sizes: list[Size], memory: dict[str, list[float]], load: float) -> str:
    """Return the section of the results."""
    head = (
        f"{datetime.now():%Y-%m-%d}, {os.cpu_count()} cores (load {load:.1f} at the start), {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}, Django {django.__version__}, PostgreSQL. Charts of "
        f"{ASKED} series of {LENGTH:,} points, in milliseconds; ingest of {options.points:,} points from "
        f"{options.devices} devices, in points a second; {options.repetitions} repetitions; median (spread)."
    )
    lines = [TITLE, "", head, "", "| stored points | ingest | first view | windows | bytes a point |"]
    lines += ["|---|---|---|---|---|"]
    for size in sizes:
        rate = f"{statistics.median(size.rates):,.0f} ({min(size.rates):,.0f} to {max(size.rates):,.0f})"
        lines.append(
            f"| {size.points:,} | {rate} | {charts.text_of(size.first)} | {charts.text_of(size.zooms)} "
            f"| {size.bytes_a_point:.0f} |"
        )
    if memory:
        lines += [
            "",
            f"Resident memory in MiB while {options.rate:,} points a second came in for {options.soak:.0f} s and a "
            "chart was asked for each second:",
            "",
            "| process | after a twentieth | half-way | at the end |",
            "|---|---|---|---|",
        ]
        lines += [f"| {name} | {of[0]:.0f} | {of[len(of) // 2]:.0f} | {of[-1]:.0f} |" for name, of in memory.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000_000, 10_000_000, 50_000_000])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--soak", type=float, default=1_200.0, help="seconds; 0: none")
    parser.add_argument("--rate", type=int, default=1_000, help="points a second while soaking")
    parser.add_argument("--points", type=int, default=100_000, help="of each measurement of ingest")
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument("--metrics", type=int, default=20)
    parser.add_argument("--message", type=int, default=100, help="points in a message")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        os.environ["ROUNDTABLE_VAR"] = str(Path(name) / "var")
        os.environ["ROUNDTABLE_LOG_LEVEL"] = "WARNING"
        os.environ["ROUNDTABLE_URL"] = "http://127.0.0.1"
        django.setup()
        sizes, memory = measure(options, Path(name))
    text = section(options, sizes, memory, load)
    print(text)
    charts.results_write(TITLE, text)


if __name__ == "__main__":
    main()
