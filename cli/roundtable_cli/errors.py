"""What can go wrong, and the exit code that says so."""

from __future__ import annotations

import enum


class Exit(enum.IntEnum):
    """Exit codes; 2 is a wrong command line, as click has it."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    NOT_ALLOWED = 3
    NOT_FOUND = 4
    REFUSED = 5
    UNREACHABLE = 6
    RUN_FAILED = 7
    RUN_STOPPED = 8


class CliError(Exception):
    """A sentence for standard error, and the exit code."""

    def __init__(self, message: str, exit_code: Exit) -> None:
        super().__init__(message)
        self.exit_code = exit_code
