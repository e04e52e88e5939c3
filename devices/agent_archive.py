"""The agent as one small archive, for machines without a clone of the repository.

It is made of the program files of ``edge/`` alone: chosen by their kind, so that what an agent that ran in the same
clone has written there (its identity, data, environments) can never be in it. Same files, same bytes.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

TOP_FOLDER = "roundtable-edge"
PROGRAM_SUFFIXES = frozenset({".py", ".sh", ".txt", ".md", ".toml"})
LEFT_OUT = frozenset({"tests", "__pycache__", "var", "venv", "home", "node_modules"})
FILE_MAX_BYTES = 2 * 1024 * 1024


@dataclass(frozen=True)
class AgentArchive:
    """A gzipped tar file."""

    content: bytes
    sha256: str


@functools.cache
def agent_archive(folder: Path) -> AgentArchive:
    """Return the archive of the agent in ``folder``, made once a process."""
    tar_bytes = io.BytesIO()
    with tarfile.open(fileobj=tar_bytes, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in _program_files(folder):
            content = path.read_bytes()
            member = tarfile.TarInfo(f"{TOP_FOLDER}/{path.relative_to(folder).as_posix()}")
            member.size = len(content)
            member.mode = 0o755 if path.suffix == ".sh" else 0o644
            tar.addfile(member, io.BytesIO(content))
    content = gzip.compress(tar_bytes.getvalue(), mtime=0)
    return AgentArchive(content, hashlib.sha256(content).hexdigest())


def _program_files(folder: Path) -> list[Path]:
    """List the files of the agent's program, sorted by name."""
    found = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") or part in LEFT_OUT for part in parts)
        if hidden or path.is_symlink() or not path.is_file() or path.suffix not in PROGRAM_SUFFIXES:
            continue
        if path.stat().st_size <= FILE_MAX_BYTES:
            found.append(path)
    return found
