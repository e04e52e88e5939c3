"""The backends, by name. Adding one: a module beside this one, a line in the table, its name in the settings' help.

The table is in the order of preference of ``BACKEND=auto``.
"""

from __future__ import annotations

from django.conf import settings

from runs.pipeline.backends.interface import Backend
from runs.pipeline.backends.process import ProcessBackend

BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (ProcessBackend(),)}


class BackendUnknown(Exception):
    """There is no backend of this name, or none can be used here; the message is a sentence."""


def backend_get(name: str) -> Backend:
    """Return the backend of this name.

    Raises:
        BackendUnknown: there is none.
    """
    try:
        return BACKENDS[name]
    except KeyError:
        raise BackendUnknown(f"There is no backend named {name}; there are {', '.join(BACKENDS)}.") from None


def backend_choose(name: str | None = None) -> str:
    """Return the name of the backend that a new run uses.

    Args:
        name: a backend's name; None or empty for the installation's setting. ``auto`` takes the first that works here.

    Raises:
        BackendUnknown: there is no such backend, or none works.
    """
    wanted = name or settings.BACKEND
    if wanted != "auto":
        return backend_get(wanted).name
    reasons = []
    for backend in BACKENDS.values():
        works, why = backend.available()
        if works:
            return backend.name
        reasons.append(f"{backend.label}: {why}")
    raise BackendUnknown(f"No backend can be used on this machine. {' '.join(reasons)}")
