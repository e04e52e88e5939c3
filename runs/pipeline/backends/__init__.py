"""The backends, by name. Adding one: a module beside this one, a line in the table, its name in the settings' help.

The table is in the order of preference of ``BACKEND=auto``.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from runs.pipeline.backends.docker import DockerBackend
from runs.pipeline.backends.interface import Backend
from runs.pipeline.backends.process import ProcessBackend
from runs.pipeline.backends.swarm import SwarmBackend

BACKENDS: dict[str, Backend] = {
    backend.name: backend for backend in (SwarmBackend(), DockerBackend(), ProcessBackend())
}


class BackendUnknown(Exception):
    """There is no backend of this name, or none can be used here; the message is a sentence."""


@dataclass(frozen=True)
class BackendChoice:
    """The backend that a run uses.

    Attributes:
        name, label: the backend's.
        why: what chose it, and what it found or lacks, in sentences.
    """

    name: str
    label: str
    why: str


def backend_get(name: str) -> Backend:
    """Return the backend of this name.

    Raises:
        BackendUnknown: there is none.
    """
    try:
        return BACKENDS[name]
    except KeyError:
        raise BackendUnknown(f"There is no backend named {name}; there are {', '.join(BACKENDS)}.") from None


def backend_choice(name: str | None = None) -> BackendChoice:
    """Return the backend that a new run uses, and why.

    Args:
        name: a backend's name; None or empty for the installation's setting. ``auto`` takes the first that suits this
            machine: a swarm of several nodes, then an engine, both with a registry, then processes. One that is named
            is taken even where it cannot be used at this moment: a stage then says what it lacks.

    Raises:
        BackendUnknown: there is no such backend, or none works.
    """
    wanted = name or settings.BACKEND
    if wanted != "auto":
        backend = backend_get(wanted)
        set_by = "Chosen for this run." if name else "Set by ROUNDTABLE_BACKEND."
        return BackendChoice(backend.name, backend.label, f"{set_by} {backend.available()[1]}")
    reasons: list[str] = []
    for backend in BACKENDS.values():
        suits, why = backend.recommended()
        if suits:
            passed = " ".join(reasons)
            return BackendChoice(backend.name, backend.label, f"Found by itself. {why} {passed}".strip())
        reasons.append(f"Not {backend.name}: {why}")
    raise BackendUnknown(f"No backend can be used on this machine. {' '.join(reasons)}")


def backend_choose(name: str | None = None) -> str:
    """Return the name of the backend that a new run uses; see ``backend_choice``."""
    return backend_choice(name).name
