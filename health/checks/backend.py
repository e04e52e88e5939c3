"""The backend: where are packages built and aggregators run, and why there?"""

from __future__ import annotations

from django.conf import settings

from health.checks.interface import Check, Level, Outcome
from runs.pipeline.backends import BACKENDS, BackendUnknown, backend_choose


def ask() -> Outcome:
    """Choose a backend as a new run would, and say what each of them is like here."""
    facts = [("setting", settings.BACKEND)]
    for backend in BACKENDS.values():
        works, why = backend.available()
        facts.append((backend.name, why if works else f"not available: {why}"))
    try:
        chosen = BACKENDS[backend_choose()]
    except BackendUnknown as error:
        return Outcome(
            Level.FAILED,
            "No backend can be used: runs cannot be started.",
            fix=f"{error} Set ROUNDTABLE_BACKEND to one that is available, or make it available.",
            facts=tuple(facts),
        )
    works, why = chosen.available()
    if not works:
        return Outcome(
            Level.FAILED,
            f"New runs use the backend {chosen.name}, which is not available.",
            fix=f"{why} Make it available, or set ROUNDTABLE_BACKEND to another.",
            facts=tuple(facts),
        )
    why_chosen = "the first that works here" if settings.BACKEND == "auto" else "as the settings say"
    return Outcome(Level.OK, f"New runs use the backend {chosen.name}: {why_chosen}.", facts=tuple(facts))


CHECK = Check(
    name="backend",
    title="Backend",
    question="Where are packages built and aggregators run?",
    ask=ask,
    seconds=12.0,
    in_worker=True,
)
