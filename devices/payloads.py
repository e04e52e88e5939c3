"""What agents send of themselves, checked and brought to the size of the columns that hold it.

Words of a machine (its CPU's name, say) are cut to length rather than refused: they are for people to read, and no
reason not to bind the machine. Numbers out of range and wrong types are errors.
"""

from __future__ import annotations

import math
import unicodedata
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, StringConstraints

CHECK_MAX_VALUES = 500


def text_clean(text: str) -> str:
    """Return ``text`` without control characters (a line's end becomes a space) and surrounding blanks."""
    spaced = "".join(" " if character in "\n\r\t" else character for character in text)
    return "".join(character for character in spaced if unicodedata.category(character) not in ("Cc", "Cs")).strip()


def _cut(length: int) -> BeforeValidator:
    def cut(value: Any) -> Any:
        if value is None:
            return ""
        return text_clean(value)[:length] if isinstance(value, str) else value

    return BeforeValidator(cut)


def _storable(value: Any, left: list[int] | None = None) -> Any:
    """Make a JSON value such that databases take it (no NUL in texts, no NaN), and bound its size."""
    left = left if left is not None else [CHECK_MAX_VALUES]
    left[0] -= 1
    if left[0] < 0:
        raise ValueError(f"has more than {CHECK_MAX_VALUES} values")
    if isinstance(value, str):
        return text_clean(value)[:2000]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list):
        return [_storable(item, left) for item in value]
    if isinstance(value, dict):
        return {text_clean(str(key))[:200]: _storable(item, left) for key, item in value.items()}
    return value


Text20 = Annotated[str, _cut(20)]
Text40 = Annotated[str, _cut(40)]
Text120 = Annotated[str, _cut(120)]
Text200 = Annotated[str, _cut(200)]
Bytes = Annotated[int, Field(ge=0, le=2**62)]


class GpuPayload(BaseModel):
    """One graphics processor."""

    name: Text200 = ""
    memory_bytes: Bytes = 0


class HostPayload(BaseModel):
    """A machine, as its agent describes it: ``HOST`` of ``docs/protocol.md``."""

    model_config = ConfigDict(extra="ignore")

    os: Text120 = ""
    arch: Text40 = ""
    python: Text40 = ""
    cpu: Text200 = ""
    cpu_count: int = Field(default=0, ge=0, le=1_000_000)
    memory_bytes: Bytes = 0
    gpu: list[GpuPayload] = Field(default_factory=list, max_length=64)
    agent_version: Text40 = ""
    runtime: Text20 = ""


class PresencePayload(HostPayload):
    """What an agent says on ``edges/{edge_id}/presence``; its last will has ``state`` and ``boot`` alone."""

    state: Literal["ONLINE", "OFFLINE"]
    boot: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.:-]+$")
    time: float | None = Field(default=None, allow_inf_nan=False)
    runs: list[int] = Field(default_factory=list, max_length=1000)
    check: Annotated[dict[str, JsonValue] | None, BeforeValidator(_storable)] = None


class EnrolmentPayload(BaseModel):
    """The body of ``POST /api/edge/enrol``."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    code: Annotated[str, StringConstraints(max_length=100)]
    name: Text120 = ""
    host: HostPayload = Field(default_factory=HostPayload)
