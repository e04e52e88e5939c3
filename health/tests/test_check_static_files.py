"""The check of the static files, with a few that are really collected."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from django.conf import settings
from django.contrib.staticfiles.storage import ManifestStaticFilesStorage, staticfiles_storage
from django.core.management import call_command
from django.test import override_settings

from health.checks import static_files
from health.checks.interface import Level


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Path]:
    """A folder with one script, and settings under which it alone is collected."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "page.js").write_text("export const version = 1;\n")
    storages = {**settings.STORAGES, "staticfiles": {"BACKEND": "mlops_site.staticfiles.ModuleStaticFilesStorage"}}
    with override_settings(
        STORAGES=storages,
        STATIC_ROOT=tmp_path / "collected",
        STATICFILES_DIRS=[folder],
        STATICFILES_FINDERS=["django.contrib.staticfiles.finders.FileSystemFinder"],
    ):
        yield folder


def collect() -> None:
    call_command("collectstatic", interactive=False, verbosity=0)


def change(script: Path) -> None:
    script.write_text("export const version = 2;\n")
    os.utime(script, (time.time() + 60, time.time() + 60))  # what is collected anew has to be newer by a second


def test_they_are_collected(source: Path) -> None:
    collect()
    outcome = static_files.ask()
    assert (outcome.level, outcome.text) == (Level.OK, "They are collected, and those of this version.")
    assert dict(outcome.facts)["files"] == "1"


def test_they_are_not_collected(source: Path) -> None:
    outcome = static_files.ask()
    assert (outcome.level, outcome.text) == (Level.FAILED, "The static files are not collected.")
    assert "`manage.py collectstatic --no-input`" in outcome.fix


@pytest.mark.parametrize("name", ["page.js", "new.js"])
def test_they_are_of_another_version(source: Path, name: str) -> None:
    collect()
    change(source / name)
    outcome = static_files.ask()
    assert (outcome.level, outcome.text) == (Level.FAILED, "1 static files are missing or of another version.")
    assert dict(outcome.facts)["differ"] == name


def test_this_process_still_has_the_names_of_those_before(source: Path) -> None:
    collect()
    assert static_files.ask().level is Level.OK
    change(source / "page.js")
    storage = cast(ManifestStaticFilesStorage, staticfiles_storage)
    names = dict(storage.hashed_files)
    collect()
    storage.hashed_files = names
    outcome = static_files.ask()
    assert outcome.level is Level.WARNING
    assert outcome.fix == "Start the web process again."


def test_they_may_be_served_as_they_are() -> None:
    assert static_files.ask().level is Level.NEUTRAL
