"""Reads what arrives on `edges/N/command`, without trusting it (docs/protocol.md, section 3)."""

import json
from dataclasses import dataclass, field
from typing import Any

from .fields import Fields, Invalid
from .plan import (
    LOG_LEVELS,
    RUN_ID_HIGH,
    Entry,
    ImageReference,
    Limits,
    S3Store,
    read_entry,
    read_image,
    read_limits,
    read_s3,
)

MAX_COMMAND_BYTES = 4 << 20


class BadCommand(Exception):
    """A message is no command that this agent can follow.

    Attributes:
        run_id: the run that it names, where that much could be read.
    """

    def __init__(self, sentence: str, run_id: int | None) -> None:
        super().__init__(sentence)
        self.run_id = run_id


@dataclass(frozen=True)
class PackageReference:
    """The package of a command; `url` is as the platform wrote it."""

    url: str
    sha256: str
    size: int


@dataclass(frozen=True)
class StartTrain:
    """Open a client instance. `raw` is the command as it came, to be read again after a restart."""

    run_id: int
    command_id: str
    token: str = field(repr=False)
    package: PackageReference | None
    image: ImageReference | None
    config: dict[str, Any] = field(repr=False)
    entry: Entry = field(repr=False)
    private_path: str
    limits: Limits
    s3: S3Store | None = field(repr=False)
    log_level: str
    raw: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class StopTrain:
    """End the instance of a run."""

    run_id: int
    reason: str


def read_command(payload: bytes, edge_id: int) -> StartTrain | StopTrain:
    """Read one message.

    Parameters:
        payload: as it came from the broker.
        edge_id: our own; a command for another device is refused.

    Raises:
        BadCommand: it cannot be followed; the message says why.
    """
    if len(payload) > MAX_COMMAND_BYTES:
        raise BadCommand(f"a command of {len(payload)} bytes is too large", None)
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        raise BadCommand("a command is not valid JSON", None) from None
    return check_command(value, edge_id)


def check_command(value: Any, edge_id: int) -> StartTrain | StopTrain:
    """As `read_command`, for a command that was parsed already."""
    run_id: int | None = None
    try:
        fields = Fields(value, "command")
        run_id = fields.integer("run_id", low=1, high=RUN_ID_HIGH)
        kind = fields.choice("type", ("start_train", "stop_train"))
        if kind == "stop_train":
            return StopTrain(run_id, fields.text("reason", most=1_000, default=""))
        return _start_train(fields, value, run_id, edge_id)
    except Invalid as error:
        raise BadCommand(f"the command cannot be followed: {error}", run_id) from None


def _start_train(fields: Fields, raw: dict[str, Any], run_id: int, edge_id: int) -> StartTrain:
    if fields.integer("edge_id", low=0, high=2**63 - 1) != edge_id:
        raise Invalid(f"it is for another device than {edge_id}")
    package = None
    if "package" in fields:
        found = fields.object("package")
        package = PackageReference(
            found.text("url", most=2_000, pattern=r"[!-~]+"),
            found.text("sha256", most=64, pattern=r"[0-9a-f]{64}"),
            found.integer("size", low=0, high=2**40, default=0),
        )
    image = None
    if "image" in fields:
        image = read_image(fields.object("image"))
    data = fields.object("data") if "data" in fields else None
    return StartTrain(
        run_id=run_id,
        command_id=fields.text("command_id", most=200, default=""),
        token=fields.text("token", most=1_000, pattern=r"[!-~]+"),
        package=package,
        image=image,
        config=fields.tree("config"),
        entry=read_entry(fields.object("entry")),
        private_path=data.text("private_path", most=4_000, default="") if data is not None else "",
        limits=read_limits(fields.object("limits")) if "limits" in fields else Limits(),
        s3=read_s3(fields.object("s3")) if "s3" in fields else None,
        log_level=fields.choice("log_level", LOG_LEVELS, default="INFO"),
        raw=raw,
    )
