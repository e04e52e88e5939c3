"""The check of ingest. With real workers it is tried in ``tests/test_preflight.py``."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest
from django.test import override_settings

from health.checks import ingest
from health.checks.interface import Level
from runs.live.frames import redis_client
from runs.telemetry.health import KEY, Counters, health_publish


@pytest.fixture(autouse=True)
def _no_workers(redis_url: str) -> None:
    redis_client().delete(KEY)


def show(slot: int, **values: Any) -> None:
    health_publish(Counters(**{"slot": slot, "connected": True, **values}))


def silence(slot: int) -> None:
    entry = orjson.loads(redis_client().hget(KEY, str(slot)) or b"{}")
    redis_client().hset(KEY, str(slot), orjson.dumps({**entry, "at": time.time() - 45}))


def test_every_slot_is_shown_with_its_counters() -> None:
    show(0, received=7, stored=4, duplicate=1, refused={"schema": 2}, lag_seconds=0.25)
    show(1)
    outcome = ingest.ask()
    assert (outcome.level, outcome.text) == (Level.OK, "What devices report is stored within 0.25 s.")
    facts = dict(outcome.facts)
    assert list(facts) == ["slot 0", "slot 1"]
    assert facts["slot 0"] == (
        "heard of 0 s ago, 0.25 s behind, 0 waiting; messages: 7 received, 4 stored, 1 duplicate, 2 refused (schema)"
    )


def test_none_was_ever_started() -> None:
    outcome = ingest.ask()
    assert (outcome.level, outcome.text) == (
        Level.FAILED,
        "Slot 0 was never started: nothing is heard of devices.",
    )


def test_slot_0_is_missing() -> None:
    show(1)
    assert ingest.ask().level is Level.FAILED


def test_a_slot_that_fell_silent_is_named() -> None:
    show(0)
    show(1)
    show(2)
    silence(1)
    silence(2)
    outcome = ingest.ask()
    assert outcome.level is Level.FAILED
    assert outcome.text == "Nothing is heard of slots 1, 2: what devices report waits in the broker."
    assert "for slot 1, 2" in outcome.fix


@pytest.mark.parametrize(
    ("values", "level", "text"),
    [
        ({"connected": False}, Level.FAILED, "Slot 0 has no connection to the broker."),
        ({"database_away_since": 1.0}, Level.FAILED, "Slot 0 waits for the database."),
        ({"lag_seconds": 12.4}, Level.WARNING, "What devices report is stored 12 s after it came in."),
    ],
)
def test_a_worker_in_trouble_is_told(values: dict[str, Any], level: Level, text: str) -> None:
    show(0, **values)
    outcome = ingest.ask()
    assert (outcome.level, outcome.text) == (level, text)


def test_nothing_is_known_without_redis() -> None:
    with override_settings(REDIS_URL="redis://127.0.0.1:1/0"):
        outcome = ingest.ask()
    assert (outcome.level, outcome.text) == (Level.FAILED, "It is not known how ingest is.")
