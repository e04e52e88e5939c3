"""The registry: can an image be pushed with the platform's login, and pulled with that of the devices?

The image is a tiny one, the same at every check, so that checks do not fill the registry.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import secrets
import tarfile
import time

from django.conf import settings
from docker.errors import APIError

from health.checks.backend import containers_wanted
from health.checks.interface import Check, Level, Outcome, milliseconds
from runs.models import Run
from runs.pipeline.backends.engine import EngineClient, engine_client, engine_look, engine_said, follow, image_inspect
from runs.pipeline.backends.interface import StageFailed, StageTimedOut, StageTransient
from runs.pipeline.backends.registry import image_push, pull_login

SECONDS = 25.0
NAME = "roundtable-health"
TAGS = 16  # so that checks beside each other do not take each other's image away
EPOCH = "1970-01-01T00:00:00Z"


class _PullRefused(Exception):
    """What was pushed cannot be pulled; the message is what the engine said."""


class _Watch:
    """What pushing asks and tells while it works: it ends in time, and at the first layer that is not taken."""

    run: Run
    attempt = 1

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds

    def log(self, line: str, stream: str = "stdout") -> None:
        if stream == "stderr":
            raise StageTransient(line)

    def progress(self, fraction: float | None) -> None:
        """Nobody looks."""

    def cancelled(self) -> bool:
        return False

    def check(self) -> None:
        if self.seconds_left() <= 0:
            raise StageTimedOut

    def seconds_left(self) -> float:
        return self._deadline - time.monotonic()


def ask() -> Outcome:
    """Push a tiny image, remove it from the engine, and pull it by its digest."""
    if not settings.REGISTRY:
        if containers_wanted():
            return Outcome(
                Level.FAILED,
                "No registry is configured, and new runs need one.",
                fix="Set ROUNDTABLE_REGISTRY to the host:port of a registry that the worker and all devices reach.",
            )
        return Outcome(Level.NEUTRAL, "Not configured: the process backend is used.")
    where = (("registry", settings.REGISTRY), ("user", settings.REGISTRY_USER or "none"))
    try:
        engine_look()
    except (StageFailed, StageTransient):
        return Outcome(
            Level.FAILED,
            "The registry is asked through the container engine, which cannot be used.",
            fix="See the check of the container engine.",
            facts=where,
        )
    began = time.perf_counter()
    try:
        digest = _round_trip(_Watch(SECONDS))
    except _PullRefused as error:
        return Outcome(
            Level.FAILED,
            "An image was pushed, but cannot be pulled as devices pull it.",
            fix="Give ROUNDTABLE_REGISTRY_PULL_USER and ROUNDTABLE_REGISTRY_PULL_PASSWORD a login that may pull.",
            facts=(*where, ("pulled as", settings.REGISTRY_PULL_USER or "none"), ("error", str(error))),
        )
    except StageTimedOut:
        text = f"The registry has not taken and given back an image within {SECONDS:.0f} s."
        return Outcome(Level.FAILED, text, fix="Look at the registry's log, its load and the way to it.", facts=where)
    except (StageFailed, StageTransient) as error:
        return Outcome(Level.FAILED, "The registry does not take an image.", fix=str(error), facts=where)
    seconds = time.perf_counter() - began
    return Outcome(
        Level.OK,
        f"An image was pushed and pulled in {milliseconds(seconds)}.",
        facts=(*where, ("pulled as", settings.REGISTRY_PULL_USER or "none"), ("digest", digest)),
    )


def _round_trip(watch: _Watch) -> str:
    """Push and pull, and return the digest of the image."""
    repository, tag = f"{settings.REGISTRY}/{NAME}", f"check-{secrets.randbelow(TAGS)}"
    digest = ""
    with engine_client(SECONDS) as client:
        try:
            for _ in client.load_image(image_archive(f"{repository}:{tag}")):
                pass
            digest = image_push(watch, client, repository, tag)
            _remove(client, f"{repository}:{tag}")
            _pull(watch, client, repository, digest)
        finally:
            _remove(client, f"{repository}:{tag}")
            if digest:
                _remove(client, f"{repository}@{digest}")
    return digest


def _pull(watch: _Watch, client: EngineClient, repository: str, digest: str) -> None:
    login = pull_login()
    auth = login.as_json() if login else None
    try:
        for message in follow(
            watch, client, lambda: client.pull(repository, tag=digest, stream=True, decode=True, auth_config=auth)
        ):
            if "error" in message:
                raise _PullRefused(str(message["error"]))
    except APIError as error:
        raise _PullRefused(engine_said(error)) from error
    if image_inspect(client, f"{repository}@{digest}") is None:
        raise _PullRefused("the engine broke the pull off")


def _remove(client: EngineClient, reference: str) -> None:
    with contextlib.suppress(APIError):
        client.remove_image(reference, noprune=False)


def image_archive(reference: str) -> bytes:
    """Return a tiny image as ``docker save`` writes it: one layer with one file, always the same bytes.

    Args:
        reference: the name and tag that the engine gives it.
    """
    layer = _tar({"health": b"pushed and pulled by the check of the registry\n"})
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": EPOCH,
            "config": {},
            "history": [{"created": EPOCH, "created_by": "check of the registry"}],
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        },
        sort_keys=True,
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": [reference], "Layers": ["layer.tar"]}]).encode()
    return _tar({"manifest.json": manifest, name: config, "layer.tar": layer})


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


CHECK = Check(
    name="registry",
    title="Registry",
    question="Can an image be pushed, and pulled as devices pull it?",
    ask=ask,
    seconds=SECONDS + 5.0,
    in_worker=True,
)
