"""The check of the clocks. With PostgreSQL it is tried in ``test_check_database.py``."""

import pytest

from health.checks import clock
from health.checks.interface import Level


@pytest.mark.django_db
def test_sqlite_has_the_clock_of_this_machine() -> None:
    assert clock.ask().level is Level.OK


@pytest.mark.parametrize(
    ("skew", "uncertainty", "level"),
    [
        (0.9, 0.0, Level.OK),
        (-0.9, 0.0, Level.OK),
        (1.4, 0.5, Level.OK),
        (1.1, 0.0, Level.WARNING),
        (-4.0, 0.0, Level.WARNING),
        (5.1, 0.0, Level.FAILED),
        (-3600.0, 0.2, Level.FAILED),
    ],
)
def test_a_difference_counts_beyond_what_the_measurement_may_be_off(
    skew: float, uncertainty: float, level: Level
) -> None:
    assert clock.judge(skew, uncertainty).level is level


def test_it_says_how_far_they_are_apart() -> None:
    outcome = clock.judge(-7.26, 0.01)
    assert outcome.text == "This machine and the database differ by 7.3 s."
    assert "chrony" in outcome.fix
