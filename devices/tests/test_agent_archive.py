"""``GET /edge/agent.tar.gz``: the agent's program, without anything that an agent has written."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client

from devices.agent_archive import agent_archive


def names(content: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
        return tar.getnames()


@pytest.fixture
def edge(tmp_path: Path) -> Path:
    """A clone's ``edge/`` in which an agent has run."""
    for name in (
        "run.sh",
        "requirements.txt",
        "roundtable_agent/__init__.py",
        "sdk/roundtable.py",
        "sdk/tests/test_sdk.py",
        "tests/test_agent.py",
        "roundtable_agent/__pycache__/agent.py",
        ".venv/lib/module.py",
        "var/notes.txt",
        "home/notes.txt",
        ".env",
        "identity.json",
        "agent.log",
    ):
        path = tmp_path / "edge" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("secret" if name.endswith(("json", "log", "env")) else name)
    (tmp_path / "outside.txt").write_text("secret")
    (tmp_path / "edge" / "linked.txt").symlink_to(tmp_path / "outside.txt")
    return tmp_path / "edge"


def test_it_holds_the_program_alone(edge: Path) -> None:
    assert names(agent_archive(edge).content) == [
        "roundtable-edge/requirements.txt",
        "roundtable-edge/roundtable_agent/__init__.py",
        "roundtable-edge/run.sh",
        "roundtable-edge/sdk/roundtable.py",
    ]


def test_same_files_give_same_bytes(edge: Path) -> None:
    first = agent_archive(edge)
    for path in edge.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
        if path.is_file():
            path.chmod(0o600)
    agent_archive.cache_clear()
    assert agent_archive(edge) == first
    (edge / "run.sh").write_text("changed")
    agent_archive.cache_clear()
    assert agent_archive(edge) != first


def test_the_script_can_be_executed_and_nobody_is_named(edge: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(agent_archive(edge).content)) as tar:
        members = tar.getmembers()
    assert {member.name.rpartition("/")[2]: oct(member.mode) for member in members} == {
        "requirements.txt": "0o644",
        "__init__.py": "0o644",
        "run.sh": "0o755",
        "roundtable.py": "0o644",
    }
    assert {(member.uid, member.gid, member.uname, member.gname, member.mtime) for member in members} == {
        (0, 0, "", "", 0)
    }


def test_it_is_served_to_everybody_and_can_be_cached() -> None:
    response = Client().get("/edge/agent.tar.gz")
    assert response.status_code == 200
    assert response["Content-Type"] == "application/gzip"
    found = names(response.content)
    assert "roundtable-edge/run.sh" in found
    assert "roundtable-edge/requirements.txt" in found
    assert not [name for name in found if "/tests/" in name or "__pycache__" in name or "/." in name]
    again = Client().get("/edge/agent.tar.gz", headers={"If-None-Match": response["ETag"]})
    assert again.status_code == 304


def test_no_secret_of_the_platform_is_in_it() -> None:
    content = Client().get("/edge/agent.tar.gz").content
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        text = b"".join(file.read() for member in tar.getmembers() if (file := tar.extractfile(member)))
    for secret in (settings.SECRET_KEY, settings.MQTT_PASSWORD):
        assert secret.encode() not in text


def test_another_method_is_refused() -> None:
    assert Client().post("/edge/agent.tar.gz").status_code == 405
