"""The backend of a cluster: aggregators as replicated jobs of a Docker swarm, on whichever node has room for them."""

from __future__ import annotations

import contextlib
from pathlib import Path

from django.conf import settings
from docker.errors import APIError, NotFound

from runs.pipeline.backends.containers import (
    ContainerBackend,
    FoundInstance,
    home_label,
    is_left,
    label_filter,
    labels_read,
)
from runs.pipeline.backends.engine import EngineClient, EngineFacts, engine_client, engine_look

STOP_SECONDS = 10
NODES_BY_ITSELF = 2
ENDED_TASKS = {"complete", "shutdown", "failed", "rejected", "remove", "orphaned"}


class SwarmBackend(ContainerBackend):
    """Opens aggregators as services of the swarm that the engine at hand manages."""

    name = "swarm"
    label = "Jobs of the swarm"

    def recommended(self) -> tuple[bool, str]:
        """A swarm of one node gains nothing over its engine's own containers."""
        works, why = self.available()
        if works and engine_look().swarm_nodes < NODES_BY_ITSELF:
            return False, "Its swarm has a single node."
        return works, why

    def _available(self, engine: EngineFacts) -> tuple[bool, str]:
        if not engine.swarm_manager:
            return False, f"The engine at {settings.DOCKER_HOST} manages no swarm. Type: docker swarm init."
        nodes = "1 node" if engine.swarm_nodes == 1 else f"{engine.swarm_nodes} nodes"
        return (
            True,
            f"A swarm of {nodes}, engine {engine.version} at {settings.DOCKER_HOST}, registry {settings.REGISTRY}.",
        )

    def _instances(self, client: EngineClient, run_id: int | None, **labels: str) -> list[FoundInstance]:
        found = []
        for service in client.services(filters=label_filter(run_id, labels)):
            tasks = client.tasks(filters={"service": service["ID"]})
            runs = not tasks or any(task["Status"]["State"] not in ENDED_TASKS for task in tasks)
            name, its_labels = service["Spec"]["Name"], service["Spec"].get("Labels") or {}
            found.append(FoundInstance(service["ID"], name, *labels_read(its_labels), runs))
        return found

    def _stop(self, client: EngineClient, found: FoundInstance) -> None:
        self._remove(client, found)  # the engine sends SIGTERM, and SIGKILL after the service's grace period

    def _instance_stop(self, home: Path) -> None:
        """Also end the container, where it runs on the node at hand: the engine does so some time after its service."""
        super()._instance_stop(home)
        with engine_client() as client:
            for container in client.containers(filters=label_filter(None, {"roundtable.home": home_label(home)})):
                with contextlib.suppress(NotFound):
                    client.stop(container["Id"], timeout=STOP_SECONDS)

    def _remove(self, client: EngineClient, found: FoundInstance) -> None:
        with contextlib.suppress(NotFound):
            client.remove_service(found.id)
        belongings = {"name": f"{found.name}-"}  # configs and secrets are named after their service
        for config in client.configs(filters=belongings):
            with contextlib.suppress(NotFound):
                client.remove_config(config["ID"])
        for secret in client.secrets(filters=belongings):
            with contextlib.suppress(NotFound):
                client.remove_secret(secret["ID"])

    def _leftovers_remove(self, client: EngineClient, run_id: int | None) -> None:
        """Remove the containers of jobs that are gone: the engine keeps them. Other nodes have to be pruned."""
        services = {service["ID"] for service in client.services(filters=label_filter(run_id, {}))}
        for container in client.containers(all=True, filters=label_filter(run_id, {})):
            service = container["Labels"].get("com.docker.swarm.service.id")
            if not service or service in services:
                continue
            runs = container["State"] == "running"
            found = FoundInstance(container["Id"], container["Id"][:12], *labels_read(container["Labels"]), runs)
            if run_id is not None or not runs or is_left(found):
                with contextlib.suppress(APIError):
                    client.remove_container(container["Id"], force=True, v=True)
