"""Template tags of every page: icons, state badges, times, sizes, and links that keep the query string."""

import re
from datetime import datetime, timedelta
from typing import Any

from django import template
from django.db.models import Choices
from django.forms import BoundField, CheckboxInput, CheckboxSelectMultiple, RadioSelect, Select, SelectMultiple
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString

from runs.states import DeviceState, InstanceStatus, RunState, StageState

register = template.Library()

ICON_SPRITE = "vendor/tabler-icons-3.51.0/sprite.svg"
STATES: dict[str, type[Choices]] = {
    "run": RunState,
    "stage": StageState,
    "instance": InstanceStatus,
    "device": DeviceState,
}


@register.simple_tag
def icon_sprite() -> str:
    """URL of the sprite, for the scripts that draw icons."""
    return static(ICON_SPRITE)


@register.simple_tag
def icon(name: str, css: str = "", label: str = "") -> SafeString:
    """Draw an icon of ``deploy/vendor/icons.txt``.

    Parameters
    ----------
    name: the icon's name.
    css: more classes.
    label: what a screen reader says; without it the icon is decoration and hidden from it.
    """
    spoken = format_html('role="img" aria-label="{}"', label) if label else SafeString('aria-hidden="true"')
    return format_html(
        '<svg class="icon {}" {} width="24" height="24"><use href="{}#{}"/></svg>',
        css,
        spoken,
        static(ICON_SPRITE),
        name,
    )


@register.inclusion_tag("inc/badge.html")
def badge(state: Any, kind: str, id: Any = "", reason: str = "") -> dict[str, Any]:
    """Show a state with its label and colour.

    Parameters
    ----------
    state: a member or a value of the enumeration of ``kind``.
    kind: ``run``, ``stage``, ``instance`` or ``device``.
    id: with it, the badge follows the live updates of that object.
    reason: why it is so; shown on hover.
    """
    return {"state": STATES[kind](state), "kind": kind, "id": id, "reason": reason}


@register.inclusion_tag("inc/time.html")
def when(moment: datetime | None, style: str = "relative") -> dict[str, Any]:
    """Show a moment in the viewer's zone, exact on hover.

    Parameters
    ----------
    moment: None shows a dash.
    style: ``relative`` (3 min ago), ``since`` (for 3 min) or ``exact`` (date and time).
    """
    if moment is None:
        return {"moment": None}
    seconds = (timezone.now() - moment).total_seconds()
    text = {
        "relative": f"{span(seconds)} ago" if seconds >= 1 else "just now",
        "since": f"for {span(seconds)}",
        "exact": f"{moment.astimezone(timezone.get_current_timezone()):%Y-%m-%d %H:%M}",
    }[style]
    return {"moment": moment, "style": style, "text": text}


def span(seconds: float) -> str:
    """A length of time in its largest unit, as ``times.js`` writes it: ``40 s``, ``3 min``, ``2 h``, ``5 d``."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


@register.filter
def duration(value: float | timedelta | None) -> str:
    """Write seconds as ``0.4 s``, ``42 s``, ``2m 15s`` or ``1h 02m``; a dash for None."""
    if value is None:
        return "-"
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600:02d}h"


@register.filter
def until(start: datetime, end: datetime | None) -> timedelta:
    """The time from ``start`` to ``end``, or to now."""
    return (end or timezone.now()) - start


@register.filter
def figure(value: Any) -> str:
    """Write a measured value with four significant digits; what is no number (NaN travels as text) stays as it is."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:.4g}"
    return "-" if value is None else str(value)


@register.filter(name="bytes")
def bytes_(value: float | None) -> str:
    """Write a number of bytes as ``512 B``, ``1.4 MiB``, ``16 GiB``; a dash for None."""
    if value is None:
        return "-"
    size = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"


@register.filter
def short(digest: str) -> str:
    """The first twelve digits of a digest."""
    return digest.removeprefix("sha256:")[:12]


@register.filter
def code_spans(text: str) -> SafeString:
    """Write what stands between backticks as code; everything is escaped."""
    return SafeString(re.sub(r"`([^`]+)`", r"<code>\1</code>", conditional_escape(text)))


@register.inclusion_tag("inc/nav_item.html", takes_context=True)
def nav_item(context: dict[str, Any], url_name: str, label: str, icon_name: str, prefixes: str) -> dict[str, Any]:
    """One entry of the main navigation, marked as current on pages whose URL name begins with one of ``prefixes``."""
    match = getattr(context.get("request"), "resolver_match", None)
    current = bool(match and match.url_name and match.url_name.startswith(tuple(prefixes.split())))
    return {"url_name": url_name, "label": label, "icon_name": icon_name, "current": current}


@register.inclusion_tag("inc/sort_header.html", takes_context=True)
def sort_header(context: dict[str, Any], field: str, label: str, css: str = "") -> dict[str, Any]:
    """A column heading that sorts the list by ``field``, a key of the view's ``sorts``; the rest of the URL stays."""
    listing = context["listing"]
    descending = listing.sort == f"-{field}"
    return {
        "request": context["request"],
        "label": label,
        "css": css,
        "aria_sort": "descending" if descending else "ascending" if listing.sort == field else "none",
        "next_sort": field if descending or listing.sort != field else f"-{field}",
    }


@register.filter
def control(field: BoundField) -> SafeString:
    """A form field's widget with the class that its kind needs."""
    widget = field.field.widget
    match widget:
        case CheckboxSelectMultiple() | RadioSelect():
            css = "form-check-input"
        case CheckboxInput():
            css = "form-check-input"
        case Select() | SelectMultiple():
            css = "form-select"
        case _:
            css = "form-control"
    classes = " ".join(filter(None, (css, widget.attrs.get("class"), "is-invalid" if field.errors else "")))
    return field.as_widget(attrs={"class": classes})


@register.filter
def is_checkbox(field: BoundField) -> bool:
    """Whether the field is a single tick box, whose label stands after it."""
    return isinstance(field.field.widget, CheckboxInput)
