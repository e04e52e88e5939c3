"""The device's private data: what may be used, and where its path is put."""

import re
from pathlib import Path
from typing import Any

from .runtime import Failed

VARIABLE = re.compile(r"\$\{FEDSYS[._]PRIVATE_LOCAL_DATA\}")


def private_data(folder: str, wanted: str) -> Path | None:
    """Find the private data that a run names.

    Parameters:
        folder: the only folder from which data may be used, as the device's owner gave it; empty for none.
        wanted: a path below it, or an absolute path in it; empty where the run uses none.

    Returns:
        The absolute path, with every link resolved; None where the run uses none.

    Raises:
        Failed: there is no such folder, it holds no such data, or the path leaves it, be it through a link.
    """
    if not wanted:
        return None
    if not folder:
        raise Failed("this device offers no private data: start its agent with --data and the folder to use")
    try:
        root = Path(folder).resolve(strict=True)
        path = (root / wanted).resolve()
        if not path.is_relative_to(root):
            raise Failed(f"the private data path {wanted!r} leaves the data folder of this device")
        if not path.exists():
            raise Failed(f"the data folder of this device holds no {wanted!r}")
    except (OSError, RuntimeError, ValueError) as error:
        raise Failed(f"the private data path {wanted!r} cannot be used: {error}") from None
    return path


def substitute(value: Any, path: Path | None) -> Any:
    """Replace `${FEDSYS.PRIVATE_LOCAL_DATA}` (or with `_`) in every string within a value of plain JSON types.

    Where the run uses no private data the variable becomes empty.
    """
    text = str(path) if path is not None else ""
    if isinstance(value, str):
        return VARIABLE.sub(lambda _: text, value)
    if isinstance(value, list):
        return [substitute(item, path) for item in value]
    if isinstance(value, dict):
        return {key: substitute(item, path) for key, item in value.items()}
    return value
