"""Ingest: does every slot store what devices report, and how far is it behind?"""

from __future__ import annotations

import time
from typing import Any

import redis

from health.checks.interface import Check, Level, Outcome
from runs.telemetry.health import ingest_health

BEHIND_SECONDS = 10.0


def ask() -> Outcome:
    """Read what the ingest workers say of themselves."""
    try:
        workers = ingest_health()
    except (redis.RedisError, OSError) as error:
        return Outcome(
            Level.FAILED,
            "It is not known how ingest is.",
            fix="See the check of Redis: ingest workers say there how they are.",
            facts=(("error", str(error)),),
        )
    facts = tuple((f"slot {worker['slot']}", _words(worker)) for worker in workers)
    if not any(worker["slot"] == 0 for worker in workers):
        return Outcome(
            Level.FAILED,
            "Slot 0 was never started: nothing is heard of devices.",
            fix="Start it: `manage.py ingest --slot 0`.",
            facts=facts,
        )
    silent = [worker for worker in workers if not worker["alive"]]
    if silent:
        slots = ", ".join(str(worker["slot"]) for worker in silent)
        return Outcome(
            Level.FAILED,
            f"Nothing is heard of {_slots(silent)}: what devices report waits in the broker.",
            fix=f"Start `manage.py ingest --slot N` again for slot {slots}; give up a slot that is not wanted any more "
            "by `manage.py ingest --slot N --retire`.",
            facts=facts,
        )
    if cut_off := [worker for worker in workers if not worker["connected"]]:
        return Outcome(
            Level.FAILED,
            f"{_slots(cut_off).capitalize()} has no connection to the broker.",
            fix="See the check of the broker, and the log of the ingest worker.",
            facts=facts,
        )
    if starved := [worker for worker in workers if worker["database_away_since"] is not None]:
        return Outcome(
            Level.FAILED,
            f"{_slots(starved).capitalize()} waits for the database.",
            fix="See the check of the database, and the log of the ingest worker.",
            facts=facts,
        )
    lag = max(worker["lag_seconds"] for worker in workers)
    if lag > BEHIND_SECONDS:
        return Outcome(
            Level.WARNING,
            f"What devices report is stored {lag:.0f} s after it came in.",
            fix="Start further slots (`manage.py ingest --slot 1`, ...), or look at the load of the database.",
            facts=facts,
        )
    return Outcome(Level.OK, f"What devices report is stored within {max(lag, 0.01):.2g} s.", facts=facts)


def _slots(workers: list[dict[str, Any]]) -> str:
    numbers = [str(worker["slot"]) for worker in workers]
    return f"slot {numbers[0]}" if len(numbers) == 1 else f"slots {', '.join(numbers)}"


def _words(worker: dict[str, Any]) -> str:
    """One slot in words: how it is, and its counters since it started."""
    counted = [f"{worker['received']} received", f"{worker['stored']} stored", f"{worker['duplicate']} duplicate"]
    counted += [f"{count} refused ({reason})" for reason, count in sorted(worker["refused"].items())]
    heard = f"heard of {max(0.0, time.time() - worker['at']):.0f} s ago"
    return f"{heard}, {worker['lag_seconds']:.2f} s behind, {worker['waiting']} waiting; messages: {', '.join(counted)}"


CHECK = Check(
    name="ingest",
    title="Ingest",
    question="Does every slot store what devices report, without falling behind?",
    ask=ask,
)
