"""The container engine: does it answer, and what is it?"""

from __future__ import annotations

from django.conf import settings

from health.checks.backend import containers_wanted
from health.checks.interface import Check, Level, Outcome
from runs.pipeline.backends.engine import engine_client, engine_look, image_inspect
from runs.pipeline.backends.interface import StageFailed, StageTransient


def ask() -> Outcome:
    """Ask the engine what it is, and whether it has the base image."""
    where = ("engine", settings.DOCKER_HOST)
    try:
        engine = engine_look()
        with engine_client() as client:
            has_base = image_inspect(client, settings.BASE_IMAGE) is not None
    except (StageFailed, StageTransient) as error:
        cause = ("error", str(error.__cause__ or error))
        if containers_wanted():
            return Outcome(
                Level.FAILED,
                "The container engine cannot be used: runs that need it wait.",
                fix=f"{error} The user of the worker must be allowed to use it (on Debian: the group docker).",
                facts=(where, cause),
            )
        return Outcome(Level.NEUTRAL, "Not configured: the process backend is used.", facts=(where, cause))
    swarm = f"manager, {engine.swarm_nodes} nodes" if engine.swarm_manager else "none"
    base = "here" if has_base else "not here yet: it is pulled when it is first needed"
    facts = (where, ("version", engine.version), ("swarm", swarm), ("base image", f"{settings.BASE_IMAGE}, {base}"))
    return Outcome(Level.OK, f"An engine of version {engine.version} answers.", facts=facts)


CHECK = Check(
    name="engine",
    title="Container engine",
    question="Does it answer the worker?",
    ask=ask,
    seconds=10.0,
    in_worker=True,
)
