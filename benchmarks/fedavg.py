"""A round of learning: the reference library's FedAvg through the platform, against Flower.

    python benchmarks/fedavg.py --repetitions 5

Starts the whole platform (broker, Redis, web, workers, ingest, SQLite) with 4 or 16 agents as processes of this
machine, and Flower's SuperLink with as many SuperNodes, one side after the other, on loopback. Both train the same
model from the same initial weights on the same parts of the same data with the same code (``fedml.training``), and
both evaluate every round on the same test set. What is measured is the time from the end of a round to the end of the
next, as the server of each side sees it; the first round of each side is not counted.

Flower is installed from the package index into ``var/bench``, its telemetry off. Its clients read their part of the
data from a file, so that its measured time holds no making of data sets. Writes its section of ``RESULTS.md``.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "edge" / "sdk"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "build-mlops-package"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlops_site.settings")

import django
import numpy as np
from fedml.data import VALIDATION_FRACTION
from fedml.datasets import Plan, digits
from fedml.models import MODELS
from fedml.randomness import stream
from fedml.samples import hold_out

from benchmarks.fedavg_flower import VERSION, Flower
from deploy.local.demo import LocalDevices, aggregators_stop, configuration_prepare, project_prepare, user_prepare
from deploy.local.stack import REPOSITORY, LocalStack, Ports

if TYPE_CHECKING:
    from django.contrib.auth.models import User

RESULTS = Path(__file__).with_name("RESULTS.md")
TITLE = "## A round of federated averaging with {clients} clients (benchmarks/fedavg.py)"
SEED = 0
BATCH = 64
RUN_SECONDS = 1800
SIDES = ("Roundtable", "Flower")
BENCH = REPOSITORY / "var" / "bench"


@dataclass(frozen=True)
class Case:
    """One line of the table: how many clients, and how large the weights are."""

    clients: int
    hidden_units: int

    @property
    def size(self) -> str:
        weights = MODELS["mlp"].initial(np.random.default_rng(SEED), 64, 10, self.hidden_units)
        size = sum(array.nbytes for array in weights.values())
        return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


CASES = [Case(clients, hidden) for hidden in (32, 34_900) for clients in (4, 16)]


@dataclass(frozen=True)
class Measured:
    """The seconds of each counted round, and the accuracy after the last.

    Attributes:
        at_least: where no counted round ended in the time that was given: the seconds that it took at least.
    """

    seconds: list[float]
    accuracy: float
    at_least: float = 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds) if self.seconds else self.at_least

    @property
    def text(self) -> str:
        if not self.seconds:
            return f"more than {self.at_least:.0f}"
        rounds = "1 round" if len(self.seconds) == 1 else f"{len(self.seconds)} rounds"
        return f"{self.median:.2f} ({min(self.seconds):.2f} to {max(self.seconds):.2f}, {rounds})"


def parts_write(folder: Path, clients: int) -> None:
    """Lay out each client's part of the data, and the test set, as the reference library divides them."""
    folder.mkdir(parents=True, exist_ok=True)
    federated = digits(Plan("homo", 0.5, clients, SEED))
    for index, part in enumerate(federated.parts, start=1):
        own = hold_out(part, VALIDATION_FRACTION, stream(SEED, "validation", index))
        np.savez(
            folder / f"part-{index}.npz",
            train_x=own.train.x,
            train_y=own.train.y,
            validation_x=own.test.x,
            validation_y=own.test.y,
        )
    np.savez(folder / "test.npz", x=federated.test.x, y=federated.test.y)


def flower_measure(flower: Flower, folder: Path, case: Case, repetitions: int) -> Measured:
    """Measure Flower's rounds."""
    parts_write(folder, case.clients)
    settings = {"num-rounds": repetitions + 1, "hidden-units": case.hidden_units, "epochs": 1, "batch-size": BATCH}
    seconds, accuracy, waited = flower.rounds(folder, case.clients, **settings)
    return Measured(seconds[1:], accuracy, 0.0 if len(seconds) > 1 else waited)


def platform_measure(user: User, devices: list[int], case: Case, repetitions: int) -> Measured:
    """Measure the rounds of a run."""
    from runs.lifecycle import run_create, run_start
    from runs.models import Series
    from runs.states import RunState

    project = project_prepare(user)
    values = {
        "partition_method": "homo",
        "data_silo_num_in_total": case.clients,
        "client_num_in_total": case.clients,
        "client_num_per_round": 0,
        "comm_round": repetitions + 1,
        "local_epoch": 1,
        "train_batch_size": BATCH,
        "client_learning_rate": 0.1,
        "weight_decay": 0.0001,
        "hidden_units": case.hidden_units,
        "random_seed": SEED,
    }
    run = run_create(
        project=project,
        user=user,
        configuration=configuration_prepare(user, project),
        device_ids=devices[: case.clients],
        overrides={
            "model_config.modelName": "mlp",
            **{f"hyperparameters_config.{name}": value for name, value in values.items()},
        },
        backend="process",
    )
    run_start(run=run, user=user)
    deadline = time.monotonic() + RUN_SECONDS
    while run.state not in RunState.ended():
        if time.monotonic() > deadline:
            raise SystemExit(f"the run did not end: {run.state}")
        time.sleep(0.5)
        run.refresh_from_db()
    if run.state != RunState.FINISHED:
        raise SystemExit(f"the run ended as {run.state}: {run.reason}")
    ends = dict(run.rounds.values_list("round_index", "running_time"))
    accuracy = Series.objects.get(run=run, edge_id=0, name="accuracy", kind="metric").last_value
    return Measured([ends[index] - ends[index - 1] for index in range(1, repetitions + 1)], float(accuracy or 0.0))


def on_platform(stack: LocalStack, case: Case, repetitions: int) -> Measured:
    """Start the platform and its agents, measure, and stop them, so that nothing of them runs beside the other side."""
    with stack:
        user, _ = user_prepare(stack.var / "login.json")
        agents = LocalDevices(stack, names=[f"device-{index:02}" for index in range(1, case.clients + 1)])
        try:
            agents.start(user)
            devices = [device.pk for device in agents.wait_until_online(user)]
            return platform_measure(user, devices, case, repetitions)
        finally:
            agents.stop()
            aggregators_stop()


def measure(
    folder: Path, repetitions: int, sides: list[str], cases: list[Case], flower: Flower
) -> tuple[dict[Case, dict[str, Measured]], str]:
    """Measure the sides in turn, for every case; return the figures, and the load of the machine before each."""
    settings = {
        "ROUNDTABLE_BACKEND": "process",
        "ROUNDTABLE_VENVS": str(BENCH / "venvs"),
        "ROUNDTABLE_LOG_LEVEL": "WARNING",
    }
    stack = LocalStack(folder / "var", preferred=Ports(web=0, broker=0, redis=0), environment=settings)
    os.environ.update(stack.environment)
    django.setup()
    results: dict[Case, dict[str, Measured]] = {case: {} for case in cases}
    loads: list[float] = []
    for case in cases:
        for side in sides:
            loads.append(os.getloadavg()[0])
            if side == "Flower":
                measured = flower_measure(flower, folder / f"data-{case.clients}", case, repetitions)
            else:
                measured = on_platform(stack, case, repetitions)
            results[case][side] = measured
            print(f"{case.clients} clients, {case.size}: {side} {measured.text} s a round", flush=True)
    return results, f"{min(loads):.1f} to {max(loads):.1f}"


def section(results: dict[Case, dict[str, Measured]], title: str, loads: str) -> str:
    """Return the section of the results."""
    head = (
        f"{datetime.now():%Y-%m-%d}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, Python "
        f"{platform.python_version()}, Django {django.__version__}, NumPy {np.__version__}, Flower {VERSION}. A "
        f"perceptron with one hidden layer on the handwritten digits in equal parts, one local epoch in batches of "
        f"{BATCH}, every process of a side on this machine, whose load before each side was {loads}. Seconds a round: "
        "median (spread), without the first."
    )
    lines = [title, "", head, ""]
    lines += [
        "| clients | weights | Roundtable | Flower | Flower / Roundtable | accuracy after these |",
        "|---|---|---|---|---|---|",
    ]
    for case, sides in results.items():
        ours, theirs = sides["Roundtable"], sides["Flower"]
        lines.append(
            f"| {case.clients} | {case.size} | {ours.text} | {theirs.text} "
            f"| {'' if theirs.seconds else 'more than '}{theirs.median / ours.median:.1f} "
            f"| {ours.accuracy:.3f}, {theirs.accuracy:.3f} |"
        )
    lines += [
        "",
        "Flower's SuperNodes and its server app each look for messages every 3 s, and a SuperNode starts a process for "
        "every message: most of its time with small weights. Both sides train with the same code; Roundtable also "
        "keeps every client's weights of every round, and its clients report their curves. The load counts all that "
        "ran on the machine: where it was above the number of cores, both sides waited for others.",
    ]
    return "\n".join(lines) + "\n"


def results_write(title: str, text: str) -> None:
    """Replace this benchmark's section of the results."""
    before = RESULTS.read_text() if RESULTS.exists() else "# Results\n"
    kept = re.sub(rf"{re.escape(title)}\n.*?(?=^## |\Z)", "", before, flags=re.DOTALL | re.MULTILINE)
    RESULTS.write_text(f"{kept.rstrip()}\n\n{text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5, help="rounds that are counted")
    parser.add_argument("--side", choices=SIDES, help="measure one side alone; RESULTS.md stays as it is")
    parser.add_argument("--clients", type=int, choices=(4, 16), help="this number of clients alone")
    parser.add_argument("--hidden-units", type=int, help="weights of this size alone")
    parser.add_argument("--flower-seconds", type=float, default=1800, help="how long Flower may take for a case")
    options = parser.parse_args()
    sides = [options.side] if options.side else list(SIDES)
    cases = [
        case
        for case in CASES
        if options.clients in (None, case.clients) and options.hidden_units in (None, case.hidden_units)
    ]
    flower = Flower(BENCH / "flower", options.flower_seconds)
    if "Flower" in sides:
        flower.install()
    with tempfile.TemporaryDirectory(prefix="rt-fedavg-") as name:
        results, loads = measure(Path(name), options.repetitions, sides, cases, flower)
    if len(sides) < len(SIDES):
        return
    for clients in sorted({case.clients for case in cases}):
        title = TITLE.format(clients=clients)
        text = section({case: results[case] for case in cases if case.clients == clients}, title, loads)
        print(text)
        if options.hidden_units is None:
            results_write(title, text)


if __name__ == "__main__":
    main()
