"""The static files: are they collected, and are they those of this version?"""

from __future__ import annotations

import filecmp
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.contrib.staticfiles.storage import ManifestFilesMixin, staticfiles_storage

from health.checks.interface import Check, Level, Outcome, some

COLLECT = "Run `manage.py collectstatic --no-input`, then start the web process again."


def ask() -> Outcome:
    """Compare what was collected with the sources, and with what this process has read of it."""
    storage = staticfiles_storage
    if not isinstance(storage, ManifestFilesMixin):
        return Outcome(Level.NEUTRAL, "Static files are served as they are, without being collected.")
    root = Path(settings.STATIC_ROOT)
    facts: list[tuple[str, str]] = [("collected in", str(root))]
    manifest, _ = storage.load_manifest()
    if not manifest:
        return Outcome(Level.FAILED, "The static files are not collected.", fix=COLLECT, facts=tuple(facts))
    sources = _sources()
    stale = sorted(name for name, source in sources.items() if not _same(source, root / name) or name not in manifest)
    facts.append(("files", str(len(sources))))
    if stale:
        facts.append(("differ", some(stale)))
        text = f"{len(stale)} static files are missing or of another version."
        return Outcome(Level.FAILED, text, fix=COLLECT, facts=tuple(facts))
    if manifest != storage.hashed_files:
        return Outcome(
            Level.WARNING,
            "The static files were collected after this process had read their names.",
            fix="Start the web process again.",
            facts=tuple(facts),
        )
    return Outcome(Level.OK, "They are collected, and those of this version.", facts=tuple(facts))


def _sources() -> dict[str, Path]:
    """The files that are to be collected, by name; where two have one name the first counts."""
    found: dict[str, Path] = {}
    for finder in get_finders():
        for name, storage in finder.list([]):
            found.setdefault(name, Path(storage.path(name)))
    return found


def _same(source: Path, collected: Path) -> bool:
    return collected.is_file() and filecmp.cmp(source, collected, shallow=False)


CHECK = Check(
    name="static-files",
    title="Static files",
    question="Are styles and scripts of this version collected?",
    ask=ask,
)
