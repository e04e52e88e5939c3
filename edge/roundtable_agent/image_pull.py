"""Brings container images to this machine's engine, by digest, and remembers when each was last used."""

import contextlib
import queue
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .durable import read_json, write_json
from .engine import Engine, EngineAway, EngineRefused, NotFound, hang_up
from .locks import locked
from .plan import ImageReference, RegistryLogin
from .runtime import Failed, Steps

ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 1.0
POLL_SECONDS = 0.2
IN_USE_SECONDS = 3600
DOWNLOAD_SHARE = 0.8  # of a layer's progress; the rest is unpacking it
REFUSED = re.compile(r"unauthorized|no basic auth|denied|incorrect username|forbidden", re.IGNORECASE)
ABSENT = re.compile(r"manifest unknown|name unknown|not found|no such", re.IGNORECASE)


class PulledImages:
    """What an agent pulled, and when it was last used.

    Parameters:
        path: the file that says so.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, reference: str) -> None:
        """Remember that an image is used now."""
        self._change({reference: time.time()}, ())

    def used(self, reference: str) -> None:
        """The same, for an image that need not have been pulled by this agent."""
        if reference in self._read():
            self.note(reference)

    def last(self, prefix: str) -> str:
        """The name of the image that was used last among those whose names begin so; empty without one."""
        found = {name: used for name, used in self._read().items() if name.startswith(prefix)}
        return max(found, key=lambda name: found[name], default="")

    def trim(self, engine: Engine, budget_bytes: int) -> list[str]:
        """Remove the least recently used images beyond the budget; returns their names.

        Images used within the last hour, and those that a container needs, stay. So does everything that this agent
        did not pull itself.

        Raises:
            EngineAway: the engine does not answer.
        """
        removed: list[str] = []
        gone: list[str] = []
        with engine.client() as client:
            sizes: dict[str, int] = {}
            for reference in self._read():
                try:
                    sizes[reference] = int(client.inspect_image(reference)["Size"])
                except NotFound:
                    gone.append(reference)
            total = sum(sizes.values())
            for reference, last in sorted(self._read().items(), key=lambda item: item[1]):
                if total <= budget_bytes or last > time.time() - IN_USE_SECONDS:
                    break
                if reference in sizes:
                    with contextlib.suppress(EngineRefused), engine.errors():
                        client.remove_image(reference)
                        total -= sizes[reference]
                        removed.append(reference)
        self._change({}, (*gone, *removed))
        return removed

    def _read(self) -> dict[str, float]:
        return {name: float(last) for name, last in (read_json(self._path) or {}).items()}

    def _change(self, noted: dict[str, float], gone: tuple[str, ...]) -> None:
        with locked(self._path.with_suffix(".lock")):
            kept = {name: last for name, last in (self._read() | noted).items() if name not in gone}
            write_json(self._path, kept)


def image_pull(
    engine: Engine, image: ImageReference, login: RegistryLogin | None, steps: Steps, pulled: PulledImages | None = None
) -> None:
    """Bring an image here, unless it is here already; the phase is `fetch`.

    Parameters:
        login: for the registry; None where it asks for none, or where the engine's user has logged in.
        pulled: where to remember it.

    Raises:
        Failed: the registry refuses the login, has no such image or cannot be reached; or the engine is away.
        Stopped: from `steps.checkpoint`; the engine stops pulling.
    """
    pause = FIRST_PAUSE_SECONDS
    try:
        if image_is_here(engine, image.reference):
            if pulled is not None:
                pulled.used(image.reference)
            return
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _pull(engine, image.reference, login, steps)
                break
            except EngineRefused as error:
                problem = registry_sentence(image.reference, str(error), login)
                lasting = REFUSED.search(str(error)) or ABSENT.search(str(error))
                if lasting or attempt == ATTEMPTS:
                    raise Failed(problem) from None
            steps.say(f"{problem}; trying again in {pause:.0f} s")
            _pause(pause, steps)
            pause *= 2
    except EngineAway as error:
        raise Failed(f"the image could not be fetched: {error}") from None
    if pulled is not None:
        pulled.note(image.reference)
    steps.say(f"pulled {image.reference}")


def image_is_here(engine: Engine, reference: str) -> bool:
    """Whether the engine has an image; raises as `Engine.client`."""
    with engine.client() as client:
        try:
            client.inspect_image(reference)
        except NotFound:
            return False
    return True


def registry_host(reference: str) -> str:
    """`host:port` of an image's name, as the engine reads it; `docker.io` where the name has none."""
    first, slash, _ = reference.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else "docker.io"


def registry_sentence(reference: str, problem: str, login: RegistryLogin | None) -> str:
    """What is wrong with a registry, by what the engine said of it."""
    host = registry_host(reference)
    if REFUSED.search(problem):
        who = f"the login of {login.username}" if login is not None else "a pull without a login"
        return f"the registry {host} refuses {who}: the platform's registry user and password must be corrected"
    if ABSENT.search(problem):
        return f"the registry {host} has no image {reference.rpartition('/')[2]}: it was removed; start the run again"
    return f"the registry {host} cannot be used from here: {problem}"


def _pull(engine: Engine, reference: str, login: RegistryLogin | None, steps: Steps) -> None:
    layers = _Layers()
    for message in _messages(engine, reference, login, steps):
        if "error" in message:
            raise EngineRefused(str(message["error"]).strip().rstrip("."))
        steps.phase("fetch", layers.take(message))
    if not image_is_here(engine, reference):
        raise EngineRefused("the engine broke the pull off")


def _messages(engine: Engine, reference: str, login: RegistryLogin | None, steps: Steps) -> Iterator[dict[str, Any]]:
    """Yield what the engine says of a pull. It is read on a thread, since reading can block for minutes."""
    name, _, digest = reference.partition("@")
    items: queue.Queue[dict[str, Any] | Exception | None] = queue.Queue()
    auth = {"username": login.username, "password": login.password} if login is not None else None
    with engine.client() as client:

        def read() -> None:
            try:
                with engine.errors():
                    for message in client.pull(name, tag=digest or None, stream=True, decode=True, auth_config=auth):
                        items.put(message)
            except Exception as error:  # handed to whoever waits
                items.put(error)
            else:
                items.put(None)

        thread = threading.Thread(target=read, name="pull", daemon=True)
        thread.start()
        try:
            while True:
                steps.checkpoint()
                try:
                    item = items.get(timeout=POLL_SECONDS)
                except queue.Empty:
                    continue
                if item is None:
                    return
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            hang_up(client)
            thread.join(1)


class _Layers:
    """How far a pull is, by the messages about its layers; never less than it was before."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}
        self._shares: dict[str, float] = {}
        self._most = 0.0
        self._announced = False

    def take(self, message: dict[str, Any]) -> float | None:
        """Read one message; returns the progress from 0 to 1, or None before anything is known."""
        layer, status = message.get("id"), str(message.get("status") or "")
        if layer is None or status.startswith("Pulling from"):
            return self._most if self._announced else None
        detail = message.get("progressDetail") or {}
        share = min(1.0, float(detail.get("current") or 0) / float(detail.get("total") or 1))
        if status == "Downloading":
            self._sizes[layer] = int(detail.get("total") or 1)
            self._shares[layer] = DOWNLOAD_SHARE * share
        elif status in ("Verifying Checksum", "Download complete"):
            self._shares[layer] = DOWNLOAD_SHARE
        elif status == "Extracting":
            self._shares[layer] = DOWNLOAD_SHARE + (1 - DOWNLOAD_SHARE) * share
        elif status in ("Pull complete", "Already exists"):
            self._shares[layer] = 1.0
        else:
            self._shares.setdefault(layer, 0.0)
        self._announced = self._announced or self._shares[layer] not in (0.0, 1.0)
        if not self._announced:  # the layers are still being listed
            return None
        weights = {name: self._sizes.get(name, 1) for name in self._shares}
        done = sum(weights[name] * part for name, part in self._shares.items())
        self._most = max(self._most, done / max(1, sum(weights.values())))
        return self._most


def _pause(seconds: float, steps: Steps) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        steps.checkpoint()
        time.sleep(0.1)
