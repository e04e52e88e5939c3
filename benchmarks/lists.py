"""The list of 10,000 runs, and searching a log of many lines.

    python benchmarks/lists.py --lines 1000000 --repetitions 5

Starts PostgreSQL of its own, on loopback, and asks through Django's test client: the time is that of the whole answer
without the network, the first answer of each kind left out. Writes its section of ``RESULTS.md``.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlops_site.settings")

import django

RESULTS = Path(__file__).with_name("RESULTS.md")
TITLE = "## Lists and log search (benchmarks/lists.py)"
RUNS, DEVICES, METRICS = 10_000, 1_000, 200
WORDS = ["loss", "accuracy", "round", "batch", "upload", "download", "gradient", "tensor", "epoch", "optimizer"]
Times = list[float]  # milliseconds


def timed(act: Callable[[], Any], repetitions: int) -> Times:
    """Do something once without a clock, and then as often as asked for; return the milliseconds of each."""
    act()
    times = []
    for _ in range(repetitions):
        began = time.perf_counter()
        act()
        times.append(1000 * (time.perf_counter() - began))
    return times


def runs_make(user: Any) -> Any:
    """Make a project with 10,000 runs on four devices each."""
    from runs.models import Run, RunDevice
    from runs.states import RunState
    from runs.tests.rows import run_make

    chance = random.Random(1)  # noqa: S311
    first = run_make(user=user, devices=4, state=RunState.FINISHED)
    devices = list(first.run_devices.all())
    runs = Run.objects.bulk_create(
        Run(
            project=first.project, name=f"{chance.choice(WORDS)}-{chance.choice(WORDS)}-{number}", created_by=user,
            started_by=user, configuration_copy={"model_config": ["x" * 500]}, server_package=first.server_package,
            client_package=first.client_package, backend="process", state=chance.choice(list(RunState.ended())),
            started_at=first.started_at, ended_at=first.started_at + timedelta(seconds=chance.random() * 9e3),
            round_index=chance.randrange(100), total_rounds=100,
            best_metric={"name": "accuracy", "value": chance.random(), "round": 3},
        )
        for number in range(RUNS - 1)
    )  # fmt: skip
    RunDevice.objects.bulk_create(
        (
            RunDevice(run=run, device=part.device, edge_id=part.edge_id, client_index=part.client_index)
            for run in runs
            for part in devices
        ),
        batch_size=5_000,
    )
    return first.project


def full_run_make(user: Any, lines: int) -> Any:
    """Make a running run of 1,000 devices with 200 metrics in all, 20 of them of ten devices each, and a log."""
    from django.db import transaction

    from runs.models import Series
    from runs.telemetry.bulk import LogLineRow, bulk
    from runs.tests.rows import edges, run_make

    run = run_make(user=user, devices=DEVICES)
    edge_ids = edges(run)
    places = [(0, f"metric-{number}") for number in range(METRICS - 20)]
    places += [(edge, f"metric-{METRICS - 20 + number}") for number in range(20) for edge in edge_ids[:10]]
    series = Series.objects.bulk_create(
        Series(run=run, edge_id=edge, name=name, count=100, last_step=99, last_time=1.7e9, last_value=0.5)
        for edge, name in places
    )
    chance = random.Random(2)  # noqa: S311
    with transaction.atomic():
        ids = iter(bulk().ids_reserve("runs_point", 100 * len(series)))
        bulk().points_insert(
            [(one.pk, next(ids), step, step, 1.7e9 + step, chance.random(), 0) for one in series for step in range(100)]
        )
    for start in range(0, lines, 50_000):
        count = min(50_000, lines - start)
        with transaction.atomic():
            ids = iter(bulk().ids_reserve("runs_logline", count))
            bulk().log_lines_insert([
                LogLineRow(
                    next(ids), run.pk, f"edge:{edge_ids[number % DEVICES]}", 1.7e9 + number / 100, "stdout",
                    "ERROR" if number % 5_000 == 0 else "INFO",
                    f"12:{number // 60 % 60:02d}:{number % 60:02d} {'INFO' if number % 5_000 else 'ERROR'} trainer: "
                    f"{chance.choice(WORDS)} {chance.choice(WORDS)} step {number} value {chance.random():.6f}",
                )
                for number in range(start, start + count)
            ])  # fmt: skip
    return run


def lists_measure(client: Any, project: Any, repetitions: int) -> dict[str, tuple[Times, int]]:
    """Ask for the list in every order and with every filter; return the times and the number of queries of each."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from runs.lists import RUNS as LIST

    url = project.get_absolute_url()
    questions = [f"sort=-{name}" for name in LIST.sorts]
    questions += ["page=200", "q=loss", "state=FAILED", "device=device-3", "q=loss+tensor&state=FINISHED&sort=best"]
    found = {}
    for question in questions:
        with CaptureQueriesContext(connection) as queries:
            client.get(f"{url}?{question}")
        count = len(queries)  # before the next request empties the log
        found[question] = (timed(lambda question=question: client.get(f"{url}?{question}"), repetitions), count)
    return found


def searches_measure(client: Any, run: Any, lines: int, repetitions: int) -> dict[str, Times]:
    """Search the log in the ways that people do, each with the count."""
    from django.urls import reverse

    url = reverse("run_log_lines", args=[run.pk])
    edge = run.run_devices.first().edge_id
    middle = 1.7e9 + lines / 200
    questions = {
        "no text": "", "a rare text": f"q=step+{lines // 3}+", "no such text": "q=segmentation+fault",
        "a common text": "q=optimizer", "two words, one line in a hundred": "q=optimizer+tensor",
        "in every line": "q=trainer", "two letters": "q=zz", "errors": "level=ERROR", "a text in errors":
        "q=loss&level=ERROR", "a text of one device": f"q=loss&reporter=edge:{edge}",
        "a text within a minute": f"q=loss&since={middle}&until={middle + 60}",
    }  # fmt: skip
    return {
        name: timed(lambda question=question: client.get(f"{url}?{question}&count=1"), repetitions)
        for name, question in questions.items()
    }


def row(name: str, times: Times, *more: object) -> str:
    cells = [name, f"{statistics.median(times):,.0f}", f"{min(times):,.0f} to {max(times):,.0f}", *map(str, more)]
    return f"| {' | '.join(cells)} |"


def report(
    options: argparse.Namespace,
    lists: dict[str, tuple[Times, int]],
    searches: dict[str, Times],
    server_version: int,
) -> str:
    """Write what was measured as the section of ``RESULTS.md``."""
    about = (
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores (load {os.getloadavg()[0]:.0f} while it ran), "
        f"Python {platform.python_version()}, Django {django.__version__}, PostgreSQL {server_version // 10_000}, "
        f"{options.repetitions} repetitions. Milliseconds:"
    )
    lines = [TITLE, "", about, "", f"The page of a project with {RUNS:,} runs (aim: 200):", ""]
    lines += ["| asked for | median | spread | queries |", "|---|---|---|---|"]
    lines += [row(f"`?{name}`", times, queries) for name, (times, queries) in lists.items()]
    lines += ["", f"Search in {options.lines:,} log lines of one run, counted (aim: 300):", ""]
    lines += ["| looked for | median | spread |", "|---|---|---|"]
    lines += [row(name, times) for name, times in searches.items()]
    return "\n".join(lines) + "\n"


def results_write(text: str) -> None:
    """Replace this benchmark's section of the results."""
    before = RESULTS.read_text() if RESULTS.exists() else "# Results\n"
    kept = re.sub(rf"{re.escape(TITLE)}\n.*?(?=^## |\Z)", "", before, flags=re.DOTALL | re.MULTILINE)
    RESULTS.write_text(f"{kept.rstrip()}\n\n{text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as everything:
        folder = Path(name)
        os.environ["ROUNDTABLE_VAR"] = str(folder / "var")
        os.environ["ROUNDTABLE_LOG_LEVEL"] = "WARNING"
        django.setup()
        from django.core.management import call_command
        from django.db import connection
        from django.test import Client, override_settings

        from runs.tests.postgresql import PostgresqlServer, django_on_postgresql
        from runs.tests.rows import user_make

        server = PostgresqlServer()
        everything.callback(server.remove)
        everything.enter_context(server)
        server.database_make()
        everything.enter_context(django_on_postgresql(server))
        everything.enter_context(override_settings(ALLOWED_HOSTS=["*"]))
        call_command("migrate", verbosity=0)
        call_command("collectstatic", interactive=False, verbosity=0)
        user = user_make("ada")
        print("making runs", flush=True)
        project = runs_make(user)
        print("making a run that holds much", flush=True)
        run = full_run_make(user, options.lines)
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")
        client = Client()
        client.force_login(user)
        print("asking for lists and log lines", flush=True)
        lists = lists_measure(client, project, options.repetitions)
        searches = searches_measure(client, run, options.lines, options.repetitions)
        text = report(options, lists, searches, connection.pg_version)  # type: ignore[attr-defined]
    results_write(text)
    print(text)


if __name__ == "__main__":
    main()
