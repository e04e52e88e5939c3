"""The runtime for machines with a container engine: an instance is a hardened container, opened by image digest.

What it may touch: `/fedml/conf` (read-only), `/fedml/data`, the private data that its run names (read-only, at its own
path), and a `/tmp` in memory. It has no capabilities, cannot gain privileges, is not root, sees no engine socket, and
the kernel bounds its memory, CPUs and processes.

`container.json` in the instance's folder says that a container was, or may have been, made for it; the container's
label `roundtable.home` names the folder. Its output is copied from the engine's log to the files of the process
runtime. The container is removed once its output and its end stand in the folder.
"""

import contextlib
import functools
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from docker.types import DeviceRequest, LogConfig, Mount, Ulimit

from . import containers
from .durable import read_json, write_json
from .engine import Engine, EngineAway, EngineClient, EngineRefused, NotFound
from .engine_instance import EngineInstance, container_kill, container_usage
from .fields import Invalid
from .image_pull import PulledImages, image_pull
from .layout import InstanceFolder
from .plan import InstancePlan
from .runtime import Exit, Failed, Opened, Steps, Usage

ENGINE_CODE = 255  # what an engine gives a container that it finds ended after a restart

log = logging.getLogger(__name__)


class DockerRuntime:
    """Opens instances as containers.

    Parameters:
        engine: where.
        network: `host`, the name of a network of the engine (a bridge of that name is made where there is none), or
            empty: the host's where the broker is reached by loopback, else the bridge `roundtable`.
        labels: what containers are labelled with besides run, edge and home.
        pulled: where to remember the images that were pulled.
    """

    name = "docker"

    def __init__(
        self,
        engine: Engine,
        *,
        network: str = "",
        labels: Mapping[str, str] | None = None,
        pulled: PulledImages | None = None,
    ) -> None:
        self.engine = engine
        self._network = network
        self._labels = dict(labels or {})
        self._pulled = pulled

    def open(self, plan: InstancePlan, steps: Steps) -> Opened:
        """Pull the image, write the configuration, start the container."""
        if plan.image is None:
            raise Failed("the command names no image, and this runtime opens containers")
        folder = InstanceFolder(plan.root)
        folder.empty()
        folder.make()
        socket = self.engine.socket
        if plan.private_data is not None:
            containers.private_mount_check(plan.private_data, socket)
        steps.phase("fetch", None)
        image_pull(self.engine, plan.image, plan.image.login, steps, self._pulled)
        steps.phase("open", None)
        steps.checkpoint()
        try:
            certificates = containers.conf_write(plan, folder)
            write_json(folder.container, {"runtime": self.name, "id": ""}, sync=True)
            container = self._start(plan, folder, certificates)
        except Invalid as error:
            raise Failed(str(error)) from None
        except EngineAway as error:
            raise Failed(f"the container could not be started: {error}") from None
        except EngineRefused as error:
            containers.forgive(functools.partial(self._remove_all, plan.root))
            raise Failed(f"the container could not be started: {error}") from None
        write_json(folder.container, {"runtime": self.name, "id": container}, sync=True)
        return _OpenedContainer(self.engine, folder, container, adopted=False)

    def adopt(self, root: Path) -> Opened | None:
        """Find the container of this folder by its label."""
        folder = InstanceFolder(root)
        marker = read_json(folder.container)
        if marker is None or marker.get("runtime") != self.name:
            return None
        known = str(marker.get("id") or "")
        if not folder.exit.exists() and not known:  # its keeper was killed while it opened it
            try:
                found = self._find(root)
                if not found or found[0]["State"] == "created":
                    self._remove_all(root)
                    folder.container.unlink()
                    return None
                known = str(found[0]["Id"])
                write_json(folder.container, {"runtime": self.name, "id": known}, sync=True)
            except (EngineAway, EngineRefused) as error:
                log.warning("cannot look for the container of %s: %s", root, error)
        return _OpenedContainer(self.engine, folder, known, adopted=True)

    def clean(self, root: Path) -> None:
        """Remove the folder's container, if it is still there."""
        if InstanceFolder(root).container.exists():
            containers.forgive(functools.partial(self._remove_all, root))

    def tidy(self, kept: set[Path], images_bytes: int) -> None:
        """Remove containers with this runtime's labels that no folder knows, and images beyond a budget.

        Parameters:
            kept: the folders of instances; their containers stay.
            images_bytes: the budget.
        """
        try:
            for container in self._orphans({containers.home_label(root) for root in kept}):
                log.warning("removing the container %s: no run of this device knows it", container[:12])
                with self.engine.client() as client:
                    _remove(client, container)
            for image in self._pulled.trim(self.engine, images_bytes) if self._pulled is not None else ():
                log.info("removed the image %s to keep within the budget", image)
        except (EngineAway, EngineRefused) as error:
            log.warning("cannot clean up containers and images: %s", error)

    def _orphans(self, kept: set[str]) -> list[str]:
        wanted = {"label": [f"{name}={value}" for name, value in self._labels.items()]}
        with self.engine.client() as client:
            found = client.containers(all=True, filters=wanted)
        return [str(each["Id"]) for each in found if each["Labels"].get("roundtable.home") not in kept]

    def _find(self, root: Path) -> list[dict[str, Any]]:
        with self.engine.client() as client:
            return list(client.containers(all=True, filters=containers.home_filter(root)))

    def _remove_all(self, root: Path) -> None:
        for found in self._find(root):
            with self.engine.client() as client:
                _remove(client, found["Id"])

    def _start(self, plan: InstancePlan, folder: InstanceFolder, certificates: bool) -> str:
        """Create and start the container; returns its id."""
        assert plan.image is not None  # noqa: S101 - checked by `open`
        self._remove_all(plan.root)
        argv, working_folder = containers.command(plan)
        with self.engine.client() as client:
            network = self._network_name(client, plan)
            try:
                created = client.create_container(
                    plan.image.reference,
                    argv,
                    name=containers.container_name(plan),
                    user=containers.user(),
                    working_dir=working_folder,
                    environment=containers.environment(plan, certificates=certificates),
                    labels=containers.labels(plan, self._labels),
                    host_config=client.create_host_config(**self._host_config(client, plan, folder, network)),
                )
            except NotFound as error:
                raise EngineRefused(f"the image {plan.image.reference} is gone: {error.explanation}") from None
            client.start(created["Id"])
            return str(created["Id"])

    def _host_config(
        self, client: EngineClient, plan: InstancePlan, folder: InstanceFolder, network: str
    ) -> dict[str, Any]:
        mounts = [
            Mount("/fedml/conf", str(folder.conf.resolve()), type="bind", read_only=True),
            Mount("/fedml/data", str(folder.data.resolve()), type="bind"),
        ]
        if plan.private_data is not None:
            mounts.append(Mount(str(plan.private_data), str(plan.private_data), type="bind", read_only=True))
        facts = client.info()
        memory = plan.limits.memory_mb * 2**20
        config: dict[str, Any] = {
            "init": True,  # so that the end of the package's process reaches it as a signal, and orphans are reaped
            "read_only": True,
            "tmpfs": {"/tmp": f"rw,nosuid,nodev,mode=1777,size={containers.tmp_bytes(plan)}"},  # noqa: S108
            "mounts": mounts,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "pids_limit": plan.limits.pids,
            "mem_limit": memory,
            "memswap_limit": memory,
            "nano_cpus": int(min(plan.limits.cpus, float(facts.get("NCPU") or plan.limits.cpus)) * 10**9),
            "network_mode": network,
            "ulimits": [Ulimit(name=name, soft=most, hard=most) for name, most in containers.ULIMITS.items()],
            "log_config": LogConfig(type=containers.LOG_DRIVER, config=containers.LOG_OPTIONS),
        }
        config["device_requests"] = gpu_requests(facts, os.environ.get("CUDA_VISIBLE_DEVICES", ""))
        return config

    def _network_name(self, client: EngineClient, plan: InstancePlan) -> str:
        name = self._network or containers.usual_network(plan)
        if name in ("host", "bridge", "default", "none"):
            return name
        try:
            client.inspect_network(name)
        except NotFound:
            options = {"com.docker.network.bridge.enable_icc": "false"}  # clients have nothing to say to each other
            client.create_network(
                name, "bridge", options=options, labels=containers.NETWORK_LABELS, check_duplicate=True
            )
        return name


def gpu_requests(facts: Mapping[str, Any], visible: str) -> list[DeviceRequest]:
    """Ask for the device's GPUs where its engine can hand them on.

    Parameters:
        facts: what the engine tells of itself (`docker info`).
        visible: ids of the GPUs that clients may use, with commas between (`CUDA_VISIBLE_DEVICES`); empty: all.
    """
    if "nvidia" not in (facts.get("Runtimes") or {}):
        return []
    which: dict[str, Any] = {"device_ids": visible.split(",")} if visible else {"count": -1}
    return [DeviceRequest(capabilities=[["gpu"]], **which)]


class _OpenedContainer(EngineInstance):
    """A container, alive or ended; it is gone once its end stands in the folder."""

    def __init__(self, engine: Engine, folder: InstanceFolder, container: str, *, adopted: bool) -> None:
        super().__init__(engine, folder, container)
        self._adopted = adopted
        self._pid: int | None = None

    @property
    def pid(self) -> int | None:
        return self._pid

    @property
    def described(self) -> str:
        return f"container {self._id[:12] or 'unknown'}"

    def usage(self) -> Usage | None:
        with contextlib.suppress(EngineAway, EngineRefused), self._engine.client() as client:
            return container_usage(client, self._id)
        return None

    def _look(self) -> Exit | None:
        with self._engine.client() as client:
            try:
                state = client.inspect_container(self._id or "unknown")["State"]
            except NotFound:
                return Exit(note="its container was removed by somebody else, and nobody knows its exit code")
        self._pid = int(state.get("Pid") or 0) or None
        self._copy_output()
        if state["Status"] in ("running", "paused", "restarting", "created", "removing"):
            return None
        self._finish_output()
        code = int(state.get("ExitCode") or 0)
        if state.get("OOMKilled"):
            return Exit(code, out_of_memory=True)
        if code and (self._was_away or (self._adopted and code == ENGINE_CODE)):
            return Exit(code, note=containers.ENGINE_ENDED)
        return Exit(code, note=str(state.get("Error") or ""))

    def _logs(self, client: EngineClient, stream: str, follow: bool) -> Iterable[bytes]:
        chosen: Iterable[bytes] = client.logs(self._id, stream=True, follow=follow, **containers.one_stream(stream))
        return chosen

    def _signal(self, client: EngineClient, name: str) -> None:
        container_kill(client, self._id, name)

    def _remove(self) -> None:
        with self._engine.client() as client:
            _remove(client, self._id)


def _remove(client: EngineClient, container: str) -> None:
    with contextlib.suppress(NotFound):
        client.remove_container(container, force=True, v=True)
