"""The backend of one container engine: images by digest, aggregators as hardened containers."""

from __future__ import annotations

import contextlib

from django.conf import settings
from docker.errors import NotFound

from runs.pipeline.backends.containers import ContainerBackend, FoundInstance, label_filter, labels_read
from runs.pipeline.backends.engine import EngineClient, EngineFacts

STOP_SECONDS = 10


class DockerBackend(ContainerBackend):
    """Opens aggregators as containers of the engine at hand."""

    name = "docker"
    label = "Containers of the engine"

    def _available(self, engine: EngineFacts) -> tuple[bool, str]:
        return True, f"Engine {engine.version} at {settings.DOCKER_HOST}, registry {settings.REGISTRY}."

    def _instances(self, client: EngineClient, run_id: int | None, **labels: str) -> list[FoundInstance]:
        return [
            FoundInstance(
                container["Id"],
                (container.get("Names") or [container["Id"][:12]])[0].lstrip("/"),
                *labels_read(container["Labels"]),
                container["State"] in ("created", "running", "paused", "restarting"),
            )
            for container in client.containers(all=True, filters=label_filter(run_id, labels))
            if "com.docker.swarm.service.id" not in container["Labels"]
        ]

    def _stop(self, client: EngineClient, found: FoundInstance) -> None:
        with contextlib.suppress(NotFound):
            client.stop(found.id, timeout=STOP_SECONDS)

    def _remove(self, client: EngineClient, found: FoundInstance) -> None:
        with contextlib.suppress(NotFound):
            client.remove_container(found.id, force=True, v=True)
