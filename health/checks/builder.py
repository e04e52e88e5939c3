"""The builder: does one take what has to be built?"""

from __future__ import annotations

import redis
from kombu.exceptions import OperationalError

from health.checks.interface import Check, Level, Outcome
from health.checks.worker import queue_length, takers
from mlops_site.celery import BUILDS_QUEUE

START = f"Start one: `celery -A mlops_site worker -Q {BUILDS_QUEUE}`."


def ask() -> Outcome:
    """Ask who takes builds, and look how many wait. A builder may be busy for hours; its main process still answers."""
    try:
        names = takers(BUILDS_QUEUE)
        waiting = queue_length(BUILDS_QUEUE)
    except (OperationalError, redis.RedisError, OSError) as error:
        return Outcome(
            Level.FAILED,
            "The task queue cannot be reached.",
            fix="See the check of Redis: it holds the queue.",
            facts=(("error", str(error)),),
        )
    facts = (("builders", ", ".join(names) or "none"), ("builds waiting", str(waiting)))
    if not names:
        return Outcome(Level.FAILED, "No builder answers: runs that are started wait.", fix=START, facts=facts)
    waits = f" {waiting} {'build waits' if waiting == 1 else 'builds wait'} for one to be free." if waiting else ""
    return Outcome(Level.OK, f"A builder answers.{waits}", facts=facts)


CHECK = Check(
    name="builder",
    title="Builder",
    question="Does one take what has to be built?",
    ask=ask,
)
