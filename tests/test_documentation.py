"""What the documents say exists, and what exists is in the documents."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT_SUFFIXES = {".css", ".html", ".js", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml"}
DOCUMENTS = sorted(path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")])


def test_every_setting_is_documented() -> None:
    settings = set(re.findall(r"\"(ROUNDTABLE_[A-Z0-9_]+)\"", (ROOT / "mlops_site/settings.py").read_text()))
    documented = set(re.findall(r"`(ROUNDTABLE_[A-Z0-9_]+)`", (ROOT / "docs/operations.md").read_text()))
    assert settings == documented


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", document.read_text())
    missing = [link for link in links if not (document.parent / link).exists()]
    assert missing == []


def test_every_make_target_that_documents_name_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {name for path in DOCUMENTS for name in re.findall(r"(?:`|    )make ([a-z-]+)", path.read_text())}
    assert named - targets == set()


def test_every_test_that_documents_name_exists() -> None:
    named = {
        name
        for path in DOCUMENTS
        for name in re.findall(r"`([\w/-]+/tests?/[\w/]*\.py|tests/[\w/]+\.py)(::\w+)?`", path.read_text())
    }
    assert named
    for file, function in sorted(named):
        text = (ROOT / file).read_text()
        assert not function or f"def {function[2:]}(" in text, (file, function)


def test_no_conflict_is_left_in_a_file() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    marks = tuple(mark * 7 + " " for mark in "<>")
    texts = [path for name in tracked.split("\0") if (path := ROOT / name).suffix in TEXT_SUFFIXES]
    assert texts
    assert [str(path) for path in texts if any(line.startswith(marks) for line in path.read_text().splitlines())] == []
