"""What clients and aggregator say to each other over MQTT (docs/protocol.md, section 5).

Weights never travel here: a message carries the key of an object in the platform's model store.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

PAYLOAD_LIMIT = 65_536  # bytes
TEXT_LIMIT = 500  # characters of a reason

M = TypeVar("M")


class MessageError(ValueError):
    """A payload that is not one of these messages; the message says why."""


@dataclass(frozen=True)
class Online:
    """A client is ready, and what its data looks like. Repeated until the first answer."""

    instance: str
    features: int
    classes: int
    samples: int


@dataclass(frozen=True)
class Result:
    """A client's weights of a round are in the store. Repeated until the aggregator's next message."""

    instance: str
    round: int
    key: str
    sha256: str
    samples: int
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """A client gives up."""

    instance: str
    reason: str


@dataclass(frozen=True)
class Lost:
    """A client's last will: its connection broke and did not come back in time."""

    instance: str


@dataclass(frozen=True)
class Done:
    """A client has heard `finish` and ends."""

    instance: str


@dataclass(frozen=True)
class Train:
    """Train from these weights. Repeated until the result; a repetition changes nothing."""

    round: int
    key: str
    sha256: str
    epoch_offset: int


@dataclass(frozen=True)
class Wait:
    """Nothing to do: not chosen for the round, or its result is in. Also shows that the aggregator is there."""

    round: int


@dataclass(frozen=True)
class Finish:
    """The run is over; `reason` says why when it is over early. Repeated until `done`."""

    reason: str = ""


UpMessage = Online | Result | Failed | Lost | Done
DownMessage = Train | Wait | Finish
UP: dict[str, type[UpMessage]] = {"online": Online, "result": Result, "failed": Failed, "lost": Lost, "done": Done}
DOWN: dict[str, type[DownMessage]] = {"train": Train, "wait": Wait, "finish": Finish}
_NAMES = {kind: name for name, kind in [*UP.items(), *DOWN.items()]}


def encode(message: UpMessage | DownMessage) -> bytes:
    """The JSON payload of a message."""
    return json.dumps({"type": _NAMES[type(message)], **asdict(message)}, allow_nan=False).encode()


def decode_up(payload: bytes) -> UpMessage:
    """Reads what a client said. Raises MessageError for anything else."""
    return _decode(payload, UP)


def decode_down(payload: bytes) -> DownMessage:
    """Reads what the aggregator said. Raises MessageError for anything else."""
    return _decode(payload, DOWN)


def _decode(payload: bytes, kinds: dict[str, type[M]]) -> M:
    if len(payload) > PAYLOAD_LIMIT:
        raise MessageError(f"{len(payload)} bytes are too many")
    try:
        content = json.loads(payload)
    except (ValueError, RecursionError):
        raise MessageError("not JSON") from None
    if not isinstance(content, dict):
        raise MessageError("not an object")
    kind = kinds.get(str(content.get("type")))
    if kind is None:
        raise MessageError(f"unknown type {content.get('type')!r:.40}")
    values = {}
    for name, field_type in kind.__annotations__.items():
        if name in content:
            values[name] = _check(name, content[name], field_type)
    try:
        return kind(**values)
    except TypeError:
        raise MessageError(f"a field of {content['type']} is missing") from None


def _check(name: str, value: Any, field_type: str) -> Any:
    """The value if it is of the field's type and within bounds. Counts are 0 to 2^53."""
    if field_type == "int" and type(value) is int and 0 <= value <= 2**53:
        return value
    if field_type == "str" and isinstance(value, str):
        return value[:TEXT_LIMIT]
    if field_type == "dict[str, float]" and isinstance(value, dict):
        numbers = {key: value[key] for key in list(value)[:100] if type(value[key]) in (int, float)}
        return {key[:100]: float(number) for key, number in numbers.items() if math.isfinite(number)}
    raise MessageError(f"{name} must be of type {field_type}")
