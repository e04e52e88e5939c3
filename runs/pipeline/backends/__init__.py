"""The backends, by name. Adding one: a module beside this one, a line in the table, its name in the settings' help.

The table is in the order of preference of ``BACKEND=auto``.
"""

from __future__ import annotations

from runs.pipeline.backends.docker import DockerBackend
from runs.pipeline.backends.interface import Backend
from runs.pipeline.backends.process import ProcessBackend
from runs.pipeline.backends.swarm import SwarmBackend

BACKENDS: dict[str, Backend] = {
    backend.name: backend for backend in (SwarmBackend(), DockerBackend(), ProcessBackend())
}


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
