"""What reporters send (``docs/protocol.md``, section 3), checked and brought to the form in which it is stored.

``payload_parse`` reads the bytes of a message. What it returns can be stored without another look: numbers fit their
columns, texts have no characters that a database refuses, and lines are cut to their greatest length.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, NotRequired, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic needs its own on Python 3.11

from devices.payloads import PresencePayload
from runs.live.broadcast import line_clean
from runs.telemetry.topics import Kind

__all__ = [
    "EventPayload",
    "LogPayload",
    "MetricsPayload",
    "ModelPayload",
    "PayloadInvalid",
    "PresencePayload",
    "RoundPayload",
    "StatusPayload",
    "SystemPayload",
    "payload_parse",
]

MESSAGE_MAX_BYTES = 1024 * 1024
_TIME_MAX = 253_402_300_799.0  # the last second of the year 9999
_BIG = 2**63 - 1
_SMALL = 2**31 - 1
_REASONS_SHOWN = 3


class PayloadInvalid(Exception):
    """A message that is not as the protocol says; ``str(error)`` names the places and what is wrong with each."""


def _text(length: int) -> Any:
    """Text for a column: without NUL, which PostgreSQL refuses, cut to its length."""

    def clean(value: Any) -> Any:
        return value.replace("\x00", "\ufffd")[:length] if isinstance(value, str) else value

    return BeforeValidator(clean)


_NAME = r"^[A-Za-z0-9_\-./: %]+$"
Name = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=200, pattern=_NAME)]
Time = Annotated[float, Field(strict=True, ge=0, le=_TIME_MAX, allow_inf_nan=False)]
Instance = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=64, pattern=r"^[0-9A-Za-z_-]+$")]
Sequence = Annotated[int, Field(strict=True, ge=1, le=_BIG)]
RoundIndex = Annotated[int, Field(strict=True, ge=-1, le=_SMALL)]
# JSON has no number for these three; a number too large for a float reads as an infinity too.
Value = Annotated[
    Annotated[float, Field(strict=True)] | Literal["NaN", "Infinity", "-Infinity"],
    Field(union_mode="left_to_right"),
]
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class _Message(BaseModel):
    """What every telemetry message carries: the start of its sender, and its number within that."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    instance: Instance
    seq: Sequence


class MetricItem(TypedDict):
    """One value of one metric. ``value`` may be one of the strings; see ``value_of``."""

    name: Name
    step: Finite
    time: Time
    value: Value
    round: NotRequired[RoundIndex | None]


class MetricsPayload(_Message):
    """``metrics``"""

    metrics: Annotated[list[MetricItem], Field(max_length=1000)]


class RoundPayload(_Message):
    """``round``: the aggregator's last finished round, 0-based; -1 before the first."""

    round_index: RoundIndex
    total_rounds: Annotated[int, Field(strict=True, ge=0, le=_SMALL)]
    running_time: Annotated[float, Field(strict=True, ge=0, le=_TIME_MAX, allow_inf_nan=False)] = 0.0


def _as_text(value: Any) -> Any:
    """An event's value is most often a round's number."""
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value).lower()
    return format(value, "g") if isinstance(value, float) else str(value) if isinstance(value, int) else value


class EventPayload(_Message):
    """``event``: the start or the end of a span of work, or both."""

    event_name: Annotated[str, StringConstraints(strict=True, min_length=1, max_length=100, pattern=_NAME)]
    event_value: Annotated[str, _text(100), BeforeValidator(_as_text)] = ""
    started_time: Time | None = None
    ended_time: Time | None = None

    def model_post_init(self, context: Any, /) -> None:
        if self.started_time is None and self.ended_time is None:
            raise ValueError("started_time or ended_time is missing")


class SystemPayload(_Message):
    """``system``: any of the figures of the protocol; those that are not known are kept out."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    time: Time
    cpu_utilization: Finite | None = None
    system_memory_utilization: Finite | None = None
    process_cpu_utilization: Finite | None = None
    process_memory_in_use: Finite | None = None
    process_memory_available: Finite | None = None
    process_cpu_threads_in_use: Finite | None = None
    disk_utilization: Finite | None = None
    network_sent: Finite | None = None
    network_received: Finite | None = None
    __pydantic_extra__: dict[Annotated[str, StringConstraints(max_length=1000)], Any] = Field(init=False)

    def figures(self) -> dict[str, float]:
        """Return the figures that the message has, by name."""
        known = self.model_dump(exclude={"instance", "seq", "time"}, exclude_none=True, include=_SYSTEM_FIELDS)
        for name, value in self.__pydantic_extra__.items():
            if _is_gpu_figure(name) and isinstance(value, int | float) and not isinstance(value, bool):
                number = float(value) if abs(value) < 1e300 else math.inf
                if math.isfinite(number):
                    known[name] = number
        return cast("dict[str, float]", known)


_SYSTEM_FIELDS = set(SystemPayload.model_fields) - {"instance", "seq", "time"}
_GPU_FIGURES = ("utilization", "memory_allocated", "temperature", "power_usage")
_GPUS = 64


def _is_gpu_figure(name: str) -> bool:
    parts = name.split(".")
    return (
        len(parts) == 3
        and parts[0] == "gpu"
        and parts[1].isascii()
        and parts[1].isdigit()
        and len(parts[1]) <= 2
        and int(parts[1]) < _GPUS
        and parts[2] in _GPU_FIGURES
    )


class ModelPayload(_Message):
    """``model``: weights that the reporter has stored, or is about to."""

    round_index: RoundIndex
    kind: Literal["aggregated", "client"]
    key: Annotated[str, StringConstraints(strict=True, max_length=100)] = ""
    sha256: Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(strict=True, ge=0, le=_BIG)]
    metrics: Annotated[dict[Name, Value], Field(max_length=1000)] = Field(default_factory=dict)


class LogLineItem(TypedDict):
    """One line."""

    seq: NotRequired[Annotated[int, Field(strict=True, ge=0, le=_BIG)]]
    time: Time
    stream: Literal["stdout", "stderr", "agent"]
    line: Annotated[str, BeforeValidator(lambda line: line_clean(line) if isinstance(line, str) else line)]


class LogPayload(_Message):
    """``log``"""

    lines: Annotated[list[LogLineItem], Field(max_length=1000)]


class StatusPayload(BaseModel):
    """``edges/{id}/status`` and ``runs/{id}/0/status``: what an instance does. A repetition changes nothing."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    run_id: Annotated[int, Field(strict=True, ge=1, le=_BIG)]
    status: Literal["INITIALIZING", "TRAINING", "STOPPING", "FINISHED", "FAILED", "KILLED"]
    reason: Annotated[str, _text(2000)] = ""
    phase: Annotated[str, _text(20)] = ""
    progress: Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)] | None = None
    exit_code: Annotated[int, Field(strict=True, ge=-(2**31), le=_SMALL)] | None = None
    time: Time | None = None
    instance: Instance | None = None
    seq: Annotated[int, Field(strict=True, ge=0, le=_BIG)] | None = None


Payload = (
    PresencePayload
    | StatusPayload
    | MetricsPayload
    | RoundPayload
    | EventPayload
    | SystemPayload
    | ModelPayload
    | LogPayload
)

_ADAPTERS: dict[Kind, TypeAdapter[Any]] = {
    Kind.PRESENCE: TypeAdapter(PresencePayload),
    Kind.STATUS: TypeAdapter(StatusPayload),
    Kind.METRICS: TypeAdapter(MetricsPayload),
    Kind.ROUND: TypeAdapter(RoundPayload),
    Kind.EVENT: TypeAdapter(EventPayload),
    Kind.SYSTEM: TypeAdapter(SystemPayload),
    Kind.MODEL: TypeAdapter(ModelPayload),
    Kind.LOG: TypeAdapter(LogPayload),
}


def payload_parse(kind: Kind, data: bytes) -> Payload:
    """Read a message.

    Args:
        kind: what its topic says that it is.
        data: JSON, UTF-8.

    Raises:
        PayloadInvalid: too large, no JSON, or not as the protocol says.
    """
    if len(data) > MESSAGE_MAX_BYTES:
        raise PayloadInvalid(f"the message has {len(data)} bytes; at most {MESSAGE_MAX_BYTES} are allowed")
    try:
        return cast(Payload, _ADAPTERS[kind].validate_json(data))
    except ValidationError as error:
        raise PayloadInvalid(_reasons(error)) from None


def value_of(value: float | str) -> float:
    """Return a value as a float: the three strings of the protocol are the three floats that JSON cannot write."""
    return float(value)


def _reasons(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    texts = []
    for one in found[:_REASONS_SHOWN]:
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{str(part)[:60]}" for part in one["loc"])
        texts.append(f"{place.lstrip('.') or 'message'}: {one['msg'][:200]}")
    if len(found) > _REASONS_SHOWN:
        texts.append(f"and {len(found) - _REASONS_SHOWN} more")
    return "; ".join(texts)
