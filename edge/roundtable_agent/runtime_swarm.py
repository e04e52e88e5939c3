"""The runtime for a cluster: an instance is a replicated job of a Docker swarm, run once by whichever node has room.

Nothing of this machine is mounted. What the instance needs travels with the job: `fedml.yaml` as a config of the swarm,
logins and the run token as secrets, which the swarm keeps encrypted and shows to the node that runs the job alone. The
service, its configs and its secrets are labelled with `roundtable.home`, and removed when the end of the instance
stands in its folder.
"""

import contextlib
import datetime
import json
import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from docker.types import (
    ConfigReference,
    ContainerSpec,
    DriverConfig,
    Mount,
    Placement,
    Resources,
    RestartPolicy,
    SecretReference,
    ServiceMode,
    TaskTemplate,
)

from . import containers
from .durable import read_json, write_json
from .engine import Engine, EngineAway, EngineClient, EngineRefused, NotFound
from .engine_instance import EngineInstance, container_kill, container_usage
from .fields import Invalid
from .image_pull import registry_host, registry_sentence
from .layout import InstanceFolder
from .plan import InstancePlan
from .runtime import Exit, Failed, Opened, Steps, Stopped, Usage

SCHEDULE_SECONDS = 300.0
STOP_SECONDS = 10
START_SECONDS = 10.0
POLL_SECONDS = 0.2
MAX_FILE_BYTES = 500_000  # what a swarm takes as a config or a secret
SECRET_VARIABLES = ("ROUNDTABLE_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
SECRET_FILES = ("mqtt_config.yaml", "s3_config.yaml")
ENVIRONMENT_FILE = "/run/secrets/roundtable-environment"
ENDED = {"complete", "failed", "rejected", "shutdown", "orphaned", "remove"}
BEGINNING = {"assigned", "accepted", "preparing", "ready", "starting"}
PHASES = {"preparing": "fetch", "ready": "open", "starting": "open"}
# Takes the secret variables from their file, gives up the right to gain privileges (an option of services only since
# engine 25), and becomes the instance.
BOOTSTRAP = f"""import ctypes, json, os, sys
with open({ENVIRONMENT_FILE!r}) as file:
    os.environ.update(json.load(file))
os.makedirs(os.environ["TMPDIR"], exist_ok=True)
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
os.execvp(sys.argv[1], sys.argv[1:])
"""

log = logging.getLogger(__name__)


class SwarmRuntime:
    """Opens instances as jobs of the swarm that an engine manages.

    Parameters:
        engine: a manager.
        network: `host`, the name of an overlay network (made where there is none), or empty: the host's where the
            broker is reached by loopback, else the overlay `roundtable`.
        labels: what the service is labelled with besides run, edge and home.
        placement: conditions on the node.
        reserved_memory_mb: MiB that the node must have free; 0 for none.
        reserved_cpus: CPUs that it must have free; 0 for none.
        schedule_seconds: how long to wait for a node that can run it.
    """

    name = "swarm"

    def __init__(
        self,
        engine: Engine,
        *,
        network: str = "",
        labels: Mapping[str, str] | None = None,
        placement: Iterable[str] = (),
        reserved_memory_mb: int = 0,
        reserved_cpus: float = 0.0,
        schedule_seconds: float = SCHEDULE_SECONDS,
    ) -> None:
        self.engine = engine
        self._network = network
        self._labels = dict(labels or {})
        self._placement = list(placement)
        self._reserved_memory_mb = reserved_memory_mb
        self._reserved_cpus = reserved_cpus
        self._schedule_seconds = schedule_seconds

    def open(self, plan: InstancePlan, steps: Steps) -> Opened:
        """Create the service with its configs and secrets, and wait until a node runs it."""
        if plan.image is None:
            raise Failed("no image was named, and a swarm runs nothing else")
        if plan.private_data is not None:
            raise Failed("private data stays on its device: a swarm cannot be given any")
        folder = InstanceFolder(plan.root)
        folder.empty()
        folder.make()
        steps.phase("open", None)
        try:
            certificates = containers.conf_write(plan, folder)
            write_json(folder.container, {"runtime": self.name, "id": ""}, sync=True)
            service = self._create(plan, folder, certificates)
            write_json(folder.container, {"runtime": self.name, "id": service}, sync=True)
            self._await_node(service, steps)
        except (Failed, Invalid, EngineAway, EngineRefused) as error:
            containers.forgive(lambda: self._remove_all(plan.root))
            sentence = str(error)
            if not isinstance(error, Failed | Invalid):
                sentence = f"the swarm could not start it: {error}"
            raise Failed(sentence) from None
        except Stopped:
            containers.forgive(lambda: self._await_started(service))
            containers.forgive(lambda: self._remove_all(plan.root))
            raise
        return _OpenedService(self, folder, service)

    def adopt(self, root: Path) -> Opened | None:
        """Find the service of this folder by its label."""
        folder = InstanceFolder(root)
        marker = read_json(folder.container)
        if marker is None or marker.get("runtime") != self.name:
            return None
        known = str(marker.get("id") or "")
        if not folder.exit.exists() and not known:  # its keeper was killed while it opened it
            try:
                with self.engine.client() as client:
                    found = client.services(filters=containers.home_filter(root))
                if not found:
                    self._remove_all(root)
                    folder.container.unlink()
                    return None
                known = str(found[0]["ID"])
                write_json(folder.container, {"runtime": self.name, "id": known}, sync=True)
            except (EngineAway, EngineRefused) as error:
                log.warning("cannot look for the service of %s: %s", root, error)
        return _OpenedService(self, folder, known)

    def clean(self, root: Path) -> None:
        """Remove the folder's service, configs and secrets, if they are still there."""
        if InstanceFolder(root).container.exists():
            containers.forgive(lambda: self._remove_all(root))

    def _remove_all(self, root: Path) -> None:
        wanted = containers.home_filter(root)
        with self.engine.client() as client:
            for service in client.services(filters=wanted):
                with contextlib.suppress(NotFound):
                    client.remove_service(service["ID"])
            for config in client.configs(filters=wanted):
                with contextlib.suppress(NotFound):
                    client.remove_config(config["ID"])
            for secret in client.secrets(filters=wanted):
                with contextlib.suppress(NotFound):
                    client.remove_secret(secret["ID"])

    def _create(self, plan: InstancePlan, folder: InstanceFolder, certificates: bool) -> str:
        """Create everything; returns the service's id."""
        assert plan.image is not None  # noqa: S101 - checked by `open`
        self._remove_all(plan.root)
        name, labels = containers.container_name(plan), containers.labels(plan, self._labels)
        with self.engine.client() as client:
            if plan.image.login is not None:
                self._log_in(client, plan)
            variables = containers.environment(plan, certificates=certificates)
            hidden = {key: variables.pop(key) for key in SECRET_VARIABLES if key in variables}
            files = {str(containers.ROOT / "conf" / path.name): path.read_bytes() for path in folder.conf.iterdir()}
            files[ENVIRONMENT_FILE] = json.dumps(hidden).encode()
            configs, secrets = self._store(client, name, labels, files)
            argv, working_folder = containers.command(plan)
            container = ContainerSpec(
                plan.image.reference,
                command=["python", "-c", BOOTSTRAP, *argv],
                env=[f"{key}={value}" for key, value in variables.items()],
                workdir=working_folder,
                user=f"{containers.INSTANCE_UID}:{containers.INSTANCE_UID}",
                labels=labels,
                mounts=[
                    Mount("/fedml/data", None, type="volume"),  # without a name: the node removes it with the container
                    Mount("/tmp", None, type="tmpfs", tmpfs_size=containers.tmp_bytes(plan), tmpfs_mode=0o1777),  # noqa: S108
                ],
                stop_grace_period=STOP_SECONDS * 10**9,
                configs=configs,
                secrets=secrets,
                read_only=True,
                cap_drop=["ALL"],
                init=True,
            )
            container["Ulimits"] = [
                {"Name": limit, "Soft": most, "Hard": most} for limit, most in containers.ULIMITS.items()
            ]
            task = TaskTemplate(
                container,
                resources=self._resources(plan),
                restart_policy=RestartPolicy(condition="none"),
                placement=Placement(constraints=self._placement) if self._placement else None,
                log_driver=DriverConfig(containers.LOG_DRIVER, containers.LOG_OPTIONS),
                networks=[self._network_name(client, plan)],
            )
            mode = ServiceMode("replicated-job", replicas=1, concurrency=1)
            return str(client.create_service(task, name=name, labels=labels, mode=mode)["ID"])

    def _log_in(self, client: EngineClient, plan: InstancePlan) -> None:
        """Check the registry's login, and let the client send it along, for the nodes to pull with."""
        assert plan.image is not None and plan.image.login is not None  # noqa: S101, PT018 - checked by `_create`
        login = plan.image.login
        try:
            with self.engine.errors():
                client.login(login.username, login.password, registry=registry_host(plan.image.reference), reauth=True)
        except EngineRefused as error:
            raise Failed(registry_sentence(plan.image.reference, str(error), login)) from None

    def _store(
        self, client: EngineClient, name: str, labels: dict[str, str], files: Mapping[str, bytes]
    ) -> tuple[list[ConfigReference], list[SecretReference]]:
        configs, secrets = [], []
        owner = str(containers.INSTANCE_UID)
        for target, content in files.items():
            if len(content) >= MAX_FILE_BYTES:
                raise Failed(f"{target} has {len(content)} bytes, and a swarm takes files of {MAX_FILE_BYTES} at most")
            label = f"{name}-{Path(target).stem.replace('_', '-')}"
            where = {"filename": target, "uid": owner, "gid": owner, "mode": 0o400}
            if target == ENVIRONMENT_FILE or Path(target).name in SECRET_FILES:
                made = client.create_secret(label, content, labels=labels)["ID"]
                secrets.append(SecretReference(made, label, **where))
            else:
                made = client.create_config(label, content, labels=labels)["ID"]
                configs.append(ConfigReference(made, label, **where))
        return configs, secrets

    def _resources(self, plan: InstancePlan) -> Resources:
        resources = Resources(
            cpu_limit=int(plan.limits.cpus * 10**9),
            mem_limit=plan.limits.memory_mb * 2**20,
            cpu_reservation=int(self._reserved_cpus * 10**9) or None,
            mem_reservation=self._reserved_memory_mb * 2**20 or None,
        )
        resources["Limits"]["Pids"] = plan.limits.pids
        return resources

    def _network_name(self, client: EngineClient, plan: InstancePlan) -> str:
        name = self._network or containers.usual_network(plan)
        if name != "host":
            try:
                client.inspect_network(name)
            except NotFound:
                client.create_network(name, "overlay", labels=containers.NETWORK_LABELS, check_duplicate=True)
        return name

    def _await_started(self, service: str) -> None:
        """Let a container start that is just being started: the engine would let it run on without its service."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with self.engine.client() as client:
                task = latest_task(client, service)
            if task is None or task["Status"]["State"] not in BEGINNING:
                return
            time.sleep(POLL_SECONDS)

    def _await_node(self, service: str, steps: Steps) -> None:
        """Wait until the job runs or has ended.

        Raises:
            Failed: no node can run it.
        """
        deadline = time.monotonic() + self._schedule_seconds
        told = ""
        while True:
            steps.checkpoint()
            with self.engine.client() as client:
                task = latest_task(client, service)
            status = task["Status"] if task is not None else {}
            state, problem = str(status.get("State") or "new"), str(status.get("Err") or "")
            if state == "running" or state in ENDED:
                return
            if phase := PHASES.get(state):
                steps.phase(phase, None)
                deadline = time.monotonic() + self._schedule_seconds
            elif problem and problem != told:
                steps.say(f"the swarm waits: {problem}")
                told = problem
            if time.monotonic() > deadline:
                raise Failed(f"no node of the swarm can run it: {problem or state}")
            time.sleep(POLL_SECONDS)


class _OpenedService(EngineInstance):
    """A job of the swarm, alive or ended; it is gone once its end stands in the folder."""

    def __init__(self, runtime: SwarmRuntime, folder: InstanceFolder, service: str) -> None:
        super().__init__(runtime.engine, folder, service)
        self._runtime = runtime
        self._container = ""
        self._node = ""
        self._withdrawn = False

    @property
    def described(self) -> str:
        return f"service {self._id[:12] or 'unknown'} of the swarm" + (
            f" on node {self._node[:12]}" if self._node else ""
        )

    def usage(self) -> Usage | None:
        """What it uses, where it runs on this machine; other nodes do not tell."""
        with contextlib.suppress(EngineAway, EngineRefused), self._engine.client() as client:
            return container_usage(client, self._container) if self._is_here(client) else None
        return None

    def _look(self) -> Exit | None:
        with self._engine.client() as client:
            try:
                if not self._withdrawn:
                    client.inspect_service(self._id or "unknown")
            except NotFound:
                return Exit(note="its service was removed by somebody else, and nobody knows its exit code")
            task = latest_task(client, self._id)
            if task is None:
                return Exit() if self._withdrawn else None
            self._node = str(task.get("NodeID") or "")
            status = task["Status"]
            self._container = str((status.get("ContainerStatus") or {}).get("ContainerID") or self._container)
        self._copy_output()
        if status["State"] not in ENDED:
            return None
        self._finish_output()
        return self._ending(status)

    def _ending(self, status: Mapping[str, Any]) -> Exit:
        code = (status.get("ContainerStatus") or {}).get("ExitCode")
        problem = str(status.get("Err") or "").removeprefix("task: ")
        if status["State"] == "complete":
            return Exit(0)
        if status["State"] == "orphaned":
            return Exit(note="its node of the swarm went down")
        if status["State"] == "rejected" or not code:
            return Exit(code or None, note=f"its node of the swarm could not run it: {problem or status['State']}")
        with contextlib.suppress(EngineAway, EngineRefused), self._engine.client() as client:
            if self._is_here(client) and client.inspect_container(self._container)["State"].get("OOMKilled"):
                return Exit(code, out_of_memory=True)
        return Exit(code, note=containers.ENGINE_ENDED if self._was_away else "")

    def _is_here(self, client: EngineClient) -> bool:
        """Whether its container is one of the engine that we speak to."""
        if not self._container:
            return False
        try:
            client.inspect_container(self._container)
        except NotFound:
            return False
        return True

    def _logs(self, client: EngineClient, stream: str, follow: bool) -> Iterable[bytes]:
        chosen: Iterable[bytes] = client.service_logs(
            self._id, follow=follow, is_tty=False, **containers.one_stream(stream)
        )
        return chosen

    def _signal(self, client: EngineClient, name: str) -> None:
        """Send a signal here; on another node the service is removed, upon which that node ends it the same way."""
        if self._is_here(client):
            container_kill(client, self._container, name)
        elif not self._withdrawn:
            self._withdrawn = True
            with contextlib.suppress(NotFound):
                client.remove_service(self._id)

    def _remove(self) -> None:
        self._runtime.clean(self._folder.root)


def latest_task(client: EngineClient, service: str) -> dict[str, Any] | None:
    """The newest task of a service, or None where it has none."""
    tasks = [dict(task) for task in client.tasks(filters={"service": service or "unknown"})]
    return max(tasks, key=lambda task: _when(str(task["CreatedAt"])), default=None)


def _when(text: str) -> datetime.datetime:
    """An engine's time, which has nanoseconds."""
    return datetime.datetime.fromisoformat(text[:19] + "+00:00")
