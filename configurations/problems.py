"""What is wrong with a package or a configuration, said so that a person can put it right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        file: where it stands: a member of the archive, or a row of the form such as ``model_config.modelName``.
        line: line in that file, from 1; None where there is none.
        message: what is wrong, as a sentence.
        fix: what to do, as a sentence.
    """

    file: str
    line: int | None
    message: str
    fix: str

    def __str__(self) -> str:
        place = f"{self.file}, line {self.line}" if self.line else self.file
        return f"{place}: {self.message} {self.fix}"

    def as_dict(self) -> dict[str, str | int | None]:
        """Return the problem as JSON values, for the upload's answer and for manifests."""
        return asdict(self)


class Refused(Exception):
    """Something was not accepted. ``problems`` says everything that was found, not just the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in problems))

    @property
    def message(self) -> str:
        """The problems as one text, one a line."""
        return str(self)
