"""A real container engine and a real registry for tests, each in a folder of its own.

The fixtures ``engine``, ``registry`` and ``base_image`` of ``conftest.py`` last as long as the session. A test that
stops or restarts one of them starts its own from here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import docker
import pytest

from deploy.local.engine import SYSTEM_PATH, Engine, Registry
from deploy.local.stack import StackError

REPOSITORY = Path(__file__).resolve().parent.parent
NOT_CHECKED = "NOT CHECKED"
BASE_IMAGE = "roundtable-base:test"
SMALL_BASE_IMAGE = "roundtable-base-small:test"
LARGE = re.compile(r"site-packages/(numpy|scipy|sklearn|safetensors|joblib|narwhals|setuptools)|/usr/bin/perl")
CHANGES = [  # as deploy/base-image/make.sh has them
    "ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt LANG=C.UTF-8",
]
PROGRAMS = {
    "dockerd": "docker.io",
    "docker-registry": "docker-registry",
    "debootstrap": "debootstrap",
    "ip": "iproute2",
}


def require_containers() -> None:
    """Skip the test where no engine can be started, and say so plainly; with ``CI=true`` that is a failure."""
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program, path=SYSTEM_PATH) is None]
    if missing:
        _not_checked(f"Type: apt-get install {' '.join(missing)}")
    if os.geteuid() != 0:
        _not_checked("Starting an engine needs root.")


def _not_checked(why: str) -> NoReturn:
    sentence = f"{NOT_CHECKED}: containers, since no container engine can be started here. {why}"
    if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)


@contextmanager
def engine_started(name: str, *, live_restore: bool = False) -> Iterator[Engine]:
    """Start an engine with images and a bridge of its own; everything of it is removed at the end.

    Args:
        name: at most four letters, different for engines that run at the same time.
        live_restore: let its containers live on while it is away.
    """
    require_containers()
    # The path of a socket has to be short.
    folder = Path(tempfile.mkdtemp(prefix=f"rt-{name}-", dir="/tmp"))
    engine = Engine(folder, bridge=f"rt{name}{os.getpid() % 10**7}", live_restore=live_restore)
    try:
        try:
            engine.start()
        except StackError as error:
            _not_checked(str(error))
        yield engine
    finally:
        engine.remove()


@contextmanager
def registry_started(port: int = 0) -> Iterator[Registry]:
    """Start a registry that is empty and asks for a password; everything of it is removed at the end."""
    require_containers()
    folder = Path(tempfile.mkdtemp(prefix="rt-registry-"))
    registry = Registry(folder, port)
    try:
        registry.start()
        yield registry
    finally:
        registry.stop()
        shutil.rmtree(folder, ignore_errors=True)


def base_image_make(engine: Engine) -> str:
    """Put the base image on an engine; it is made once and kept in the repository's ``var/``."""
    _make(BASE_IMAGE, DOCKER_HOST=engine.url, DOCKER_CONFIG=str(engine.folder / "client"))
    return BASE_IMAGE


def small_base_image_make(engine: Engine) -> str:
    """Put a base image on an engine that has Python and pip alone: it is pushed in seconds."""
    whole = Path(_make("--archive"))
    small = whole.with_suffix(".small.tar")
    if not small.exists():
        part = small.with_suffix(f".{os.getpid()}")
        with tarfile.open(whole) as source, tarfile.open(part, "w") as target:
            for member in source:
                if not LARGE.search(member.name):
                    target.addfile(member, source.extractfile(member) if member.isreg() else None)
        part.rename(small)
    client = docker.APIClient(base_url=engine.url, version="auto", timeout=120)
    client.import_image_from_file(str(small), repository=SMALL_BASE_IMAGE, changes=CHANGES)
    client.close()
    return SMALL_BASE_IMAGE


def _make(argument: str, **environment: str) -> str:
    """Run the script that makes base images and return what it prints."""
    done = subprocess.run(
        [str(REPOSITORY / "deploy" / "base-image" / "make.sh"), argument],
        env={**os.environ, "PATH": SYSTEM_PATH, "ROUNDTABLE_VAR": str(REPOSITORY / "var"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"The base image could not be made:\n{done.stdout}{done.stderr}", pytrace=False)
    return done.stdout.strip()
