"""What an agent found when it looked at its machine, as its device's page shows it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

# What is asked, by the agent's name of it: title, and what to do where the answer is no.
QUESTIONS = {
    "python": ("Python", "Install Python 3.11 or newer, and start the agent with it: `PYTHON=python3.12 run.sh`."),
    "venv": ("Environments", "Install Python's venv module (on Debian: `apt-get install python3-venv`)."),
    "disk": ("Disk", "Make room, or start the agent with its folder on a larger disk: `run.sh --home DIR`."),
    "server": (
        "Platform",
        "See that this machine reaches the address with a browser or curl, and that it trusts its certificate "
        "(`SSL_CERT_FILE` names an authority of your own).",
    ),
    "broker": (
        "MQTT broker",
        "See that no firewall keeps this machine from the broker's port. Where the credential is refused, renew it on "
        "the machine: `run.sh --rotate`.",
    ),
    "docker": (
        "Container engine",
        "Install an engine (on Debian: `apt-get install docker.io`), let the agent's user use it, and start the agent "
        "again.",
    ),
    "registry": (
        "Registry",
        "See that this machine's engine reaches the registry and trusts its certificate. The login comes from the "
        "platform: where it is refused, its administrator sees to it.",
    ),
}
_NOT_NEEDED = "Nothing has to be done: instances run as processes. To run them in containers: "
_UNKNOWN_FIX = "Run `run.sh --check` on the machine, and look at the agent's log."


class Finding(BaseModel):
    """The answer to one question; where it is not ``required``, a no is not a fault."""

    model_config = ConfigDict(extra="ignore")

    name: str
    ok: bool
    text: str = ""
    required: bool = True

    @property
    def title(self) -> str:
        return QUESTIONS[self.name][0] if self.name in QUESTIONS else self.name.capitalize()

    @property
    def label(self) -> str:
        return "Good" if self.ok else "Failed" if self.required else "Not there"

    @property
    def colour(self) -> str:
        return "green" if self.ok else "red" if self.required else "grey"

    @property
    def fix(self) -> str:
        """What to do where the answer is no."""
        if self.ok:
            return ""
        if self.name not in QUESTIONS:
            return _UNKNOWN_FIX
        fix = QUESTIONS[self.name][1]
        return fix if self.required else f"{_NOT_NEEDED}{fix[0].lower()}{fix[1:]}"


class SelfCheck(BaseModel):
    """All answers, and when they were found."""

    model_config = ConfigDict(extra="ignore")

    # Seconds since the epoch; the bounds are those of `datetime`.
    seconds: Annotated[float, Field(ge=0, lt=253_402_300_800, allow_inf_nan=False)] | None = Field(None, alias="time")
    findings: list[Finding] = Field(alias="items", min_length=1)

    @property
    def time(self) -> datetime | None:
        return None if self.seconds is None else datetime.fromtimestamp(self.seconds, UTC)

    @property
    def failed(self) -> int:
        """How many of the answers are faults."""
        return sum(not finding.ok and finding.required for finding in self.findings)


def self_check_read(check_result: Any) -> SelfCheck | None:
    """Return a self-check (``{"ok", "time", "items": [...]}``), or None for what has another form."""
    try:
        return SelfCheck.model_validate(check_result)
    except ValidationError:
        return None
