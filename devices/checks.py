"""What an agent found when it looked at its machine, as its device's page shows it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError


class Finding(BaseModel):
    """The answer to one question; where it is not ``required``, a no is not a fault."""

    model_config = ConfigDict(extra="ignore")

    name: str
    ok: bool
    text: str = ""
    required: bool = True


class _Check(BaseModel):
    model_config = ConfigDict(extra="ignore")

    items: list[Finding]


def findings_read(check_result: Any) -> list[Finding]:
    """Return the findings of a self-check (``{"ok", "time", "items": [...]}``); none for what has another form."""
    try:
        return _Check.model_validate(check_result).items
    except ValidationError:
        return []
