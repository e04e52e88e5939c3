"""Making checks beside each other, each within its time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from django.test import override_settings

from health import runner
from health.checks.interface import Check, Level, Outcome
from health.runner import check_finding, checks_start

GOOD = Outcome(Level.OK, "Good.")


@pytest.fixture
def hanging() -> Iterator[threading.Event]:
    """What a check that hangs waits for."""
    event = threading.Event()
    yield event
    event.set()


def check_of(ask: Callable[[], Outcome], *, name: str = "one", seconds: float = 5.0, in_worker: bool = False) -> Check:
    return Check(name=name, title=name, question="?", ask=ask, seconds=seconds, in_worker=in_worker)


def test_checks_are_made_beside_each_other() -> None:
    together = threading.Barrier(4, timeout=5)

    def ask() -> Outcome:
        together.wait()  # breaks unless all four are there
        return GOOD

    checks = [check_of(ask, name=str(number)) for number in range(4)]
    checks_start(checks)
    assert [check_finding(check).outcome for check in checks] == [GOOD] * 4


def test_one_that_hangs_is_given_up_in_time_and_not_made_twice(hanging: threading.Event) -> None:
    calls: list[int] = []

    def ask() -> Outcome:
        calls.append(1)
        hanging.wait()
        return GOOD

    check = check_of(ask, seconds=0.2)
    began = time.monotonic()
    first, second = check_finding(check), check_finding(check)
    assert time.monotonic() - began < 1.0
    assert (first.outcome.level, first.outcome.text) == (Level.FAILED, "There is no answer after 0 s.")
    assert second.outcome.level is Level.FAILED
    assert calls == [1]
    hanging.set()
    assert runner._flight(check, False)._done.wait(2)
    assert check_finding(check).outcome == GOOD


def test_an_answer_is_shared_for_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def ask() -> Outcome:
        calls.append(1)
        return GOOD

    check = check_of(ask)
    check_finding(check)
    check_finding(check)
    assert calls == [1]
    monkeypatch.setattr(runner, "FRESH_SECONDS", 0.0)
    check_finding(check)
    assert calls == [1, 1]


def test_one_that_breaks_is_a_failure() -> None:
    def ask() -> Outcome:
        raise RuntimeError("a fault of its own")

    outcome = check_finding(check_of(ask)).outcome
    assert (outcome.level, outcome.text) == (Level.FAILED, "The check itself failed.")
    assert outcome.facts == (("error", "RuntimeError: a fault of its own"),)


def test_what_a_worker_makes_is_made_here_when_that_is_wanted() -> None:
    check = check_of(lambda: GOOD, in_worker=True)
    with override_settings(REDIS_URL="redis://127.0.0.1:1/0"):
        assert check_finding(check).outcome.level is not Level.OK
        assert check_finding(check, here=True).outcome == GOOD
