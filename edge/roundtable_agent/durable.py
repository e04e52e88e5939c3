"""Files that a crash leaves either old or new, never half-written."""

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str, *, mode: int = 0o600, sync: bool = False) -> None:
    """Replace a file in one step.

    Parameters:
        path: the file; its folder must exist.
        text: the new content, written as UTF-8.
        mode: permission bits of the file.
        sync: wait until the disk holds it, so that it outlives a power cut too.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), mode)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def write_json(path: Path, value: Any, *, mode: int = 0o600, sync: bool = False) -> None:
    """Replace a JSON file in one step; parameters and errors as `write_text`."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n", mode=mode, sync=sync)


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object.

    Returns:
        The object, or None where the file is missing or does not hold one.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
