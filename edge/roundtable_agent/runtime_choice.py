"""Which runtime an instance of a device is opened with: a container where that can be, else processes."""

import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from .home import Home
from .plan import InstancePlan
from .runtime import Failed, Opened, Runtime, Steps

if TYPE_CHECKING:
    from .runtime_docker import DockerRuntime

AUTO, DOCKER, PROCESS = "auto", "docker", "process"
CHOICES = (AUTO, DOCKER, PROCESS)


class ChosenRuntime:
    """Opens an instance with the runtime that its command and this machine allow.

    Parameters:
        process: for commands with a package.
        docker: for commands with an image; None where the SDK is missing.
        choice: `auto` takes containers where an engine answers; `docker` opens nothing but containers, `process`
            nothing but processes.
    """

    def __init__(self, process: Runtime, docker: "DockerRuntime | None", choice: str = AUTO) -> None:
        self._process = process
        self._docker = docker
        self._choice = choice

    @property
    def name(self) -> str:
        """What this device opens instances with now: `docker` or `process`."""
        return DOCKER if self._engine_answers() else PROCESS

    def open(self, plan: InstancePlan, steps: Steps) -> Opened:
        """Open it as a container, or where there is no engine from its package."""
        if self._choice == DOCKER and plan.image is None:
            raise Failed(
                "this device opens nothing but containers (--runtime docker), and the command names no image: the run "
                "was started on a platform without container images"
            )
        if plan.image is not None and self._engine_answers() and self._docker is not None:
            return self._docker.open(plan, steps)
        if self._choice == DOCKER:
            raise Failed("this device opens nothing but containers (--runtime docker), and no container engine answers")
        if plan.package is None and plan.image is None:
            raise Failed("the command names neither an image nor a package: there is nothing to open")
        if plan.package is None:
            what = "this device opens no containers (--runtime process)"
            what = what if self._choice == PROCESS else "no container engine answers on this device"
            raise Failed(f"the command names an image alone, and {what}")
        if plan.image is not None:
            steps.say("no container engine is used on this device: the package is run as a process")
        return self._process.open(plan, steps)

    def adopt(self, root: Path) -> Opened | None:
        """Find the instance, whichever of the two runs it."""
        found = self._docker.adopt(root) if self._docker is not None else None
        return found if found is not None else self._process.adopt(root)

    def clean(self, root: Path) -> None:
        """Clean up, whichever of the two ran it."""
        if self._docker is not None:
            self._docker.clean(root)
        self._process.clean(root)

    def _engine_answers(self) -> bool:
        return self._choice != PROCESS and self._docker is not None and self._docker.engine.answers()


def sdk_is_here() -> bool:
    """Whether the engine's SDK is installed in the agent's environment."""
    return importlib.util.find_spec("docker") is not None


def docker_runtime(home: Home, edge_id: int, network: str) -> "DockerRuntime | None":
    """The runtime with this machine's engine, whether or not that answers now; None without the SDK."""
    if not sdk_is_here():
        return None
    from .engine import Engine, engine_address
    from .image_pull import PulledImages
    from .runtime_docker import DockerRuntime

    mine = hashlib.sha256(str(home.root.resolve()).encode()).hexdigest()[:16]
    labels = {"roundtable.edge": str(edge_id), "roundtable.agent": mine}
    return DockerRuntime(Engine(engine_address()), network=network, labels=labels, pulled=PulledImages(home.images))
