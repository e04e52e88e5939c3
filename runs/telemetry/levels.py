"""The level of a log line, read from its text."""

from __future__ import annotations

import re

_LEVELS = {
    "CRITICAL": "ERROR",
    "FATAL": "ERROR",
    "ERROR": "ERROR",
    "WARNING": "WARNING",
    "WARN": "WARNING",
    "INFO": "INFO",
    "DEBUG": "DEBUG",
}
_NAMES = "|".join(_LEVELS)
# A level in capitals stands near the start of a line; in small letters it counts only as "[level]" or "level:".
_PATTERN = re.compile(rf"\b({_NAMES})\b|(?i:[\[(<]({_NAMES})[\])>]|^\s*({_NAMES}):)")
_REACH = 160  # characters


def level_of(line: str) -> str:
    """Return ``ERROR``, ``WARNING``, ``INFO``, ``DEBUG``, or an empty string where the line names no level."""
    found = _PATTERN.search(line, 0, _REACH)
    if found:
        return _LEVELS[(found[1] or found[2] or found[3]).upper()]
    return "ERROR" if line.startswith("Traceback (most recent call last)") else ""
