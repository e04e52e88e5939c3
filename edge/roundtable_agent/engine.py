"""The container engine of this machine: where it is, connections to it, and its errors as sentences.

The SDK is an optional requirement: only what imports this module needs it.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, DockerException, NotFound
from docker.types import CancellableStream
from docker.utils import kwargs_from_env
from requests.exceptions import RequestException

REQUEST_SECONDS = 30.0
LOOK_SECONDS = 3.0
DEFAULT_ADDRESS = "unix:///var/run/docker.sock"

__all__ = ["Engine", "EngineAway", "EngineClient", "EngineRefused", "NotFound", "engine_address", "hang_up"]


class EngineAway(Exception):
    """The engine does not answer; the message says which, and what to do."""


class EngineRefused(Exception):
    """The engine refused a request; the message is what it said."""


class EngineClient(docker.APIClient):  # type: ignore[misc]  # the SDK has no types
    """The SDK's client, which also remembers its last response: the way to hang up on a long answer."""

    def __init__(self, **arguments: Any) -> None:
        self.last_response: Any = None
        super().__init__(**arguments)

    def send(self, request: Any, **arguments: Any) -> Any:
        """Send a request, as every method of the client does."""
        self.last_response = super().send(request, **arguments)
        return self.last_response


class Engine:
    """An engine that can be asked; every block has a connection of its own, so that threads may share this object.

    Parameters:
        address: what `DOCKER_HOST` would name it by.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    @contextlib.contextmanager
    def client(self, seconds: float = REQUEST_SECONDS) -> Iterator[EngineClient]:
        """Connect for the length of a block.

        Parameters:
            seconds: how long one request may be without a sign.

        Raises:
            EngineAway: it does not answer, or stops doing so within the block.
            EngineRefused: it refuses a request of the block that nothing else caught.
        """
        client = None
        with self.errors():
            try:
                client = EngineClient(
                    **{**kwargs_from_env(), "base_url": self.address}, version="auto", timeout=seconds
                )
                yield client
            finally:
                if client is not None:
                    client.close()

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the SDK's errors within a block into `EngineAway` and `EngineRefused`."""
        try:
            yield
        except APIError as error:
            raise EngineRefused(said(error)) from error
        except (DockerException, RequestException, OSError) as error:
            raise EngineAway(f"the container engine at {self.address} does not answer") from error

    def look(self) -> dict[str, Any]:
        """What the engine is (`GET /info`). Quick; raises as `client`."""
        with self.client(LOOK_SECONDS) as client:
            return dict(client.info())

    def answers(self) -> bool:
        """Whether it answers at all."""
        with contextlib.suppress(EngineAway, EngineRefused), self.client(LOOK_SECONDS) as client:
            return bool(client.ping())
        return False

    @property
    def socket(self) -> Path | None:
        """The file of its socket, where it has one."""
        return Path(self.address.removeprefix("unix://")) if self.address.startswith("unix://") else None


def engine_address() -> str:
    """Where this machine's engine is: `DOCKER_HOST`, else a rootless engine's socket, else the usual one."""
    if named := os.environ.get("DOCKER_HOST"):
        return named
    own = Path(os.environ.get("XDG_RUNTIME_DIR", "/nonexistent")) / "docker.sock"
    return f"unix://{own}" if own.exists() else DEFAULT_ADDRESS


def said(error: Exception) -> str:
    """What the engine said of an error, without the SDK's words around it."""
    return str(getattr(error, "explanation", None) or error).strip().rstrip(".")


def hang_up(client: EngineClient) -> None:
    """Break off the long answer that a client is reading, from any thread; the engine then stops the work."""
    with contextlib.suppress(DockerException, OSError, AttributeError):
        CancellableStream(iter(()), client.last_response).close()
