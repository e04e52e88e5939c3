"""What a demo or a development platform needs to run containers on this machine: an engine, a registry, a base image.

What the environment names is used; what is missing is started below the data folder, and ends with the one that
started it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import docker
from docker.errors import APIError, DockerException, ImageNotFound
from docker.utils import kwargs_from_env, parse_repository_tag
from requests.exceptions import RequestException

from deploy.local.engine import SYSTEM_PATH, Engine, Registry
from deploy.local.stack import REPOSITORY, StackError, port_choose

SYSTEM_SOCKET = Path("/var/run/docker.sock")
SWARM_PORT = 2377
PUBLIC_BASE_IMAGE = "python:3.12-slim"
LOCAL_BASE_IMAGE = "roundtable-base:local"
LOOK_SECONDS = 10


class LocalContainers:
    """Engine, registry and base image for the backends ``docker`` and ``swarm``.

    Args:
        var: the folder that holds what is started; images stay in it until it is removed.
        swarm: whether the engine is to manage a swarm. One that this makes is left at the end.
        say: tells a person what takes long.
    """

    def __init__(self, var: Path, *, swarm: bool, say: Callable[[str], None] = print) -> None:
        self._var = var.resolve()
        self._swarm = swarm
        self._say = say
        self._stops: list[Callable[[], None]] = []
        self.environment: dict[str, str] = {}
        self.docker_host = ""

    def start(self) -> None:
        """Find or start everything; ``environment`` then holds the settings that name it.

        Raises:
            StackError: a program is missing or did not start; the message says what to do.
        """
        self.docker_host = _named_engine() or self._engine_start()
        self.environment = {
            "ROUNDTABLE_DOCKER_HOST": self.docker_host,
            "ROUNDTABLE_BACKEND": "swarm" if self._swarm else "docker",
            "ROUNDTABLE_INSTANCE_NETWORK": "host",  # everything else listens on loopback alone
            "ROUNDTABLE_BUILD_NETWORK": os.environ.get("ROUNDTABLE_BUILD_NETWORK", "host"),
        }
        if not os.environ.get("ROUNDTABLE_REGISTRY"):
            self._registry_start()
        client = self._client()
        try:
            if self._swarm:
                self._swarm_make(client)
            self._base_image_find(client)
        except (DockerException, RequestException) as error:
            raise StackError(f"The container engine at {self.docker_host} does not do as asked: {error}") from error
        finally:
            client.close()

    def stop(self) -> None:
        """Leave the swarm and end the engine and the registry, as far as this started them."""
        while self._stops:
            self._stops.pop()()

    def __enter__(self) -> LocalContainers:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _client(self) -> Any:
        arguments = {**kwargs_from_env(), "base_url": self.docker_host}
        return docker.APIClient(**arguments, version="auto", timeout=LOOK_SECONDS)

    def _engine_start(self) -> str:
        _install("dockerd=docker.io", "iptables=iptables", "ip=iproute2")
        self._say("Starting a container engine ...")
        engine = Engine(self._var / "engine", bridge=f"rt{hashlib.sha256(str(self._var).encode()).hexdigest()[:8]}")
        self._stops.append(engine.stop)
        engine.start()
        return engine.url

    def _registry_start(self) -> None:
        if not self.docker_host.startswith("unix://"):
            raise StackError(
                f"The engine at {self.docker_host} cannot reach a registry on this machine's loopback. Set "
                "ROUNDTABLE_REGISTRY, ROUNDTABLE_REGISTRY_USER and ROUNDTABLE_REGISTRY_PASSWORD to one that it reaches."
            )
        _install("docker-registry=docker-registry")
        registry = Registry(self._var / "registry")
        self._stops.append(registry.stop)
        registry.start()
        self.environment |= {
            "ROUNDTABLE_REGISTRY": registry.address,
            "ROUNDTABLE_REGISTRY_USER": registry.username,
            "ROUNDTABLE_REGISTRY_PASSWORD_FILE": str(registry.password_file),
        }

    def _swarm_make(self, client: Any) -> None:
        state = client.info().get("Swarm") or {}
        if state.get("ControlAvailable"):
            return
        if state.get("LocalNodeState") not in (None, "", "inactive"):
            raise StackError("The engine belongs to a swarm that it does not manage. Name a manager by DOCKER_HOST.")
        address = f"127.0.0.1:{port_choose(SWARM_PORT)}"
        client.init_swarm(advertise_addr=address, listen_addr=address)
        self._stops.append(self._swarm_leave)

    def _swarm_leave(self) -> None:
        with contextlib.suppress(DockerException, RequestException):
            client = self._client()
            try:
                client.leave_swarm(force=True)
            finally:
                client.close()

    def _base_image_find(self, client: Any) -> None:
        """Choose the base image: the one that is named, a public one, or else one that is made here."""
        if os.environ.get("ROUNDTABLE_BASE_IMAGE"):
            return
        if not _has_image(client, PUBLIC_BASE_IMAGE) and not _has_image(client, LOCAL_BASE_IMAGE):
            try:
                client.inspect_distribution(PUBLIC_BASE_IMAGE)
                self._say(f"Pulling {PUBLIC_BASE_IMAGE} ...")
                client.timeout = None
                client.pull(*parse_repository_tag(PUBLIC_BASE_IMAGE))
            except (APIError, RequestException):
                self._base_image_make()
        image = PUBLIC_BASE_IMAGE if _has_image(client, PUBLIC_BASE_IMAGE) else LOCAL_BASE_IMAGE
        self.environment["ROUNDTABLE_BASE_IMAGE"] = image

    def _base_image_make(self) -> None:
        self._say("No public image can be pulled: making a base image (about a minute, once) ...")
        _install("debootstrap=debootstrap", "docker=docker.io")
        done = subprocess.run(  # noqa: S603  our own command
            [str(REPOSITORY / "deploy" / "base-image" / "make.sh"), LOCAL_BASE_IMAGE],
            env={
                **os.environ,
                "PATH": SYSTEM_PATH,
                "DOCKER_HOST": self.docker_host,
                "ROUNDTABLE_VAR": str(self._var),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise StackError(f"The base image could not be made:\n{done.stdout}{done.stderr}")


def _install(*programs: str) -> None:
    """Install what is missing, where that is allowed.

    Raises:
        StackError: it is not; the message holds the line to type.
    """
    command = [str(REPOSITORY / "deploy" / "local" / "install-debian.sh"), *programs]
    done = subprocess.run(command, stdout=None, stderr=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise StackError(done.stderr.strip())


def _named_engine() -> str:
    """Return the engine that the environment names, or the machine's own where that runs; else nothing."""
    named = os.environ.get("ROUNDTABLE_DOCKER_HOST") or os.environ.get("DOCKER_HOST") or f"unix://{SYSTEM_SOCKET}"
    try:
        client = docker.APIClient(**{**kwargs_from_env(), "base_url": named}, version="auto", timeout=LOOK_SECONDS)
        client.close()
    except (DockerException, RequestException) as error:
        if named != f"unix://{SYSTEM_SOCKET}":
            raise StackError(f"The engine that DOCKER_HOST names, {named}, does not answer: {error}") from error
        return ""
    return named


def _has_image(client: Any, name: str) -> bool:
    try:
        client.inspect_image(name)
    except ImageNotFound:
        return False
    return True
