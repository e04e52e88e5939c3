"""The image of a package: what it is made from, its name, and how the engine builds it.

An image is named by the digest of everything that goes into it, so that the same package on the same base is built
once. Its layers go from what changes least to what changes most: the base, the user and the folders, the requirements,
the package.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from django.conf import settings
from docker.utils import parse_repository_tag

from configurations.archive import ArchiveRefused, archive_open, package_root
from configurations.models import Package, PackageKind
from configurations.services import package_path
from runs.pipeline.backends.engine import EngineClient, follow, image_inspect
from runs.pipeline.backends.interface import StageContext, StageFailed, StageTransient
from runs.pipeline.backends.registry import login_for, registry_digest, registry_error
from runs.pipeline.pip_errors import pip_failure
from runs.pipeline.venvs import file_lock

INSTANCE_UID = 10001
REQUIREMENTS_MAX_BYTES = 1024 * 1024
LOCK_DIGITS = 3
SPOOL_BYTES = 8 * 1024 * 1024
PIP = "python -m pip install --no-cache-dir --no-input --disable-pip-version-check --progress-bar off"
# The engine knows these build arguments by itself, and keeps their values out of the image's history.
PROXY_VARIABLES = frozenset(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (upper, upper.lower())
)
_STEP = re.compile(r"Step (?P<step>\d+)/(?P<steps>\d+) : (?P<instruction>.*)")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class BaseImage:
    """The image that packages are built on.

    Attributes:
        name: as the setting has it.
        pinned: what ``FROM`` names it by, so that it cannot change meanwhile: ``repository@digest``, or the id of an
            image that came from no registry.
        here: whether the engine has it.
    """

    name: str
    pinned: str
    here: bool


@dataclass(frozen=True)
class ImagePlan:
    """An image that is to be there.

    Attributes:
        repository: ``host:port/name``.
        tag: the digest of everything that goes into it.
        dockerfile: how it is built.
    """

    kind: PackageKind
    package: Package
    base: BaseImage
    repository: str
    tag: str
    dockerfile: str
    requirements: bytes

    @property
    def reference(self) -> str:
        return f"{self.repository}:{self.tag}"


def image_repository(kind: PackageKind) -> str:
    """Return the name, without a tag, of the images of one kind.

    Raises:
        StageFailed: no registry is configured.
    """
    if not settings.REGISTRY:
        raise StageFailed("No registry is configured. Set ROUNDTABLE_REGISTRY to the host:port of one.")
    return f"{settings.REGISTRY}/roundtable-{kind.value}"


def image_plan(client: EngineClient, package: Package, kind: PackageKind) -> ImagePlan:
    """Return the image that a package makes on the base image of the settings.

    Raises:
        StageFailed: the base image or the package is missing, or the package is damaged.
        StageTransient: the base image's registry does not answer.
    """
    base = base_image(client)
    requirements = _requirements(package, kind)
    dockerfile = _dockerfile(base, package, kind, bool(requirements))
    digest = hashlib.sha256(dockerfile.encode())
    digest.update(hashlib.sha256(requirements).digest())
    digest.update(bytes.fromhex(package.sha256))
    return ImagePlan(kind, package, base, image_repository(kind), digest.hexdigest(), dockerfile, requirements)


def base_image(client: EngineClient) -> BaseImage:
    """Return the base image of the settings, whether the engine has it or its registry.

    Raises:
        StageFailed: neither has it.
        StageTransient: the engine does not have it, and its registry does not answer.
    """
    name = settings.BASE_IMAGE
    repository, tag = parse_repository_tag(name)
    found = image_inspect(client, name)
    if found is not None:
        known = (each.partition("@") for each in found.get("RepoDigests") or [])
        digest = next((digest for of, _, digest in known if of == _familiar(repository)), "")
        return BaseImage(name, f"{repository}@{digest}" if digest else str(found["Id"]), here=True)
    digest = _base_digest(
        client, repository if tag and tag.startswith("sha256:") else f"{repository}:{tag or 'latest'}", name
    )
    pinned = f"{repository}@{digest}"
    return BaseImage(name, pinned, here=image_inspect(client, pinned) is not None)


def _base_digest(client: EngineClient, reference: str, name: str) -> str:
    fix = "Correct ROUNDTABLE_BASE_IMAGE, or make a base image on this engine: make base-image."
    try:
        digest = registry_digest(client, name)
    except (StageFailed, StageTransient) as error:
        raise type(error)(f"The base image {name} is not on the engine. {error} {fix}") from error
    if digest is None:
        raise StageFailed(f"The base image {reference} is neither on the engine nor in its registry. {fix}")
    return digest


def _familiar(repository: str) -> str:
    """Return a repository's name as the engine lists it."""
    return repository.removeprefix("docker.io/").removeprefix("library/")


def _requirements(package: Package, kind: PackageKind) -> bytes:
    """Return the package's requirements; empty where it has none."""
    if not package.manifest.get("requirements"):
        return b""
    with _package_archive(package, kind) as (archive, root):
        name = f"{root}/requirements.txt"
        return archive.read(name, REQUIREMENTS_MAX_BYTES) if name in archive.files else b""


@contextmanager
def _package_archive(package: Package, kind: PackageKind) -> Iterator[tuple[Any, str]]:
    """Open a package's archive; its top folder's name comes with it."""
    try:
        with archive_open(package_path(package)) as archive:
            yield archive, package_root(archive)
    except ArchiveRefused as error:
        raise StageFailed(f"The {kind} package cannot be unpacked. {error}") from error
    except FileNotFoundError as error:
        raise StageFailed(
            f"The {kind} package {package.sha256[:12]} is not in the store any more. Upload it again."
        ) from error


def _dockerfile(base: BaseImage, package: Package, kind: PackageKind, requirements: bool) -> str:
    """Return the Dockerfile. No text of a package's author stands in it."""
    lines = [
        f"# {base.name}",
        f"FROM {base.pinned}",
        "LABEL roundtable.image=1",
        "ENTRYPOINT []",
        'CMD ["python", "main.py"]',
        "ENV PYTHONUNBUFFERED=1",
        f"RUN mkdir -p /fedml/conf /fedml/fedml-package /fedml/data && chown {INSTANCE_UID}:{INSTANCE_UID} /fedml/conf "
        f"/fedml/data && echo 'fedml:x:{INSTANCE_UID}:{INSTANCE_UID}::/fedml/data:/bin/false' >> /etc/passwd",
    ]
    if requirements:
        lines += [f"ARG {name}" for name in sorted(_build_variables()) if name not in PROXY_VARIABLES]
        lines += ["COPY requirements.txt /fedml/requirements.txt", f"RUN {PIP} -r /fedml/requirements.txt"]
    lines += [
        "COPY package /fedml/fedml-package",
        "WORKDIR /fedml/fedml-package",
        f"USER {INSTANCE_UID}:{INSTANCE_UID}",
        f"LABEL roundtable.kind={kind.value} roundtable.package={package.sha256}",
    ]
    return "\n".join(lines) + "\n"


def _build_variables() -> dict[str, str]:
    """Return the variables that builds are given: those that the settings name and the worker's environment has.

    Raises:
        StageFailed: one of them would leave a password in the image.
    """
    given = {name: os.environ[name] for name in settings.BUILD_ARGS if name in os.environ}
    for name, value in given.items():
        if name not in PROXY_VARIABLES and urlsplit(value).password:
            raise StageFailed(
                f"The build argument {name} holds a password, which everybody who can pull the image could read. Use a "
                "package index that asks for none, or a base image that has the requirements."
            )
    return given


@contextmanager
def image_lock(context: StageContext, plan: ImagePlan) -> Iterator[None]:
    """Hold what only one worker of this machine may do at a time: building and pushing this image.

    Images share a few thousand locks, so that their files do not pile up; two that share one wait for each other.
    """
    folder = Path(settings.VAR_DIR) / "locks"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with file_lock(folder / f"image-{plan.tag[:LOCK_DIGITS]}.lock", context):
        yield


def image_build(context: StageContext, client: EngineClient, plan: ImagePlan) -> None:
    """Have the engine build an image; its output and its steps go into the stage's log and progress.

    Raises:
        StageFailed: it cannot be built; the sentence says which part of it and why.
        StageTransient: the engine, or the base image's registry, broke off.
        StageCancelled, StageTimedOut: from ``context.check``; the engine ends what it was at.
    """
    if not plan.base.here:
        _base_pull(context, client, plan.base)
    output = _BuildOutput(context, plan)
    with tempfile.TemporaryFile(dir=settings.VAR_DIR) as file:
        _context_write(context, file, plan)
        file.seek(0)
        arguments = _build_variables()
        messages = follow(
            context,
            client,
            lambda: client.build(
                fileobj=file,
                custom_context=True,
                encoding=None,
                tag=plan.reference,
                rm=True,
                forcerm=True,
                decode=True,
                timeout=None,
                network_mode=settings.BUILD_NETWORK or None,
                buildargs=arguments,
            ),
        )
        for message in messages:
            output.take(message)
    if not output.image_id:
        raise StageTransient("The engine broke the build off.")


class _BuildOutput:
    """Reads what the engine says of a build."""

    def __init__(self, context: StageContext, plan: ImagePlan) -> None:
        self._context, self._plan = context, plan
        self._rest = ""
        self._instruction = ""
        self._lines: list[str] = []
        self.image_id = ""

    def take(self, message: dict[str, Any]) -> None:
        self.image_id = (message.get("aux") or {}).get("ID") or self.image_id
        *lines, self._rest = (self._rest + str(message.get("stream") or "")).split("\n")
        for line in lines:
            self._line(line)
        if "error" in message:
            self._line(self._rest)
            raise self._failure(message)

    def _line(self, coloured: str) -> None:
        line = _COLOUR.sub("", coloured).rstrip()
        if not line:
            return
        self._lines.append(line)
        if step := _STEP.match(line):
            self._instruction, self._lines = step["instruction"], []
            self._context.progress((int(step["step"]) - 1) / int(step["steps"]))
        self._context.log(line, "stderr" if "\x1b[91m" in coloured else "stdout")

    def _failure(self, message: dict[str, Any]) -> StageFailed | StageTransient:
        said = str(message["error"]).strip().rstrip(".") + "."
        code = (message.get("errorDetail") or {}).get("code")
        if self._instruction.startswith(f"RUN {PIP}") and code is not None:
            if any("No module named pip" in line for line in self._lines) or code == 127:
                return StageFailed(
                    f"The base image {self._plan.base.name} has no pip. Set ROUNDTABLE_BASE_IMAGE to one with Python."
                )
            return StageFailed(pip_failure(self._lines, code, f"the {self._plan.kind} package"))
        if '"/bin/sh": ' in said:
            return StageFailed(
                f"The base image {self._plan.base.name} has no shell. Set ROUNDTABLE_BASE_IMAGE to one with Python."
            )
        if self._instruction.startswith("FROM"):
            return registry_error(self._plan.base.name, said)
        return StageFailed(f"The {self._plan.kind} image cannot be built: {said}")


def _base_pull(context: StageContext, client: EngineClient, base: BaseImage) -> None:
    """Pull the base image by its digest, and name it as the settings do."""
    repository, _, digest = base.pinned.partition("@")
    context.log(f"Pulling the base image {base.name}")
    login = login_for(repository)
    for message in follow(
        context, client, lambda: client.pull(repository, tag=digest, stream=True, decode=True, auth_config=login)
    ):
        if "error" in message:
            raise registry_error(base.name, str(message["error"]).strip().rstrip(".") + ".")
        status = str(message.get("status") or "")
        if status in ("Pull complete", "Already exists") or "id" not in message:
            context.log(f"{message['id']}: {status}" if "id" in message else status)
    if image_inspect(client, base.pinned) is None:
        raise StageTransient(f"The engine broke the pull of the base image {base.name} off.")
    name, tag = parse_repository_tag(base.name)
    if not (tag or "").startswith("sha256:"):
        client.tag(base.pinned, name, tag or "latest")


def _context_write(context: StageContext, file: IO[bytes], plan: ImagePlan) -> None:
    """Write what the engine builds from: Dockerfile, requirements and the package's files, all with fixed times."""
    with tarfile.open(fileobj=file, mode="w") as tar:
        _member_add(tar, "Dockerfile", plan.dockerfile.encode())
        if plan.requirements:
            _member_add(tar, "requirements.txt", plan.requirements)
        with _package_archive(plan.package, plan.kind) as (archive, root):
            for name in ["", *(folder[len(root) + 1 :] for folder in archive.folders)]:
                tar.addfile(_member(f"package/{name}", 0o755, directory=True))
            for name, member in archive.files.items():
                context.check()
                with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES, dir=str(settings.VAR_DIR)) as content:
                    for chunk in archive.chunks(name):
                        content.write(chunk)
                    information = _member(f"package/{name[len(root) + 1 :]}", 0o755 if member.mode & 0o111 else 0o644)
                    information.size = content.tell()
                    content.seek(0)
                    tar.addfile(information, content)


def _member_add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    information = _member(name, 0o644)
    information.size = len(content)
    tar.addfile(information, io.BytesIO(content))


def _member(name: str, mode: int, *, directory: bool = False) -> tarfile.TarInfo:
    information = tarfile.TarInfo(name.rstrip("/"))
    information.mode = mode
    information.type = tarfile.DIRTYPE if directory else tarfile.REGTYPE
    return information
