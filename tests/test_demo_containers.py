"""``make demo BACKEND=docker`` and ``BACKEND=swarm``: real images, containers by digest, and nothing left behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import docker

from deploy.local.engine import Engine, Registry
from deploy.local.stack import REPOSITORY
from tests.containers import BASE_IMAGE, require_containers
from tests.test_demo import processes_of


def demo(var: Path, backend: str, **environment: str) -> str:
    """Run the demo to its end and return what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "deploy.local.demo", "--once", "--backend", backend],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "ROUNDTABLE_VAR": str(var), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def test_it_runs_on_an_engine_and_a_registry_that_are_there_and_leaves_no_container(
    engine: Engine, registry: Registry, tmp_path: Path
) -> None:
    said = demo(
        tmp_path,
        "docker",
        DOCKER_HOST=engine.url,
        ROUNDTABLE_REGISTRY=registry.address,
        ROUNDTABLE_REGISTRY_USER=registry.username,
        ROUNDTABLE_REGISTRY_PASSWORD=registry.password,
        ROUNDTABLE_BASE_IMAGE=BASE_IMAGE,
    )
    assert "Starting a container engine" not in said
    for kind in ("server", "client"):
        image = rf"{re.escape(registry.address)}/roundtable-{kind}@sha256:[0-9a-f]{{12}}"
        assert re.search(rf"Push {kind} image +(done|unchanged) .*{image}", said)
    assert "rounds               40/40" in said
    client = docker.APIClient(base_url=engine.url, version="auto")
    assert client.containers(all=True, filters={"label": "roundtable.run"}) == []
    client.close()
    assert processes_of(tmp_path) == []


def test_it_starts_an_engine_a_registry_and_a_swarm_of_its_own_and_stops_them(tmp_path: Path) -> None:
    require_containers()
    (tmp_path / "base-image").symlink_to(REPOSITORY / "var" / "base-image")  # made once for all tests
    said = demo(tmp_path, "swarm", DOCKER_HOST="")
    assert said.startswith("Starting a container engine ...")
    assert "rounds               40/40" in said
    assert processes_of(tmp_path) == []
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
