"""Beat: is the reaper, which looks after what is under way, called every few seconds?"""

from __future__ import annotations

import time

import redis

from health.checks.interface import Check, Level, Outcome
from runs.pipeline.heartbeat import reap_last

LATE_SECONDS = 30.0


def ask() -> Outcome:
    """Look when the reaper last ran."""
    try:
        last = reap_last()
    except (redis.RedisError, OSError) as error:
        return Outcome(
            Level.FAILED,
            "It is not known when the reaper last ran.",
            fix="See the check of Redis: it keeps that time.",
            facts=(("error", str(error)),),
        )
    fix = "Start one: `celery -A mlops_site beat`. If it runs, see the check of the worker: the reaper is a task."
    if last is None:
        return Outcome(Level.FAILED, "The reaper never ran: runs that are stuck stay so.", fix=fix)
    seconds = max(0.0, time.time() - last)
    if seconds > LATE_SECONDS:
        return Outcome(Level.FAILED, f"The reaper last ran {seconds:.0f} s ago: runs that are stuck stay so.", fix=fix)
    return Outcome(Level.OK, f"The reaper last ran {seconds:.0f} s ago.")


CHECK = Check(
    name="beat",
    title="Beat",
    question="Is it looked, every few seconds, after what is under way?",
    ask=ask,
)
