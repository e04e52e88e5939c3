from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.template import Context, Template

from mlops_site.templatetags import ui

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def rendered(source: str, **context: object) -> str:
    return Template("{% load ui %}" + source).render(Context(context)).strip()


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1500, "1.46 KiB"),
        (150 * 1024, "150 KiB"),
        (1.4 * 1024**2, "1.4 MiB"),
        (16 * 1024**3, "16 GiB"),
        (3 * 1024**4, "3 TiB"),
    ],
)
def test_bytes(size: float | None, text: str) -> None:
    assert ui.bytes_(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.42, "0.4 s"),
        (42, "42 s"),
        (59.7, "1m 00s"),
        (135, "2m 15s"),
        (3720, "1h 02m"),
        (90000, "1d 01h"),
        (timedelta(minutes=2, seconds=15), "2m 15s"),
    ],
)
def test_duration(seconds: float | timedelta | None, text: str) -> None:
    assert ui.duration(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(0.931279, "0.9313"), (12, "12"), (None, "-"), ("NaN", "NaN")])
def test_figure(value: object, text: str) -> None:
    assert ui.figure(value) == text


@pytest.mark.parametrize(
    ("style", "age", "text"),
    [
        ("relative", 0, "just now"),
        ("relative", 40, "40 s ago"),
        ("relative", 180, "3 min ago"),
        ("since", 7300, "for 2 h"),
        ("exact", 86400, "2026-02-28 12:00"),
    ],
)
def test_a_time_is_written_for_machines_and_people(style: str, age: int, text: str) -> None:
    moment = NOW - timedelta(seconds=age)
    with time_machine.travel(NOW, tick=False):
        page = rendered(f'{{% when moment "{style}" %}}', moment=moment)
    assert f'datetime="{moment.isoformat()}"' in page
    assert f">{text}</time>" in page


def test_a_time_that_never_was_is_a_dash() -> None:
    assert rendered("{% when moment %}", moment=None) == '<span class="text-secondary">-</span>'


def test_a_badge_has_label_and_colour_of_its_kind() -> None:
    waiting = rendered('{% badge "IDLE" "instance" %}')
    idle = rendered('{% badge "IDLE" "device" 3 reason %}', reason="why &")
    assert '<span class="state-label">Waiting</span>' in waiting
    assert "data-live" not in waiting
    assert 'class="state state-green" data-live="device:3:state" title="why &amp;"' in idle
    assert '<span class="state-label">Idle</span>' in idle


def test_an_icon_is_hidden_from_screen_readers_unless_it_says_something() -> None:
    assert 'aria-hidden="true"' in rendered('{% icon "check" %}')
    assert 'role="img" aria-label="Done"' in rendered('{% icon "check" label="Done" %}')
    assert "#check" in rendered('{% icon "check" %}')
