"""How long a chart takes of a million points in one series, and of a hundred series of 100,000 each.

    python benchmarks/charts.py --database postgresql --repetitions 5

Starts a database, and the platform's web process on it, on loopback. The points are stored by the platform's own
functions: old ones in blocks, the last of each series as rows, as they are while a run lasts. Then each repetition asks
for the first view and for ten random windows, over HTTP as a browser does, with 2,000 points a series and without any
cache. Every answer is checked against the raw data: its points are true ones, and it has the least and the greatest
value of the window and every spike of a single point that is in it.

On PostgreSQL, MLflow's chart call (320 points of one metric) is measured in turn with these: its own server on the same
database server, one metric of 100,000 points, its table analysed. MLflow is installed from the package index into
``var/bench``. Writes its section of ``RESULTS.md``.
"""

from __future__ import annotations

import argparse
import http.client
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlops_site.settings")

import django
import numpy as np
import orjson
import psycopg
from mlflow_peer import VERSION, MlflowServer

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).with_name("RESULTS.md")
TITLE = "## Charts of long series (benchmarks/charts.py, {database})"
WIDTH = 2_000
SPIKES = 20
ZOOMS = 10
STARTED = 1.7e9

Numbers = np.ndarray[Any, Any]


@dataclass
class Stored:
    """A series, and the values that were stored in it: the step is the place."""

    id: int
    values: Numbers
    spikes: Numbers


@dataclass
class Case:
    """One line of the table."""

    name: str
    ask: Callable[[float | None, float | None], float]
    points: int
    first: list[float] = field(default_factory=list)
    zooms: list[float] = field(default_factory=list)


def series_fill(run_id: int, name: str, count: int, seed: int, rows_left: int = 500) -> Stored:
    """Store a random walk with spikes of one point: all but the last points in blocks."""
    from runs.models import Series
    from runs.telemetry.blocks import CHUNK_POINTS, block_make
    from runs.telemetry.bulk import bulk
    from runs.telemetry.packing import BLOCK_POINTS, block_store

    random = np.random.default_rng(seed)
    values = random.normal(size=count).cumsum()
    spikes = (np.arange(SPIKES) + random.random(SPIKES)) * (count / SPIKES)
    spikes = spikes.astype(np.int64)
    values[spikes] += (1e5 + 1e4 * random.random(SPIKES)) * np.where(np.arange(SPIKES) % 2, 1, -1)
    packed = max(0, count - rows_left) // CHUNK_POINTS * CHUNK_POINTS
    series = Series.objects.create(run_id=run_id, edge_id=0, name=name, count=count, packed=packed)
    steps = np.arange(count, dtype=np.float64)
    first = bulk().ids_reserve("runs_point", 1)[0]
    for start in range(0, packed, BLOCK_POINTS):
        some = slice(start, min(start + BLOCK_POINTS, packed))
        points = {
            "id": first + np.arange(some.start, some.stop) - count,
            "step": steps[some],
            "round": steps[some] // 100,
            "time": STARTED + 0.37 * steps[some],
            "value": values[some],
        }
        block_store(series.pk, start, block_make(points))  # type: ignore[arg-type]
    ids = bulk().ids_reserve("runs_point", count - packed)
    bulk().points_insert(
        [
            (series.pk, id_, float(step), step // 100, STARTED + 0.37 * step, float(values[step]), 0)
            for id_, step in zip(ids, range(packed, count), strict=True)
        ]
    )
    return Stored(series.pk, values, spikes)


class Chart:
    """Asks the platform's web process for windows of series, and checks the answers."""

    def __init__(self, port: int, cookie: str, series: list[Stored], form: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self._headers = {"Cookie": cookie}
        self._series = {one.id: one for one in series}
        self._form = form
        self.size = 0

    def ask(self, low: float | None, high: float | None) -> float:
        """Return the milliseconds from the question to the last byte of the answer."""
        ids = ",".join(str(series_id) for series_id in self._series)
        ends = "".join(f"&{name}={end}" for name, end in (("from", low), ("to", high)) if end is not None)
        began = time.perf_counter()
        self._connection.request(
            "GET", f"/charts/points?series={ids}&width={WIDTH}&format={self._form}{ends}", headers=self._headers
        )
        response = self._connection.getresponse()
        content = response.read()
        took = 1e3 * (time.perf_counter() - began)
        if response.status != 200:
            raise SystemExit(f"the answer is {response.status}: {content[:200]!r}")
        self.size = len(content)
        self._check(content, low, high)
        return took

    def _check(self, content: bytes, low: float | None, high: float | None) -> None:
        answers = _binary(content) if self._form == "binary" else _json(content)
        if set(answers) != set(self._series):
            raise SystemExit("a series is missing in the answer")
        for series_id, (x, value) in answers.items():
            stored = self._series[series_id]
            begin = 0 if low is None else int(np.ceil(low))
            end = len(stored.values) if high is None else int(np.floor(high)) + 1
            inside = stored.values[begin:end]
            places = x.astype(np.int64)
            if len(x) > WIDTH or (len(places) and (places.min() < begin or places.max() >= end)):
                raise SystemExit("the answer has points outside the window, or too many")
            if not (stored.values[places] == value).all():
                raise SystemExit("the answer has a point that was never stored")
            if len(inside) and (inside.min() != value.min() or inside.max() != value.max()):
                raise SystemExit("an extreme is missing")
            spikes = stored.spikes[(stored.spikes >= begin) & (stored.spikes < end)]
            if not np.isin(spikes, places).all():
                raise SystemExit("a spike is missing")
            if len(inside) > 2 * WIDTH and len(x) < WIDTH // 4:
                raise SystemExit(f"only {len(x)} points of {len(inside)}")


def _binary(content: bytes) -> dict[int, tuple[Numbers, Numbers]]:
    end = content.index(b"\n") + 1
    head = orjson.loads(content[:end])
    x, value = np.split(np.frombuffer(content, "<f8", offset=end), 2)
    bounds = np.cumsum([0, *[count for _, count in head["series"]]])
    return {
        series_id: (x[bounds[place] : bounds[place + 1]], value[bounds[place] : bounds[place + 1]])
        for place, (series_id, _) in enumerate(head["series"])
    }


def _json(content: bytes) -> dict[int, tuple[Numbers, Numbers]]:
    points = orjson.loads(content)["points"]
    return {int(key): (np.array(one["step"]), np.array(one["value"])) for key, one in points.items()}


class Mlflow:
    """The chart call of a running MLflow server, with one metric.

    Args:
        uri: of the server.
        url: of its database.
    """

    def __init__(self, uri: str, url: str) -> None:
        self._url = url
        self._run = ""
        self._connection = http.client.HTTPConnection(uri.removeprefix("http://"), timeout=120)

    def fill(self, count: int) -> None:
        """Store one metric of ``count`` points, by COPY into MLflow's own table."""
        answer = self._call("POST", "/api/2.0/mlflow/runs/create", {"experiment_id": "0", "start_time": 1})
        self._run = answer["run"]["info"]["run_id"]
        values = np.random.default_rng(0).normal(size=count).cumsum()
        with psycopg.connect(self._url, autocommit=True) as session:
            with (
                session.cursor() as cursor,
                cursor.copy("COPY metrics (key, value, timestamp, run_uuid, step, is_nan) FROM STDIN") as copy,
            ):
                for step, value in enumerate(values.tolist()):
                    copy.write_row(("loss", value, int(STARTED * 1e3) + step, self._run, step, False))
            session.execute("ANALYZE metrics")

    def ask(self, low: float | None, high: float | None) -> float:
        """Return the milliseconds of the call that its charts make."""
        ends = "" if low is None or high is None else f"&start_step={int(low)}&end_step={int(high)}"
        began = time.perf_counter()
        answer = self._call(
            "GET",
            "/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval"
            f"?run_ids={self._run}&metric_key=loss&max_results=320{ends}",
        )
        took = 1e3 * (time.perf_counter() - began)
        if not answer["metrics"]:
            raise SystemExit("MLflow has no points")
        return took

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Content-Type": "application/json"}
        self._connection.request(method, path, orjson.dumps(body) if body else None, headers)
        response = self._connection.getresponse()
        content = response.read()
        self._connection.close()  # it would close it by itself between two repetitions
        if response.status != 200:
            raise SystemExit(f"MLflow answers {response.status}: {content[:500]!r}")
        return orjson.loads(content)


def wait_until(
    is_so: Callable[[], bool], what: str, seconds: float, process: subprocess.Popen[bytes] | None = None
) -> None:
    """Wait for a server, unless its process ends."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline or (process is not None and process.poll() is not None):
            raise SystemExit(f"{what} did not start")
        time.sleep(0.2)


def _answers(port: int, path: str) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False


def web_start(everything: ExitStack, environment: dict[str, str], folder: Path) -> tuple[int, int]:
    """Start the platform's web process without a Redis, so that it caches nothing; return its port and process id."""
    from tests.servers import free_port

    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "mlops_site.asgi:application", "--port", str(port)]
    environment = {**environment, "ROUNDTABLE_REDIS_URL": "redis://127.0.0.1:1/0"}
    with (folder / "web.log").open("wb") as log:
        web = subprocess.Popen(  # noqa: S603
            [*command, "--log-level", "warning", "--timeout-keep-alive", "600"],
            env=environment,
            cwd=REPOSITORY,
            stdout=log,
            stderr=log,
        )
    everything.callback(web.wait)
    everything.callback(web.terminate)
    wait_until(lambda: _answers(port, "/healthz"), "the web process", 120)
    return port, web.pid


def measure(options: argparse.Namespace, folder: Path) -> tuple[list[Case], str]:
    """Store the points, and time the questions; return the lines of the table and the size of what is stored."""
    from django.core.management import call_command
    from django.db import connection
    from django.test import Client

    from runs.tests.postgresql import PostgresqlServer, django_on_postgresql
    from runs.tests.rows import run_make, user_make

    with ExitStack() as everything:
        environment = dict(os.environ)
        server: PostgresqlServer | None = None
        if options.database == "postgresql":
            server = PostgresqlServer(durable=True)
            everything.callback(server.remove)
            everything.enter_context(server)
            server.database_make()
            everything.enter_context(django_on_postgresql(server))
            environment |= server.environment()
        call_command("migrate", verbosity=0)
        user = user_make("bench")
        run = run_make(user=user, devices=0)
        began = time.monotonic()
        one = [series_fill(run.pk, "one", options.points, 0)]
        many = [series_fill(run.pk, f"many-{n}", options.length, n) for n in range(1, options.many + 1)]
        total = options.points + options.many * options.length
        size = "" if server is None else _size(total)
        print(f"stored {total:,} points in {time.monotonic() - began:.0f} s {size}", flush=True)
        client = Client()
        client.force_login(user)
        cookie = f"sessionid={client.cookies['sessionid'].value}"
        connection.close()
        port, _ = web_start(everything, environment, folder)
        cases = [
            Case(f"one series of {options.points:,}, JSON", Chart(port, cookie, one, "json").ask, options.points),
            Case(f"one series of {options.points:,}, binary", Chart(port, cookie, one, "binary").ask, options.points),
            Case(
                f"{options.many} series of {options.length:,}, binary",
                Chart(port, cookie, many, "binary").ask,
                options.length,
            ),
            Case(
                f"{options.many} series of {options.length:,}, JSON with all columns",
                Chart(port, cookie, many, "json").ask,
                options.length,
            ),
        ]
        if server is not None and not options.without_mlflow:
            with psycopg.connect(server.url, autocommit=True) as session:
                session.execute("CREATE DATABASE mlflow")
            database_url = re.sub(r"^postgres:(.*)/[^/]*$", r"postgresql:\1/mlflow", server.url)
            peer = everything.enter_context(MlflowServer(folder / "mlflow", database_url.replace(":", "+psycopg2:", 1)))
            mlflow = Mlflow(peer.uri, database_url)
            mlflow.fill(options.mlflow_points)
            cases.append(Case(f"MLflow, one metric of {options.mlflow_points:,}", mlflow.ask, options.mlflow_points))
        random = np.random.default_rng(1)
        for case in cases:
            case.ask(None, None)  # connections, prepared code
        for _ in range(options.repetitions):
            windows = np.sort(random.random((ZOOMS, 2)), axis=1)
            for case in cases:
                case.first.append(case.ask(None, None))
                case.zooms += [case.ask(low, high) for low, high in (windows * case.points).tolist()]
        return cases, size


def _size(points: int) -> str:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_total_relation_size('runs_pointblock') + pg_total_relation_size('runs_point')")
        return f"{cursor.fetchone()[0] / points:.0f} bytes a point"


def section(options: argparse.Namespace, cases: list[Case], size: str, load: float) -> str:
    """Return the section of the results."""
    head = (
        f"{datetime.now():%Y-%m-%d}, {os.cpu_count()} cores (load {load:.1f} at the start), {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}, Django {django.__version__}, NumPy "
        f"{np.__version__}{', MLflow ' + VERSION if any('MLflow' in case.name for case in cases) else ''}. "
        f"{options.repetitions} repetitions of a first view and {ZOOMS} random windows, {WIDTH:,} points a series "
        f"(MLflow: 320), over HTTP on loopback, nothing cached, answers checked against the raw data. {size}. "
        "Milliseconds: median (spread)."
    )
    lines = [TITLE.format(database=options.database), "", head.replace(". . ", ". "), ""]
    lines += ["| | first view | windows |", "|---|---|---|"]
    lines += [f"| {case.name} | {text_of(case.first)} | {text_of(case.zooms)} |" for case in cases]
    theirs = [case for case in cases if case.name.startswith("MLflow")]
    if theirs:
        ratio = statistics.median(theirs[0].first) / statistics.median(cases[1].first)
        lines += ["", f"MLflow's call takes {ratio:.1f} times as long as a first view of one series, binary."]
    return "\n".join(lines) + "\n"


def text_of(times: list[float]) -> str:
    """Return the median and the spread of some times."""
    return f"{statistics.median(times):.0f} ({min(times):.0f} to {max(times):.0f})"


def results_write(title: str, text: str) -> None:
    """Replace a section of the results."""
    before = RESULTS.read_text() if RESULTS.exists() else "# Results\n"
    kept = re.sub(rf"{re.escape(title)}\n.*?(?=^## |\Z)", "", before, flags=re.DOTALL | re.MULTILINE)
    RESULTS.write_text(f"{kept.rstrip()}\n\n{text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="postgresql")
    parser.add_argument("--points", type=int, default=1_000_000, help="of the one series")
    parser.add_argument("--many", type=int, default=100, help="how many series")
    parser.add_argument("--length", type=int, default=100_000, help="points of each of the many")
    parser.add_argument("--mlflow-points", type=int, default=100_000)
    parser.add_argument("--without-mlflow", action="store_true")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        os.environ["ROUNDTABLE_VAR"] = str(Path(name) / "var")
        os.environ["ROUNDTABLE_LOG_LEVEL"] = "WARNING"
        os.environ["ROUNDTABLE_URL"] = "http://127.0.0.1"
        django.setup()
        cases, size = measure(options, Path(name))
    text = section(options, cases, size, load)
    print(text)
    results_write(TITLE.format(database=options.database), text)


if __name__ == "__main__":
    main()
