"""100,000 random and mutated messages on all topics: nothing is raised, the good are stored, the rest counted."""

from __future__ import annotations

import random
import time
from typing import Any

import orjson
import pytest

from runs.models import Point, Receipt
from runs.telemetry.ingest import IngestWorker
from runs.telemetry.receiver import BATCH_MESSAGES, Received
from runs.telemetry.topics import EDGE_KINDS, RUN_KINDS, Kind
from runs.tests.rows import edges, metrics, run_make, topic

pytestmark = pytest.mark.django_db

MESSAGES = 100_000
GOOD_EVERY = 25
# Statuses and presences are applied one by one, so that a sound one costs more than a hundred reports.
RARE = {Kind.STATUS, Kind.PRESENCE}
WHOLE: dict[Kind, dict[str, Any]] = {
    Kind.METRICS: {"metrics": [{"name": "bad", "step": 1, "time": 5.5, "value": "NaN", "round": 2}]},
    Kind.ROUND: {"round_index": 0, "total_rounds": 3, "running_time": 1.5},
    Kind.EVENT: {"event_name": "train", "event_value": "3", "started_time": 5.5},
    Kind.SYSTEM: {"time": 5.5, "cpu_utilization": 12.5, "gpu.0.utilization": 3},
    Kind.MODEL: {"round_index": 1, "kind": "client", "key": "k", "sha256": "0" * 64, "size": 4, "metrics": {"a": 1}},
    Kind.LOG: {"lines": [{"seq": 1, "time": 5.5, "stream": "stdout", "line": "caf\u00e9 \u0000"}]},
    Kind.STATUS: {"run_id": 1, "status": "TRAINING", "reason": "", "phase": "run", "progress": 0.5, "time": 5.5},
    Kind.PRESENCE: {"state": "ONLINE", "boot": "b", "time": 5.5, "os": "Linux", "runs": [], "check": None},
}
STRANGE: list[Any] = [
    None, True, -1, 0, 2**63, 2**70, 1e308, -0.0, "", "x" * 300, "\u0000", "NaN", [], {}, [[]], "\U0001f600", "../..",
]  # fmt: skip


def mutated(whole: dict[str, Any], chance: random.Random) -> bytes:
    """A message with a field that is missing, strange or too much, or with bytes that are changed, cut or doubled."""
    message = orjson.loads(orjson.dumps(whole))
    place = chance.randrange(5)
    if place < 3:
        target = message
        if chance.random() < 0.5:
            target = next((part[0] for part in message.values() if isinstance(part, list) and part), message)
        name = chance.choice([*target, "unknown"])
        if place == 0:
            target.pop(name, None)
        elif (value := chance.choice(STRANGE)) == 2**70:
            return orjson.dumps(message).replace(b":", b":" + str(2**70).encode(), 1)
        else:
            target[name] = value
        return orjson.dumps(message)
    data = bytearray(orjson.dumps(message))
    if place == 3:
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        return bytes(data)
    cut = chance.randrange(len(data))
    return bytes(data[:cut] + data[cut:] * chance.randrange(3))


def name_of(kind: Kind, run_id: int, edge: int, chance: random.Random) -> str:
    """A topic of the kind; every now and then one of nobody, or of nothing."""
    if chance.random() < 0.03:
        return chance.choice(
            ["", "/", "runs", f"runs/{run_id}/{edge}/nothing", f"runs/-1/{edge}/log", f"runs/{10**30}/1/log",
             f"runs/999999/{edge}/{kind.value}", f"runs/{run_id}/999999/{kind.value}", f"edges/{edge}/command"]
        )  # fmt: skip
    if kind is Kind.PRESENCE or (kind is Kind.STATUS and chance.random() < 0.5):
        return f"edges/{edge}/{kind.value}"
    return f"runs/{run_id}/{0 if kind in (Kind.ROUND, Kind.STATUS) else edge}/{kind.value}"


def test_a_flood_of_100_000_mutated_messages_hurts_no_good_one(caplog: pytest.LogCaptureFixture) -> None:
    chance = random.Random(11)  # noqa: S311
    run = run_make()
    edge = edges(run)[0]
    worker = IngestWorker(0)
    kinds = sorted({*EDGE_KINDS, *RUN_KINDS}, key=lambda kind: kind.value)
    weights = [1 if kind in RARE else 40 for kind in kinds]
    good = 0
    batch: list[Received] = []
    for number in range(MESSAGES):
        if number % GOOD_EVERY == 0:
            good += 1
            name = topic(run, edge, Kind.METRICS)
            data = orjson.dumps(metrics(good, ("good", good, good / 2), instance="good"))
        else:
            (kind,) = chance.choices(kinds, weights)
            whole = {"instance": "bad", "seq": number, **WHOLE[kind]}
            if kind in RARE:
                whole |= {"run_id": run.pk}
            name = name_of(kind, run.pk, edge, chance)
            random_bytes = chance.random() < 0.1
            data = chance.randbytes(chance.randrange(200)) if random_bytes else mutated(whole, chance)
        batch.append(Received(name, data, False, 1, 1, 1, time.monotonic()))
        if len(batch) == 4 * BATCH_MESSAGES or number == MESSAGES - 1:
            worker.batch_handle(batch)
            batch = []
    counters = worker.counters
    points = Point.objects.filter(series__run=run, series__name="good").order_by("step").values_list("step", "value")
    assert list(points) == [(float(step), step / 2) for step in range(1, good + 1)]
    done = counters.stored + counters.duplicate + counters.statuses + counters.presences
    assert done + sum(counters.refused.values()) == MESSAGES
    assert set(counters.refused) == {"schema", "unknown_topic", "unknown_run", "no_part"}
    assert Receipt.objects.filter(run=run).count() == counters.stored
    assert counters.stored > good
    assert "Traceback" not in caplog.text
