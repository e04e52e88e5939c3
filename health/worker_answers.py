"""Asking a worker: checks that have to be made where packages are built, and whether tasks are taken at all.

The task that asks carries a random key; the worker puts its answer under that key into Redis, where whoever asked waits
for it. Nobody waits longer than a check may take, and a task that nobody waits for any more is dropped.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import asdict
from typing import cast

import orjson

from health.checks.interface import Check, Level, Outcome
from mlops_site.celery import app
from runs.live.frames import redis_client

TASK = "health.tasks.answer"
KEPT_SECONDS = 60


def worker_echo(seconds: float) -> bool:
    """Return whether a worker takes a task and answers within this time.

    Raises:
        kombu.exceptions.OperationalError, redis.RedisError: Redis is away.
    """
    return _ask("", seconds) is not None


def worker_outcome(check: Check) -> Outcome:
    """Have a worker make a check.

    Raises:
        kombu.exceptions.OperationalError, redis.RedisError: Redis is away.
    """
    answer = _ask(check.name, check.seconds)
    if answer is None:
        return Outcome(
            Level.WARNING,
            f"This is looked at by a worker, and none has answered within {check.seconds:.0f} s.",
            fix="See the check of the worker. Where the workers are there and busy, check again later.",
        )
    value = orjson.loads(answer)
    facts = tuple((name, text) for name, text in value["facts"])
    return Outcome(Level(value["level"]), value["text"], value["fix"], facts)


def answer_put(key: str, outcome: Outcome | None) -> None:
    """Put a worker's answer where it is waited for; None: a mere sign of life."""
    client = redis_client()
    client.rpush(_key(key), orjson.dumps(None if outcome is None else asdict(outcome)))
    client.expire(_key(key), KEPT_SECONDS)


def _ask(check_name: str, seconds: float) -> bytes | None:
    key = secrets.token_hex(16)
    deadline = time.monotonic() + seconds
    app.send_task(TASK, kwargs={"key": key, "check_name": check_name}, expires=seconds, retry=False)
    while time.monotonic() < deadline:
        found = cast("tuple[bytes, bytes] | None", redis_client().blpop([_key(key)], timeout=1))
        if found is not None:
            return found[1]
    return None


def _key(key: str) -> str:
    return f"health:answer:{key}"
