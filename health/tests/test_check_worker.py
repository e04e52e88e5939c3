"""The checks of worker, builder and beat, with real workers."""

from __future__ import annotations

import time
from typing import cast

import orjson
import pytest
from django.test import override_settings

from health.checks import CHECKS, beat, builder, worker
from health.checks.interface import Level, Outcome
from health.runner import check_finding
from health.tasks import answer
from health.tests.conftest import Start
from health.worker_answers import worker_echo, worker_outcome
from mlops_site.celery import BUILDS_QUEUE, TASKS_QUEUE
from runs.live.frames import redis_client
from runs.pipeline import heartbeat
from runs.pipeline.tasks import reap


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "TAKEN_SECONDS", 1.0)


@pytest.fixture(autouse=True)
def _nothing_queued(redis_url: str) -> None:
    redis_client().flushdb()


def test_a_worker_takes_tasks_and_makes_checks(worker_start: Start) -> None:
    worker_start()
    outcome = worker.ask()
    assert outcome.level is Level.OK
    assert outcome.text.startswith("A task was taken and answered in ")
    assert dict(outcome.facts)["workers"] == "health-tasks@test"
    finding = check_finding(CHECKS["backend"])
    assert finding.outcome.level is Level.OK
    assert finding.outcome.text == "New runs use the backend process: Processes on this machine."


def test_no_worker_is_there() -> None:
    outcome = worker.ask()
    assert (outcome.level, outcome.text) == (
        Level.FAILED,
        "No worker answers: nothing is started, stopped or looked after.",
    )
    assert dict(outcome.facts)["workers"] == "none"
    assert dict(outcome.facts)["tasks waiting"] == "1"


def test_a_builder_is_no_worker_and_takes_builds(worker_start: Start) -> None:
    assert builder.ask().text == "No builder answers: runs that are started wait."
    worker_start(queue=BUILDS_QUEUE)
    assert worker.ask().level is Level.FAILED
    assert builder.ask() == Outcome(
        Level.OK, "A builder answers.", facts=(("builders", "health-builds@test"), ("builds waiting", "0"))
    )


def test_builds_that_wait_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    redis_client().rpush(BUILDS_QUEUE, "one", "two")
    monkeypatch.setattr(builder, "takers", lambda _queue: ["busy@test"])
    assert builder.ask().text == "A builder answers. 2 builds wait for one to be free."


def test_a_worker_that_takes_nothing_is_told_from_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "takers", lambda _queue: ["busy@test"])
    outcome = worker.ask()
    assert outcome.level is Level.WARNING
    assert dict(outcome.facts)["workers"] == "busy@test"


def test_the_queue_is_away() -> None:
    with override_settings(REDIS_URL="redis://127.0.0.1:1/0"):
        outcomes = worker.ask(), builder.ask()
    assert {(outcome.level, outcome.text) for outcome in outcomes} == {
        (Level.FAILED, "The task queue cannot be reached.")
    }


def test_what_a_worker_has_to_look_at_is_not_known_without_one() -> None:
    check = CHECKS["engine"]
    began = time.monotonic()
    outcome = worker_outcome(type(check)(**{**check.__dict__, "seconds": 0.5}))
    assert time.monotonic() - began < 2.0
    assert outcome.level is Level.WARNING
    assert "none has answered" in outcome.text


def test_an_answer_is_not_kept_for_ever() -> None:
    answer(key="k", check_name="")
    assert redis_client().ttl("health:answer:k") == 60
    assert worker_echo(0.1) is False


def test_a_task_that_nobody_waits_for_is_dropped() -> None:
    worker_echo(0.1)
    (message,) = cast("list[bytes]", redis_client().lrange(TASKS_QUEUE, 0, -1))
    assert orjson.loads(message)["headers"]["expires"] is not None


@pytest.mark.parametrize(
    ("age", "level"), [(None, Level.FAILED), (0.0, Level.OK), (25.0, Level.OK), (40.0, Level.FAILED)]
)
def test_the_reaper_has_to_run_every_few_seconds(age: float | None, level: Level) -> None:
    if age is not None:
        redis_client().set(heartbeat.KEY, repr(time.time() - age))
    outcome = beat.ask()
    assert outcome.level is level
    assert ("celery -A mlops_site beat" in outcome.fix) is (level is Level.FAILED)


@pytest.mark.django_db
def test_the_reaper_says_that_it_ran() -> None:
    reap()
    last = heartbeat.reap_last()
    assert last is not None
    assert time.time() - last < 5.0


def test_when_the_reaper_ran_is_not_known_without_redis() -> None:
    with override_settings(REDIS_URL="redis://127.0.0.1:1/0"):
        heartbeat.reap_noted()
        outcome = beat.ask()
    assert (outcome.level, outcome.text) == (Level.FAILED, "It is not known when the reaper last ran.")


def test_an_answer_that_is_bad_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="does not say what to do"):
        Outcome(Level.FAILED, "Something is wrong.")
