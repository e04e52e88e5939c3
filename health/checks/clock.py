"""The clocks: do this machine and the database's agree? Times of both stand beside each other in rows."""

from __future__ import annotations

import time

from django.db import Error, connection

from health.checks.interface import Check, Level, Outcome, milliseconds

WARNING_SECONDS = 1.0
FAILED_SECONDS = 5.0
FIX = "Let a time service (chrony, systemd-timesyncd) set the clocks of all machines of the platform."


def ask() -> Outcome:
    """Compare the clock of this process with that of the database."""
    if connection.vendor == "sqlite":
        return Outcome(Level.OK, "The database is on this machine and has its clock.")
    try:
        with connection.cursor() as cursor:
            before = time.time()
            cursor.execute("SELECT EXTRACT(EPOCH FROM clock_timestamp())")
            theirs = float(cursor.fetchone()[0])
            after = time.time()
    except Error as error:
        return Outcome(
            Level.FAILED,
            "The database does not tell its time.",
            fix="See the check of the database.",
            facts=(("error", str(error).strip()),),
        )
    return judge(theirs - (before + after) / 2, uncertainty=(after - before) / 2)


def judge(skew: float, uncertainty: float) -> Outcome:
    """Say what a difference means.

    Args:
        skew: seconds by which the database's clock is ahead.
        uncertainty: how far off the measurement may be, in seconds.
    """
    facts = (("database ahead by", milliseconds(skew)), ("measured to within", milliseconds(uncertainty)))
    size = abs(skew) - uncertainty
    if size <= WARNING_SECONDS:
        return Outcome(Level.OK, "This machine and the database agree on the time.", facts=facts)
    level = Level.FAILED if size > FAILED_SECONDS else Level.WARNING
    return Outcome(level, f"This machine and the database differ by {abs(skew):.1f} s.", fix=FIX, facts=facts)


CHECK = Check(
    name="clock",
    title="Clocks",
    question="Do this machine and the database agree on the time?",
    ask=ask,
)
