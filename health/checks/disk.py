"""The disk: is there room for packages, models and runs, and may they be written?"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from django.conf import settings

from health.checks.interface import Check, Level, Outcome

GIB = 2**30
LOW_SHARE = 0.05  # of the whole disk
LEAST_FILES = 10_000


def ask() -> Outcome:
    """Write a file in each folder that the platform writes to, and look at how much room there is."""
    facts: list[tuple[str, str]] = []
    worst = Outcome(Level.OK, "There is room, and it can be written.")
    for folder in _folders():
        outcome, fact = _folder(folder)
        facts.append(fact)
        if outcome is not None and (worst.level is not Level.FAILED):
            worst = outcome
    return Outcome(worst.level, worst.text, worst.fix, tuple(facts))


def _folders() -> list[Path]:
    """The platform's folders, one of each file system."""
    by_device: dict[int, Path] = {}
    for folder in (settings.VAR_DIR, settings.STORE_DIR, settings.RUNS_DIR, settings.VENVS_DIR):
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        by_device.setdefault(existing.stat().st_dev, existing)
    return list(by_device.values())


def _folder(folder: Path) -> tuple[Outcome | None, tuple[str, str]]:
    """Return what is wrong with a folder (None: nothing), and how much room it has."""
    usage = shutil.disk_usage(folder)
    fact = (str(folder), f"{usage.free / GIB:.1f} GiB of {usage.total / GIB:.1f} GiB are free")
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".health-") as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return (
            Outcome(
                Level.FAILED,
                "A folder of the platform cannot be written.",
                fix=f"Make {folder} writable for the user of the platform's processes ({error.strerror}).",
            ),
            fact,
        )
    fix = f"Make room at {folder}: delete runs and packages that nobody needs, or move the folder to a larger disk."
    if usage.free < settings.DISK_LEAST_BYTES:
        least = settings.DISK_LEAST_BYTES / GIB
        return Outcome(Level.FAILED, f"Less than {least:.1f} GiB are free.", fix=fix), fact
    files = os.statvfs(folder)
    if files.f_files and files.f_favail < LEAST_FILES:
        return Outcome(Level.FAILED, f"Only {files.f_favail} more files can be made.", fix=fix), fact
    if usage.free < 2 * settings.DISK_LEAST_BYTES or usage.free < LOW_SHARE * usage.total:
        return Outcome(Level.WARNING, f"{usage.free / GIB:.1f} GiB are free, which is little.", fix=fix), fact
    return None, fact


CHECK = Check(
    name="disk",
    title="Disk",
    question="Is there room for packages, models and runs, and may they be written?",
    ask=ask,
)
