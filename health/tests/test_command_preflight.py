"""``manage.py preflight``. With a whole platform it is tried in ``tests/test_preflight.py``."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import call_command

from health.checks import CHECKS
from health.checks.interface import Check, Level, Outcome

ANSWERS = {
    "good": Outcome(Level.OK, "It is good.", facts=(("version", "7"),)),
    "odd": Outcome(Level.WARNING, "It is odd.", fix="Look at it."),
    "bad": Outcome(Level.FAILED, "It is away.", fix="Start it."),
    "unused": Outcome(Level.NEUTRAL, "It is not in use."),
}


@pytest.fixture(autouse=True)
def _four_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(CHECKS):
        monkeypatch.delitem(CHECKS, name)
    for name, outcome in ANSWERS.items():
        check = Check(name, name.title(), "?", lambda outcome=outcome: outcome)  # type: ignore[misc]
        monkeypatch.setitem(CHECKS, name, check)


def preflight(*arguments: str) -> tuple[int, str, str]:
    """Return exit code and output."""
    out, err = StringIO(), StringIO()
    try:
        call_command("preflight", *arguments, stdout=out, stderr=err)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


def test_a_failure_is_the_exit_code() -> None:
    code, said, _ = preflight()
    assert code == 1
    assert said.splitlines() == [
        "Good             ok       It is good.",
        "                          version: 7",
        "Odd              WARNING  It is odd.",
        "                          What to do: Look at it.",
        "Bad              FAILED   It is away.",
        "                          What to do: Start it.",
        "Unused           -        It is not in use.",
        "",
        "1 of 4 checks failed.",
    ]


def test_a_warning_is_none() -> None:
    code, said, _ = preflight("good", "odd", "unused")
    assert code == 0
    assert said.endswith("\nNo check failed.\n")
    assert "Bad" not in said


def test_an_unknown_check_is_refused() -> None:
    code, said, error = preflight("good", "nonsense")
    assert (code, said) == (2, "")
    assert error == "There is no check nonsense. There are good, odd, bad, unused.\n"
