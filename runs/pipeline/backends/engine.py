"""The container engine: connections to it, its long answers, and its errors as sentences."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import docker
from django.conf import settings
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import CancellableStream
from docker.utils import kwargs_from_env
from requests.exceptions import RequestException

from runs.pipeline.backends.interface import StageContext, StageFailed, StageTransient

REQUEST_SECONDS = 60.0
LOOK_SECONDS = 3.0
POLL_SECONDS = 0.1

Item = dict[str, Any]
"""One message of a long answer: a line of a build, the progress of a layer, an error."""


class EngineClient(docker.APIClient):  # type: ignore[misc]  # the SDK has no types
    """The SDK's client, which also remembers its last response: the way to hang up on a long answer."""

    def __init__(self, **arguments: Any) -> None:
        self.last_response: Any = None
        super().__init__(**arguments)

    def send(self, request: Any, **arguments: Any) -> Any:
        self.last_response = super().send(request, **arguments)
        return self.last_response


@contextlib.contextmanager
def engine_client(seconds: float = REQUEST_SECONDS) -> Iterator[EngineClient]:
    """Connect to the engine of ``ROUNDTABLE_DOCKER_HOST`` for the length of a block.

    Args:
        seconds: how long one request may be without a sign.

    Raises:
        StageTransient: the engine does not answer, or stops doing so within the block.
        StageFailed: the engine refuses a request of the block that nothing else caught.
    """
    with engine_errors():
        _socket_probe()
        client = EngineClient(
            **{**kwargs_from_env(), "base_url": settings.DOCKER_HOST}, version="auto", timeout=seconds
        )
        try:
            yield client
        finally:
            client.close()


@contextlib.contextmanager
def engine_errors() -> Iterator[None]:
    """Turn the SDK's errors within a block into ``StageTransient`` and ``StageFailed`` with a sentence."""
    try:
        yield
    except APIError as error:
        raise StageFailed(f"The container engine refused: {engine_said(error)}") from error
    except (DockerException, RequestException) as error:
        raise StageTransient(
            f"The container engine at {settings.DOCKER_HOST} does not answer. Start it, or set ROUNDTABLE_DOCKER_HOST."
        ) from error


def _socket_probe() -> None:
    """Connect to the engine's socket once: the SDK leaves a socket open that nobody listens to.

    Raises:
        DockerException: nobody does.
    """
    kind, _, path = settings.DOCKER_HOST.partition("://")
    if kind != "unix":
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError as error:
            raise DockerException(str(error)) from error


def engine_said(error: Exception) -> str:
    """Return what the engine said of an error, without the SDK's words around it."""
    return str(getattr(error, "explanation", None) or error).strip().rstrip(".") + "."


@dataclass(frozen=True)
class EngineFacts:
    """What can be known of an engine at a glance.

    Attributes:
        version: of the engine.
        swarm_manager: whether it manages a swarm.
        swarm_nodes: how many nodes that swarm has; 0 without one.
    """

    version: str
    swarm_manager: bool
    swarm_nodes: int


def engine_look(seconds: float = LOOK_SECONDS) -> EngineFacts:
    """Return what the engine is. Quick.

    Raises:
        StageTransient, StageFailed: it cannot be asked.
    """
    with engine_client(seconds) as client:
        info = client.info()
        swarm = info.get("Swarm") or {}
        manages = swarm.get("LocalNodeState") == "active" and bool(swarm.get("ControlAvailable"))
        return EngineFacts(str(info.get("ServerVersion") or ""), manages, int(swarm.get("Nodes") or 0))


def image_inspect(client: EngineClient, reference: str) -> dict[str, Any] | None:
    """Return what the engine knows of an image that it has, or None."""
    try:
        return dict(client.inspect_image(reference))
    except (ImageNotFound, NotFound):
        return None


def follow(context: StageContext, client: EngineClient, start: Callable[[], Iterator[Item]]) -> Iterator[Item]:
    """Yield the messages of a long answer, and hang up on it when the stage is to end: the engine then stops the work.

    The answer is read on a thread, since reading it can block for minutes. An answer that breaks off ends the
    iteration as one that is complete does: callers look for what tells success.

    Args:
        context: its ``check`` is asked all the time.
        client: the connection that ``start`` uses.
        start: sends the request and returns the messages.

    Raises:
        StageCancelled, StageTimedOut: from ``context.check``.
        DockerException, RequestException: the request failed.
    """
    items: queue.Queue[Item | BaseException | None] = queue.Queue(maxsize=1000)
    call = _Call(client, start, items)
    thread = threading.Thread(target=call.read, name="engine-answer", daemon=True)
    thread.start()
    try:
        while True:
            context.check()
            try:
                item = items.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        call.hang_up()
        thread.join(POLL_SECONDS * 5)  # where the request is still being sent, it hangs up by itself later


class _Call:
    """One request with a long answer, made and read on a thread."""

    def __init__(
        self, client: EngineClient, start: Callable[[], Iterator[Item]], items: queue.Queue[Item | BaseException | None]
    ) -> None:
        self._client, self._start, self._items = client, start, items
        self._lock = threading.Lock()
        self._stream: CancellableStream | None = None
        self._left = False

    def read(self) -> None:
        """Make the request and put its messages into the queue, and at last None or the error."""
        try:
            messages = self._start()
            with self._lock:
                self._stream = CancellableStream(messages, self._client.last_response)
            if self._left:
                self.hang_up()
            for message in self._stream:
                self._put(message)
        except BaseException as error:  # handed to whoever waits for the answer
            self._put(error)
        else:
            self._put(None)

    def hang_up(self) -> None:
        """Close the connection, from any thread."""
        self._left = True
        with self._lock:
            if self._stream is not None:
                with contextlib.suppress(DockerException, OSError, AttributeError):
                    self._stream.close()

    def _put(self, item: Item | BaseException | None) -> None:
        while not self._left:
            with contextlib.suppress(queue.Full):
                self._items.put(item, timeout=POLL_SECONDS)
                return
