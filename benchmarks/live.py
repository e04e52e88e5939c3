"""How long a point takes from ``publish`` on a device until it is drawn in a browser, beside a bare relay.

    python benchmarks/live.py --viewers 1 20 100 --repetitions 5

Starts a broker, Redis, the database, one ingest worker, one web process and Chromium of its own, on loopback. Ten
devices publish ten metrics each every 100 ms (1,000 points a second, 100 messages a second, QoS 1). One of the viewers
is a real Chromium with the Results tab open, in a window of 1400 x 900; the others are websockets that read everything.
The moment at which it was published is the value of a point of the metric "accuracy"; the page notes when the frame
after the one in which the figure got it begins, and so counts the drawing, the layout and the painting.

In turn with it the same page is fed by a bare relay (``live_peers.py``), which passes what it hears from the broker on
to every websocket at once, with the same payloads and the same number of viewers.
"""

from __future__ import annotations

import argparse
import datetime
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlops_site.settings")

import django
from live_peers import INTERVAL_SECONDS, PROBE, publish, relay, view
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
DEVICES = 10
WARM_SECONDS = 2.0  # at the beginning, left out
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
TITLE = "## From publish to the point drawn (benchmarks/live.py)"
SIDES = ("platform", "relay")

# Note for every point of the probe when it was first drawn: [published, drawn], in seconds since the epoch.
MEASURE = """
window.measured = [];
const drawnSteps = new Map();
const wait = setInterval(() => {
  if (!window.Plotly) return;
  clearInterval(wait);
  const react = window.Plotly.react;
  window.Plotly.react = (plot, traces, ...rest) => {
    const answer = react(plot, traces, ...rest);
    if (plot.closest("[data-figure]")?.dataset.figure === "metric:PROBE") {
      requestAnimationFrame(() => {
        const now = (performance.timeOrigin + performance.now()) / 1000;
        for (const { name, x, y } of traces) {
          const last = drawnSteps.get(name) ?? -1;
          for (let index = x.length - 1; index >= 0 && x[index] > last; index -= 1) {
            window.measured.push([y[index], now]);
          }
          if (x.length) drawnSteps.set(name, x.at(-1));
        }
      });
    }
    return answer;
  };
}, 5);
""".replace("PROBE", PROBE)
# The relay's page is the platform's page, whose websocket leads elsewhere.
REDIRECT = """
const Real = window.WebSocket;
window.WebSocket = class extends Real {
  constructor(url) { super(String(url).includes("/ws/runs/") ? "ws://127.0.0.1:PORT/" : url); }
};
"""


class Stack(NamedTuple):
    """What a measurement runs on."""

    broker: tuple[int, str, str]
    web: str
    cookie: str
    owner: Any


@contextmanager
def stack(options: argparse.Namespace, folder: Path) -> Iterator[Stack]:
    """Start everything and point Django at it."""
    from django.conf import settings
    from django.core.management import call_command
    from django.test import Client, override_settings

    from accounts.tests.objects import make_user
    from runs.telemetry.health import ingest_health
    from runs.tests.postgresql import PostgresqlServer, django_on_postgresql
    from tests.servers import MosquittoServer, RedisServer, free_port

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
        everything.enter_context(override_settings(REDIS_URL=redis.url))
        call_command("migrate", verbosity=0)
        call_command("collectstatic", interactive=False, verbosity=0)
        port = free_port()
        environment["ROUNDTABLE_URL"] = url = f"http://127.0.0.1:{port}"
        web = ["-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port), "--lifespan", "off", "--log-level", "error"]
        web += ["--ws-per-message-deflate", "false", "--timeout-graceful-shutdown", "2", "mlops_site.asgi:application"]
        for command in ([*web], ["manage.py", "ingest", "--slot", "0"]):
            process = subprocess.Popen([sys.executable, *command], env=environment, cwd=ROOT)  # noqa: S603
            everything.callback(process.wait)
            everything.callback(process.terminate)
            print(f"{command[:2]}: process {process.pid}", flush=True)
        deadline = time.monotonic() + 90
        while not any(entry["connected"] for entry in ingest_health()):
            if time.monotonic() > deadline:
                raise SystemExit("the ingest worker did not connect")
            time.sleep(0.2)
        owner = make_user("ada")
        client = Client()
        client.force_login(owner)
        cookie = client.cookies["sessionid"].value
        yield Stack((broker.port, settings.MQTT_USER, settings.MQTT_PASSWORD), url, cookie, owner)


def snapshot_of(made: Stack, run_id: int) -> str:
    """What the platform sends to a page that opens the run."""
    from websockets.sync.client import connect

    headers = {"Cookie": f"sessionid={made.cookie}"}
    address = f"{made.web.replace('http', 'ws')}/ws/runs/{run_id}/"
    with connect(address, additional_headers=headers, origin=made.web, max_size=None) as socket:  # type: ignore[arg-type]
        socket.send('{"cursor":null}')
        return str(socket.recv())


def measure(made: Stack, browser: Browser, side: str, viewers: int, seconds: float) -> list[float]:
    """Publish for some seconds, and return how long each point of the probe took, in milliseconds, sorted."""
    from accounts.tests.objects import make_device, make_project, make_run
    from runs.models import Run
    from runs.states import RunState
    from tests.servers import free_port

    run = make_run(make_project(made.owner), [make_device(made.owner, f"bed-{n}") for n in range(DEVICES)])
    Run.objects.filter(pk=run.pk).update(state=RunState.RUNNING, started_at=run.created_at, total_rounds=10)
    edges = list(run.run_devices.values_list("edge_id", flat=True))
    fork = multiprocessing.get_context("fork")
    with ExitStack() as everything:
        stop = fork.Event()
        address = f"{made.web.replace('http', 'ws')}/ws/runs/{run.pk}/"
        context = browser.new_context(viewport={"width": 1400, "height": 900}, bypass_csp=True)
        everything.callback(context.close)
        context.add_init_script(MEASURE)
        processes = []
        if side == "relay":
            port, listening = free_port(), fork.Event()
            arguments = (made.broker, run.pk, snapshot_of(made, run.pk), port, listening, stop)
            processes.append(fork.Process(target=relay, args=arguments))
            address = f"ws://127.0.0.1:{port}/"
            context.add_init_script(REDIRECT.replace("PORT", str(port)))
        reading = fork.Event()
        processes.append(
            fork.Process(target=view, args=(address, f"sessionid={made.cookie}", made.web, viewers - 1, reading, stop))
        )
        everything.callback(lambda: [process.join() for process in processes])
        everything.callback(stop.set)
        for process in processes:
            process.start()
            if side == "relay" and process is processes[0] and not listening.wait(30):
                raise SystemExit("the relay did not start")
        if not reading.wait(120):
            raise SystemExit("the viewers did not connect")
        context.add_cookies([{"name": "sessionid", "value": made.cookie, "url": made.web}])
        page = context.new_page()
        page.goto(f"{made.web}/runs/{run.pk}/?tab=results&x=step")
        page.wait_for_selector('[data-live-indicator][data-state="live"]', timeout=60_000)
        base = time.time()
        topics = [(f"runs/{run.pk}/{edge}/metrics", f"{side}-{run.pk}") for edge in edges]
        sender = fork.Process(target=publish, args=(*made.broker, topics, seconds, base))
        sender.start()
        sender.join()
        total = DEVICES * round(seconds / INTERVAL_SECONDS)
        page.wait_for_function(f"window.measured.length >= {total}", timeout=60_000)
        noted: list[tuple[float, float]] = page.evaluate("window.measured")
    Run.objects.filter(pk=run.pk).update(state=RunState.FINISHED)
    return sorted((drawn - base - published) * 1000 for published, drawn in noted if published > WARM_SECONDS)


def quantiles(times: list[float]) -> tuple[float, float, float]:
    """p50, p95 and p99 of sorted times."""
    p50, p95, p99 = (times[min(len(times) - 1, int(len(times) * part))] for part in (0.50, 0.95, 0.99))
    return p50, p95, p99


def section(measured: dict[tuple[int, str], list[tuple[float, float, float]]], options: argparse.Namespace) -> str:
    """The section of RESULTS.md."""
    from playwright._repo_version import version as playwright_version

    system = f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    lines = [
        TITLE,
        "",
        f"{datetime.date.today()}, {system}, Django {django.__version__}, {options.database}, "
        f"Chromium {options.chromium}, Playwright {playwright_version}, 1,000 points/s of {DEVICES} devices, "
        f"{options.seconds:.0f} s each, {options.repetitions} repetitions, the two sides in turn; everything on the "
        f"same cores, whose load was {os.getloadavg()[1]:.0f}. Milliseconds, median of the repetitions and spread:",
        "",
        "| viewers | side | p50 | p95 | p99 |",
        "|---|---|---|---|---|",
    ]
    for (viewers, side), rows in measured.items():
        cells = [
            f"{statistics.median(column):.0f} ({min(column):.0f} to {max(column):.0f})"
            for column in zip(*rows, strict=True)
        ]
        lines.append(f"| {viewers} | {side} | {' | '.join(cells)} |")
    lines.append("")
    for viewers in options.viewers:
        pairs = zip(measured[viewers, "platform"], measured[viewers, "relay"], strict=True)
        ratios = [(ours[0] / bare[0], ours[1] / bare[1]) for ours, bare in pairs]
        p50, p95 = (statistics.median(column) for column in zip(*ratios, strict=True))
        spread = f"{min(ratio[1] for ratio in ratios):.2f} to {max(ratio[1] for ratio in ratios):.2f}"
        lines.append(
            f"With {viewers} viewer{'s' * (viewers > 1)} the platform takes {p50:.2f} times the relay's p50 and "
            f"{p95:.2f} times its p95 ({spread}; aim: 2)."
        )
    return "\n".join(lines) + "\n"


def results_write(text: str) -> None:
    """Put the section in the place of the one of the same name, or at the end."""
    heading = text.splitlines()[0]
    sections = RESULTS.read_text().split("\n## ")
    kept = [part for part in sections if f"## {part}".splitlines()[0] != heading]
    RESULTS.write_text("\n## ".join(part.rstrip("\n") + "\n" for part in kept) + "\n" + text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="postgresql")
    parser.add_argument("--viewers", type=int, nargs="+", default=[1, 20, 100])
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--no-results", action="store_true", help="leave RESULTS.md as it is")
    options = parser.parse_args()
    measured: dict[tuple[int, str], list[tuple[float, float, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["ROUNDTABLE_VAR"] = str(folder / "var")
        os.environ["ROUNDTABLE_LOG_LEVEL"] = "WARNING"
        os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"  # Playwright keeps an event loop in this thread
        django.setup()
        with stack(options, folder) as made, sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-background-networking"]
            )
            options.chromium = browser.version
            for viewers in options.viewers:
                for repetition in range(options.repetitions):
                    for side in SIDES if repetition % 2 == 0 else reversed(SIDES):
                        times = measure(made, browser, side, viewers, options.seconds)
                        measured[viewers, side].append(quantiles(times))
                        p50, p95, p99 = measured[viewers, side][-1]
                        print(f"{viewers} viewers, {side}: {p50:.0f} {p95:.0f} {p99:.0f} ms", flush=True)
            browser.close()
    text = section(measured, options)
    print(text)
    if not options.no_results:
        results_write(text)


if __name__ == "__main__":
    main()
