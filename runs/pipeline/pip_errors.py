"""What pip wrote when it failed, as a sentence that names the requirement."""

from __future__ import annotations

import re
from collections.abc import Sequence

_MISSING = re.compile(r"ERROR: No matching distribution found for (?P<requirement>.+)")
_INVALID = re.compile(r"ERROR: Invalid requirement: (?P<requirement>.+?)(?: \(from line.*)?$")
_CONFLICT = re.compile(r"ERROR: Cannot install (?P<requirement>.+) because these package versions have conflicting")
_UNREACHABLE = re.compile(r"WARNING: Retrying \(Retry\(|Failed to establish a new connection|Temporary failure in name")
_ERROR = re.compile(r"(?:ERROR: |error: )(?P<message>.+)")


def pip_failure(lines: Sequence[str], code: int, what: str) -> str:
    """Say why pip failed, from what it wrote.

    Args:
        lines: its output.
        code: its exit code.
        what: how the sentence names where the requirements are from, such as ``the server package``.
    """
    text = "\n".join(lines)
    fix = f"Correct requirements.txt of {what} and upload it again."
    if match := _INVALID.search(text):
        return f"The requirement {match['requirement']} is not valid. {fix}"
    if match := _CONFLICT.search(text):
        return f"The requirements {match['requirement']} contradict each other. {fix}"
    if match := _MISSING.search(text):
        if _UNREACHABLE.search(text):
            return (
                f"The package index cannot be reached, so that {match['requirement']} could not be looked up. See the "
                "log of this stage, then try it again."
            )
        return f"The requirement {match['requirement']} cannot be found. {fix}"
    messages = _ERROR.findall(text)
    said = f": {messages[-1]}" if messages else "."
    return f"pip could not install the requirements of {what} (exit code {code}){said}"
