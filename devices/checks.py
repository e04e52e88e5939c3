"""An agent's self-check in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CheckLine:
    """One thing that the agent looked at.

    Args:
        name: what it looked at.
        text: what it found.
        passed: whether that is good; None where it is neither.
    """

    name: str
    text: str
    passed: bool | None


def check_lines(result: Any) -> list[CheckLine]:
    """Return what ``Device.check_result`` says, one line a finding.

    Agents may report what they like; nothing but JSON is taken for granted. A finding that is true or false, or is an
    object with ``ok``, passed or did not.
    """
    if not isinstance(result, dict):
        return []
    return [_line(str(name), value) for name, value in result.items()]


def _line(name: str, value: Any) -> CheckLine:
    label = name.replace("_", " ").strip().capitalize()
    match value:
        case bool():
            return CheckLine(label, "yes" if value else "no", value)
        case {"ok": bool() as passed, **rest}:
            return CheckLine(label, _words(rest) or ("good" if passed else "failed"), passed)
        case _:
            return CheckLine(label, _words(value) or "-", None)


def _words(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case dict():
            return ", ".join(
                f"{key}: {_words(item)}" if len(value) > 1 else _words(item) for key, item in value.items()
            )
        case list():
            return ", ".join(_words(item) for item in value)
        case _:
            return str(value)
