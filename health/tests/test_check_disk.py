"""The check of the disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from django.test import override_settings

from health.checks import disk
from health.checks.interface import Level

MEMORY = Path("/dev/shm")  # noqa: S108  a file system of its own


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path) -> object:
    folders = {name: tmp_path / name for name in ("STORE_DIR", "RUNS_DIR", "VENVS_DIR")}
    with override_settings(VAR_DIR=tmp_path, **folders, DISK_LEAST_BYTES=1):
        yield


def test_there_is_room_and_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "LOW_SHARE", 0.0)
    outcome = disk.ask()
    assert (outcome.level, outcome.text) == (Level.OK, "There is room, and it can be written.")
    assert [name for name, _ in outcome.facts] == [str(tmp_path)]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("times_free", "level"), [(1.5, Level.FAILED), (0.75, Level.WARNING)])
def test_the_limit_of_the_settings_holds(tmp_path: Path, times_free: float, level: Level) -> None:
    with override_settings(DISK_LEAST_BYTES=int(shutil.disk_usage(tmp_path).free * times_free)):
        outcome = disk.ask()
    assert outcome.level is level
    assert str(tmp_path) in outcome.fix
    assert str(tmp_path) not in outcome.text


def test_a_folder_that_cannot_be_written_fails() -> None:
    with override_settings(VAR_DIR=Path("/proc")):
        outcome = disk.ask()
    assert (outcome.level, outcome.text) == (Level.FAILED, "A folder of the platform cannot be written.")
    assert "/proc" in outcome.fix


def test_folders_on_other_disks_are_looked_at_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "LOW_SHARE", 0.0)
    with override_settings(VENVS_DIR=MEMORY / "not" / "there"):
        outcome = disk.ask()
    assert [name for name, _ in outcome.facts] == [str(tmp_path), str(MEMORY)]
