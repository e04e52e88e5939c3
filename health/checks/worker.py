"""The worker: does one answer, and does it take tasks?"""

from __future__ import annotations

import time

import redis
from kombu.exceptions import OperationalError

from health.checks.interface import Check, Level, Outcome, milliseconds
from health.worker_answers import worker_echo
from mlops_site.celery import BUILDS_QUEUE, TASKS_QUEUE, app
from runs.live.frames import redis_client

LISTEN_SECONDS = 1.0
TAKEN_SECONDS = 3.0
START = f"Start one: `celery -A mlops_site worker -Q {TASKS_QUEUE} --pool threads`."


def ask() -> Outcome:
    """Ask every worker for a sign of life, then see that a task is taken from the queue."""
    try:
        names = takers(TASKS_QUEUE)
        began = time.perf_counter()
        taken = worker_echo(TAKEN_SECONDS)
        seconds = time.perf_counter() - began
        waiting, working = queue_length(TASKS_QUEUE), tasks_taken()
    except (OperationalError, redis.RedisError, OSError) as error:
        return Outcome(
            Level.FAILED,
            "The task queue cannot be reached.",
            fix="See the check of Redis: it holds the queue.",
            facts=(("error", str(error)),),
        )
    facts = (
        ("workers", ", ".join(names) or "none"),
        ("tasks waiting", str(waiting)),
        ("tasks being worked on", str(working)),
    )
    if taken:
        return Outcome(Level.OK, f"A task was taken and answered in {milliseconds(seconds)}.", facts=facts)
    if not names:
        return Outcome(
            Level.FAILED, "No worker answers: nothing is started, stopped or looked after.", fix=START, facts=facts
        )
    return Outcome(
        Level.WARNING,
        f"The workers are there, but none has taken a task within {TAKEN_SECONDS:.0f} s.",
        fix="Look at their log and load, or start more of them. One without -Q also builds, which takes long.",
        facts=facts,
    )


def takers(queue: str) -> list[str]:
    """Return the names of the workers that take tasks from a queue.

    Raises:
        kombu.exceptions.OperationalError, redis.RedisError: Redis is away.
    """
    answers = app.control.inspect(timeout=LISTEN_SECONDS).active_queues() or {}
    return sorted(name for name, queues in answers.items() if any(taken["name"] == queue for taken in queues))


def queue_length(queue: str) -> int:
    """Return how many tasks wait in a queue.

    Raises:
        redis.RedisError: Redis is away.
    """
    return redis_client().llen(queue)


def queue_lengths() -> dict[str, int]:
    """Return how many tasks wait, by queue.

    Raises:
        redis.RedisError: Redis is away.
    """
    return {queue: queue_length(queue) for queue in (TASKS_QUEUE, BUILDS_QUEUE)}


def tasks_taken() -> int:
    """Return how many tasks of all queues were taken and are not done.

    Raises:
        redis.RedisError: Redis is away.
    """
    return redis_client().hlen("unacked")


CHECK = Check(
    name="worker",
    title="Worker",
    question="Does one answer, and does it take tasks?",
    ask=ask,
    seconds=8.0,
)
