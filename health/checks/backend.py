"""The backend: where are packages built and aggregators run, and why there?"""

from __future__ import annotations

from django.conf import settings

from health.checks.interface import Check, Level, Outcome
from runs.pipeline.backend_choice import backend_choice, backends_look
from runs.pipeline.backends import BackendUnknown


def ask() -> Outcome:
    """Choose a backend as a new run would, and say what each of them is like here."""
    facts = [("setting", settings.BACKEND)]
    found = backends_look()
    for name, finding in found.backends.items():
        facts.append((name, finding.why if finding.available else f"not available: {finding.why}"))
    try:
        choice = backend_choice(findings=found)
    except BackendUnknown as error:
        return Outcome(
            Level.FAILED,
            "No backend can be used: runs cannot be started.",
            fix=f"{error} Set ROUNDTABLE_BACKEND to one that is available, or make one available.",
            facts=tuple(facts),
        )
    facts.append(("why", choice.why))
    chosen = found.backends[choice.name]
    if not chosen.available:
        return Outcome(
            Level.FAILED,
            f"New runs use the backend {choice.name}, which is not available.",
            fix=f"{chosen.why} Or set ROUNDTABLE_BACKEND to another backend.",
            facts=tuple(facts),
        )
    return Outcome(Level.OK, f"New runs use the backend {choice.name}: {choice.label}.", facts=tuple(facts))


def containers_wanted() -> bool:
    """Return whether new runs need a container engine and a registry, or would if these worked."""
    if settings.BACKEND == "auto":
        return bool(settings.REGISTRY)
    return bool(settings.BACKEND != "process")


CHECK = Check(
    name="backend",
    title="Backend",
    question="Where are packages built and aggregators run?",
    ask=ask,
    seconds=15.0,
    in_worker=True,
)
