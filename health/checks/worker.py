"""The worker: does one answer, and does it take tasks?"""

from __future__ import annotations

import time
from typing import Any

import redis
from kombu.exceptions import OperationalError

from health.checks.interface import Check, Level, Outcome, milliseconds
from health.worker_answers import worker_echo
from mlops_site.celery import app
from runs.live.frames import redis_client

PING_SECONDS = 1.0
TAKEN_SECONDS = 3.0
START = "Start one: `celery -A mlops_site worker`."


def ask() -> Outcome:
    """Ask every worker for a sign of life, then see that a task is taken from the queue."""
    try:
        replies: list[dict[str, Any]] = app.control.ping(timeout=PING_SECONDS) or []
        began = time.perf_counter()
        taken = worker_echo(TAKEN_SECONDS)
        seconds = time.perf_counter() - began
        waiting, working = queue_lengths()
    except (OperationalError, redis.RedisError, OSError) as error:
        return Outcome(
            Level.FAILED,
            "The task queue cannot be reached.",
            fix="See the check of Redis: it holds the queue.",
            facts=(("error", str(error)),),
        )
    names = sorted(name for reply in replies for name in reply)
    facts = (
        ("workers", ", ".join(names) or "none"),
        ("tasks waiting", str(waiting)),
        ("tasks being worked on", str(working)),
    )
    if taken:
        return Outcome(Level.OK, f"A task was taken and answered in {milliseconds(seconds)}.", facts=facts)
    if not names:
        return Outcome(Level.FAILED, "No worker answers: runs that are started wait.", fix=START, facts=facts)
    return Outcome(
        Level.WARNING,
        f"The workers are there, but none has taken a task within {TAKEN_SECONDS:.0f} s.",
        fix="If they build packages at the moment, wait, or start more of them. If they do not, look at their log.",
        facts=facts,
    )


def queue_lengths() -> tuple[int, int]:
    """Return how many tasks wait in the queue, and how many were taken and are not done.

    Raises:
        redis.RedisError: Redis is away.
    """
    client = redis_client()
    waiting = client.llen(app.conf.task_default_queue)
    return waiting, client.hlen("unacked")


CHECK = Check(
    name="worker",
    title="Worker",
    question="Does one answer, and does it take tasks?",
    ask=ask,
    seconds=8.0,
)
