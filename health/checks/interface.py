"""What a check is: one question about the installation, and what its answer looks like."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

logger = logging.getLogger(__name__)


class Level(enum.StrEnum):
    """How an answer is meant. Its label and colour are those of the states on every page."""

    OK = "ok"
    NEUTRAL = "neutral"
    WARNING = "warning"
    FAILED = "failed"

    @property
    def label(self) -> str:
        return {"ok": "Healthy", "neutral": "Not in use", "warning": "Look at this", "failed": "Failed"}[self]

    @property
    def colour(self) -> str:
        return {"ok": "green", "neutral": "grey", "warning": "amber", "failed": "red"}[self]


@dataclass(frozen=True)
class Outcome:
    """The answer to a check.

    Attributes:
        level: how it is meant.
        text: what was found, for every user of the platform: no addresses, paths, names or error messages.
        fix: what to do where something is wrong, for those who run the installation.
        facts: names and values for those who run the installation.
    """

    level: Level
    text: str
    fix: str = ""
    facts: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.level in (Level.WARNING, Level.FAILED) and not self.fix:
            raise ValueError(f"This answer does not say what to do: {self.text}")


@dataclass(frozen=True)
class Check:
    """One question about the installation.

    Attributes:
        name: its name in addresses and on the command line.
        title: what is looked at.
        question: what is asked.
        ask: looks, and returns what it found. What it raises is shown as a failure of the check.
        seconds: after this time there is no answer.
        in_worker: it has to be asked where packages are built, which may be another machine than that of the pages.
    """

    name: str
    title: str
    question: str
    ask: Callable[[], Outcome]
    seconds: float = 5.0
    in_worker: bool = False


def milliseconds(seconds: float) -> str:
    """A length of time with two significant digits: ``0.42 ms``, ``31 ms``, ``1200 ms``."""
    value = seconds * 1000
    return f"{value:.2g} ms" if value < 100 else f"{value:.0f} ms"


def outcome_of(check: Check) -> Outcome:
    """Make the check here and now; what it raises is a failure of the check."""
    try:
        return check.ask()
    except Exception as error:
        logger.exception("The check %s failed itself", check.name)
        return Outcome(
            Level.FAILED,
            "The check itself failed.",
            fix="Look at the log of the process that made it.",
            facts=(("error", f"{type(error).__name__}: {error}"),),
        )


def some(names: Sequence[str], shown: int = 5) -> str:
    """The first names, and how many there are beyond them."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
